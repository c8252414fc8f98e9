"""taskmask evaluate: how good a checkpoint is, on any split, with any masker."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from taskmask.errors import visible
from taskmask.system.json_output import to_json
from taskmask_cli.options import DATA_HELP, FROM_HELP, Parser, add_user_dir, is_first

DESCRIPTION = """Prints the metrics of a checkpoint on a split of a dataset, with 95 % intervals over the examples. One
example is a document with all of its rows and masks, a labelled text, a tagged sentence, or a question with all of its
windows. Of a folder of several seeds: mean, deviation and an interval over seeds and examples. An interval is within
the limits of its metric, and shows at a limit how far the truth may be: after 200 right answers of 200, 0.98 to 1. A
metric is undefined if nothing is to be predicted. Masks are frozen: two checkpoints are asked the same. Any setting of
the run can be changed with --section.field VALUE."""

EPILOG = """examples:
  taskmask evaluate --from runs/first
  taskmask evaluate --from runs/first --data other-bin --split test --masker span --masker.ratio 0.3 --json
  taskmask evaluate --from runs/sst2 --split test"""


def main(argv: Sequence[str] | None = None) -> int:
    """Evaluates and prints a small table, or one JSON object."""
    parser = Parser("taskmask evaluate", DESCRIPTION, EPILOG)
    parser.add_argument("--from", dest="source", required=True, metavar="RUN", help=FROM_HELP)
    parser.add_argument("--data", default="", metavar="DIR", help=DATA_HELP)
    parser.add_argument("--split", default="valid", help="split of the dataset [valid]")
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    add_user_dir(parser)
    options, overrides = parser.parse_settings(argv)

    from tqdm import tqdm

    from taskmask.checkpoints.find import runs_in
    from taskmask.inference.multi_seed import evaluate_runs, how_made, table, unfinished
    from taskmask.system.console import say

    if is_first() and (names := unfinished(runs_in(options.source))):
        say(f"warning: not finished: {', '.join(names)}")
    with tqdm(unit="row", disable=options.json or not sys.stderr.isatty(), leave=False) as bar:
        reached = evaluate_runs(runs_in(options.source), options.data, options.split, overrides, bar.update)
    if not is_first():
        return 0
    for note in reached.notes:
        say(note)
    first = reached.results[0]
    about = {name: value for name, value in first.items() if name not in reached.metrics}
    if len(reached.results) > 1:
        about["checkpoint"] = [result["checkpoint"] for result in reached.results]
        about["step"] = [result["step"] for result in reached.results]
    if options.json:
        figures = reached.to_dict()["metrics"]
        means = {name: found["mean"] for name, found in figures.items()}
        ends = {name: [found["low"], found["high"]] for name, found in figures.items()}
        several = {"runs": figures} if len(reached.results) > 1 else {}
        rule = {"interval_rule": " ".join(made)} if (made := how_made([reached])) else {}
        print(to_json({**means, "intervals": ends, **rule, **several, **about}))
        return 0
    print(visible("\n".join([*table([reached]), ""])))
    masker = about.pop("masker")
    if masker:
        about["masker"] = " ".join([masker["name"], *(f"{k}={v}" for k, v in masker.items() if k in ("ratio", "of"))])
    for name, value in about.items():
        text = "\n             ".join(map(str, value)) if isinstance(value, list) else value
        print(visible(f"{name:<12} {text}"))
    return 0
