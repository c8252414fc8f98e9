"""taskmask evaluate: how good a checkpoint is, on any split, with any masker."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Sequence
from typing import Any

from taskmask_cli.options import FROM_HELP, Parser, add_user_dir, is_first

DESCRIPTION = """Prints loss, perplexity and accuracy of a checkpoint on a split of a dataset. The masks are frozen: two
checkpoints are asked the same. Any setting of the run can be changed with --section.field VALUE."""

EPILOG = """examples:
  taskmask evaluate --from runs/first
  taskmask evaluate --from runs/first --data other-bin --split test --masker span --masker.ratio 0.3 --json"""


def main(argv: Sequence[str] | None = None) -> int:
    """Evaluates and prints a small table, or one JSON object."""
    parser = Parser("taskmask evaluate", DESCRIPTION, EPILOG)
    parser.add_argument("--from", dest="source", required=True, metavar="RUN", help=FROM_HELP)
    parser.add_argument("--data", default="", metavar="DIR", help="dataset; where none is given, the run's")
    parser.add_argument("--split", default="valid", help="split of the dataset [valid]")
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    add_user_dir(parser)
    options, overrides = parser.parse_settings(argv)

    from tqdm import tqdm

    from taskmask.training.evaluate import evaluate

    with tqdm(unit="row", disable=options.json or not sys.stderr.isatty(), leave=False) as bar:
        result = evaluate(options.source, options.data, options.split, overrides, bar.update)
    if not is_first():
        return 0
    if options.json:
        no_numbers = {k: None for k, v in result.items() if isinstance(v, float) and not math.isfinite(v)}
        print(json.dumps({**result, **no_numbers}, allow_nan=False))
        return 0
    masker = result["masker"]
    lines: dict[str, Any] = {k: v for k, v in result.items() if k != "masker"}
    if masker:
        lines["masker"] = " ".join([masker["name"], *(f"{k}={v}" for k, v in masker.items() if k in ("ratio", "of"))])
    for name, value in lines.items():
        print(f"{name:<12} {f'{value:.4f}' if isinstance(value, float) else value}")
    return 0
