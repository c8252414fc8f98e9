"""taskmask as a library: the names of the package, in a few lines each."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import taskmask
from taskmask import Settings, TaskmaskError, evaluate, load, register_masker, train
from taskmask.errors import DataError
from taskmask.registry import MASKERS
from taskmask.tokenizer.tokenizer import Vocabulary
from taskmask_cli import preprocess

NOUNS, VERBS, THINGS = ("function", "method"), ("returns", "takes"), ("list", "set", "tuple")
LINES = [f"the {a} {b} a {c}" for a in NOUNS for b in VERBS for c in THINGS]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("api")
    (folder / "a.txt").write_text("\n".join(LINES * 8))
    files = ["--train", str(folder / "a.txt"), "--valid", str(folder / "a.txt")]
    preprocess.main([*files, "--out", str(folder / "data"), "--vocab-size", "280", "--workers", "0"])
    return folder / "data"


def test_type_checkers_know_every_public_name():
    """Each name is imported for them, from where it is loaded: `taskmask.load` is no `Any`."""
    tree = ast.parse(Path(taskmask.__file__).read_text(encoding="utf-8"))
    (block,) = [node for node in tree.body if isinstance(node, ast.If)]
    assert {alias.asname: node.module for node in block.body for alias in node.names} == taskmask._HOMES


def test_one_text_is_no_list_of_its_letters(data):
    vocab = Vocabulary.load(data)
    assert len(vocab.encode(["the list"])) == 1
    for text in ("the list", b"the list"):
        with pytest.raises(DataError, match=r"texts: is one text, .*the list.*; expected a list of texts; .*encode"):
            vocab.encode(text)


def settings(data, folder, **sections):
    small = {
        "data": {"path": data, "length": 32, "blocks": "sentence"},
        "run": {"folder": folder, "threads": 1, "tensorboard": False},
        "model": {"name": "tiny", "layers": 1, "width": 32, "dropout": 0.0},
        "train": {"steps": 30, "max_tokens": 256},
        "optim": {"lr": 0.01},
    }
    return Settings.of(small, **sections)


def test_train_load_evaluate(data, tmp_path):
    summary = train(settings(data, tmp_path / "run", masker="whole_word"))
    assert summary.step == 30 and summary.metrics["loss"] < 5 and summary.folder == str(tmp_path / "run")
    model = load(summary.folder)
    (fills,) = model.fill_mask("the function <mask> a list", top=3)
    assert len(fills) == 3 and model.settings.masker.name == "whole_word"
    result = evaluate(summary.folder)
    assert result["loss"] == pytest.approx(summary.metrics["loss"]) and json.dumps(result)


def test_a_masker_of_ones_own(data, tmp_path):
    seen = []

    @register_masker("first_tokens")
    def first_tokens(batch, rng, *, ratio: float = 0.5, budget):
        """Masks the first tokens of a row."""
        seen.append(ratio)
        return batch.maskable & (np.cumsum(batch.maskable, axis=1) <= budget[:, None])

    masker = {"name": "first_tokens", "ratio": 0.25}
    summary = train(settings(data, tmp_path / "run", masker=masker, train={"steps": 2}))
    assert summary.step == 2 and set(seen) == {0.25}
    assert evaluate(summary.folder)["masker"]["name"] == "first_tokens"
    MASKERS._entries.pop("first_tokens")
    with pytest.raises(TaskmaskError, match="unknown masker 'first_tokens'"):
        evaluate(summary.folder)


def test_mistakes_are_taskmask_errors(data, tmp_path):
    for wrong in ({"masker": "spam"}, {"train": {"stepz": 3}}, {"modle": "tiny"}):
        with pytest.raises(TaskmaskError):
            settings(data, tmp_path, **wrong)
    with pytest.raises(TaskmaskError, match="no run folder"):
        train(Settings.of(data=data))


def test_the_package_shows_its_names_and_imports_nothing_heavy():
    assert set(taskmask.__all__) <= set(dir(taskmask))
    assert all(getattr(taskmask, name) for name in taskmask.__all__)
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        _ = taskmask.trian
    program = "import sys; from taskmask import Settings, register_masker; Settings.of(); print('torch' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", program], text=True) == "False\n"
