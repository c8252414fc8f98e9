"""JSON that every parser reads: what becomes null, and that the commands print nothing else."""

import ast
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from taskmask.system.json_output import json_types, to_json

VERBS = Path(__file__).parent.parent / "taskmask_cli"


def test_what_json_has_no_number_for_is_null():
    given = {"a": [1.5, math.nan, math.inf, -math.inf], "b": (np.float32("nan"), np.float64("inf"), np.int64(3))}
    assert json.loads(to_json(given), parse_constant=pytest.fail) == {
        "a": [1.5, None, None, None],
        "b": [None, None, 3],
    }


def test_arrays_are_lists_and_keys_are_texts():
    given = {
        1: np.array([[1.0, np.nan]]),
        "t": torch.tensor([2.0, math.inf]),
        "n": None,
        "yes": np.bool_(True),
        "s": "é",
    }
    assert json_types(given) == {"1": [[1.0, None]], "t": [2.0, None], "n": None, "yes": True, "s": "é"}
    assert to_json(given) == '{"1": [[1.0, null]], "t": [2.0, null], "n": null, "yes": true, "s": "é"}'


def test_every_verb_with_json_prints_with_the_one_writer():
    """No verb with `--json` writes JSON by itself: `json.dumps` prints NaN, or ends in a traceback."""
    having = [file for file in sorted(VERBS.glob("*.py")) if '"--json"' in file.read_text(encoding="utf-8")]
    assert {file.stem for file in having} >= {"check", "compare", "evaluate", "inspect", "predict", "variance"}
    for file in having:
        tree = ast.parse(file.read_text(encoding="utf-8"))
        names = {
            node.func.id for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
        }
        attributes = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
        assert "to_json" in names and not {"dumps", "dump"} & attributes, file.name
