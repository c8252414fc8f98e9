"""taskmask variance: how much the choice of masks makes the gradient vary."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from taskmask.errors import ConfigError, visible
from taskmask.system.json_output import to_json
from taskmask_cli.options import DATA_HELP, Parser, add_user_dir, load_user_dirs, whole

if TYPE_CHECKING:
    from taskmask.analysis.variance.measure import Variance

DESCRIPTION = """Measures how much of the gradient's variance comes from the choice of masks, and how much from that of
rows: for a checkpoint and several policies, of an update and at the cost of a forward pass, by group of weights. The
gradient is that of the run's own loss, as the trainer takes it: divided by the targets of the whole batch. Also shows
how the correlation of two masks' gradients depends on their distance, and the bias against the first policy. Ratios are
consistent; variances are unbiased but for terms of one over the number of rows; all intervals are over rows."""

EPILOG = """examples:
  taskmask variance --from runs/first --masker uniform --masker "fully_explored masks=7"
  taskmask variance --from runs/first/checkpoints/step-100.pt --from runs/first --html variance.html
  taskmask variance --from runs/base --project 4096 --rows 64 --draws 8

memory: --draws times K gradients of one row for each loss, K being the most masks of an update of a policy (5 or more),
and five more vectors of the model's size: the checkpoint, weights, their gradient, a sum, places in sketches. Each is 4
bytes a weight: 33 of a model of 10 million weights are 1.3 GB. --project makes the gradients short"""


def main(argv: Sequence[str] | None = None) -> int:
    """Measures, prints, and writes a page where it is asked for."""
    parser = Parser("taskmask variance", DESCRIPTION, EPILOG)
    parser.add_argument(
        "--from", dest="sources", action="append", default=[], metavar="RUN",
        help="run folder or checkpoint of a task that masks tokens, measured by its own criterion; may be repeated",
    )  # fmt: skip
    parser.add_argument("--data", default="", metavar="DIR", help=DATA_HELP)
    parser.add_argument(
        "--masker", action="append", default=[], metavar="POLICY",
        help='masker with its options, "span p=0.3"; the first is what others are compared with '
        "[uniform, whole_word, span, fully_explored]",
    )  # fmt: skip
    parser.add_argument("--split", default="", help="split of the dataset [train]")
    parser.add_argument("--rows", type=whole(), default=32, help="rows to look at, spread over the split [32]")
    parser.add_argument("--draws", type=whole(), default=4, help="independent draws of the masks of each row [4]")
    parser.add_argument("--seed", type=whole(), default=1, help="seed of the masks [1]")
    parser.add_argument(
        "--project", type=whole(), default=0, metavar="N", help="length of sketches of gradients [none]"
    )
    parser.add_argument("--html", default="", metavar="FILE", help="write a page with pictures")
    parser.add_argument("--tensorboard", default="", metavar="DIR", help="write histograms over rows for TensorBoard")
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    add_user_dir(parser)
    options = parser.parse_all(argv)
    load_user_dirs(options)
    if not options.sources:
        raise ConfigError("no model is named", where="--from", fix="add --from RUN, of a task that masks tokens")

    from tqdm import tqdm

    from taskmask.analysis.variance.measure import variance
    from taskmask.analysis.variance.render import check_board
    from taskmask.system.files import resolve_output

    page = resolve_output(options.html, "--html") if options.html else None
    if options.tensorboard:
        check_board(options.tensorboard)
    seen = []
    for source in options.sources:
        with tqdm(total=options.rows, unit="row", disable=options.json or not sys.stderr.isatty(), leave=False) as bar:
            seen.append(
                variance(
                    source,
                    options.masker,
                    data=options.data,
                    split=options.split,
                    rows=options.rows,
                    draws=options.draws,
                    seed=options.seed,
                    project=options.project,
                    advance=bar.update,
                )
            )
    tell(seen, options, page)
    return 0


def tell(seen: Sequence[Variance], options: Any, page: Path | None) -> None:
    """Prints what was measured, and then writes what is asked for: a file that cannot be written costs nothing."""
    if options.json:
        print(to_json({"checkpoints": [one.to_dict() for one in seen]}))
    else:
        print(visible("\n\n".join("\n".join(one.lines()) for one in seen)))
    hints = []
    if page:
        from taskmask.analysis.variance.render import page_of
        from taskmask.system.files import write_text

        write_text(page, page_of(seen))
        hints.append(f"the page: {options.html}")
    if options.tensorboard:
        from taskmask.analysis.variance.render import write_board

        write_board(options.tensorboard, seen)
        hints.append(f"histograms: tensorboard --logdir {shlex.quote(options.tensorboard)}")
    if not options.json:
        print(visible("\n" + "\n".join(hints or ["next: the same with pictures: --html FILE"])))
