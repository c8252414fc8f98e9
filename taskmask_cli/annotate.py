"""taskmask annotate: a trained model writes new columns into a dataset."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Sequence
from typing import Any

from taskmask.errors import ConfigError, visible
from taskmask_cli.options import FROM_HELP, Parser, add_user_dir, is_first

DESCRIPTION = """Lets a trained model label a dataset: its answers become columns, for other tasks and maskers to read.
A classifier gives label, confidence, log_odds, probabilities, logits, probability:CLASS and log_odds:CLASS per row; a
tagger gives label, confidence, log_odds, probability:TAG, log_odds:TAG and logit:TAG per token. All numbers are kept in
32 bits. A probability p close to 1 is rounded to 1; its log_odds, log(p / (1 - p)), keep their order.

A model of spans gives spans (1 at the tokens of the likeliest, then 2 ...) and chance; meta_masking gives policy and
log_odds.

With --task word_importance a classifier says how much each token of labelled texts matters to it: important, score
(S(w): the lower, the more it matters, so nothing that --masker scored can take) and use (used, or why not).
Of labels that are to be learned from, keep those that the model is sure of (--confident), as many of each class
(--balance). Both go by the log-odds; labels that are equally sure are drawn at random. In train no text keeps a label
that stands in valid or test of the model's own data, or of --leave-out.

The same command goes on where a killed one stopped. Several processes (torchrun) share the rows and write the same.
Any setting of the run can be changed with --section.field VALUE, such as --train.max_tokens."""

EPILOG = """examples:
  taskmask annotate --data reviews-bin --from runs/sst2 --column sentiment=label sentiment_p=probabilities
  taskmask annotate --data reviews-bin --from runs/tagger --split train --column score=probability:important
  torchrun --nproc-per-node 2 -m -- taskmask_cli.main annotate --data reviews-bin --from runs/sst2 --column s=label"""


def main(argv: Sequence[str] | None = None) -> int:
    """Annotates and prints what was written."""
    options, overrides = add_options(Parser("taskmask annotate", DESCRIPTION, EPILOG)).parse_settings(argv)
    columns = columns_of(options.column)

    from taskmask.data.dataset import Dataset
    from taskmask.inference.annotate import annotate
    from taskmask.inference.label_selection import Selection, shares
    from taskmask.training.monitor.run_log import duration

    splits = list(dict.fromkeys(options.split)) or list(Dataset.open(options.data).splits)
    learned = ["train"]
    if options.to_tsv and (options.split or "train" not in splits):
        learned = splits
    keep = Selection(
        above=options.confident,
        balanced=options.balance,
        leave_out=tuple(options.leave_out),
        learned=tuple(learned),
        of_rows=bool(options.to_tsv),
    )
    bars: list[Any] = []

    def begin(total: int, done: int) -> Callable[[int], Any]:
        from tqdm import tqdm

        shown = is_first() and sys.stderr.isatty()
        bars.append(tqdm(total=total, initial=done, unit="token", unit_scale=True, disable=not shown, leave=False))
        return bars[0].update

    named = {"overwrite": options.overwrite, "keep": keep, "to_tsv": options.to_tsv, "begin": begin}
    done = annotate(options.source, options.data, columns, splits, overrides, **named)
    for bar in bars:
        bar.close()
    if is_first():
        dataset, notes = Dataset.open(options.data), list(done.notes)
        notes += [shares(dataset, split, name) for name in columns if name in dataset.labels for split in splits]
        rate = f"{done.computed_tokens / max(done.seconds, 1e-9):,.0f} tokens a second"
        figures = f"{done.rows:,} rows, {done.tokens:,} tokens, {duration(done.seconds)} ({rate})"
        names = ", ".join(f"{name} ({what})" for name, what in done.columns.items())
        shown = [note if note.startswith("warning: ") else f"note: {note}" for note in notes]
        lines = [f"{options.data}: {names}", figures, *shown]
        print(visible("\n".join([*lines, f"next: taskmask list --data {shlex.quote(options.data)}"])))
    return 0


def add_options(parser: Parser) -> Parser:
    """Adds the options of the command, and returns the parser."""
    parser.add_argument("--data", required=True, metavar="DIR", help="dataset to write into")
    parser.add_argument("--from", dest="source", required=True, metavar="RUN", help=FROM_HELP)
    parser.add_argument(
        "--column",
        nargs="+",
        required=True,
        metavar="NAME[=WHAT]",
        help="new columns, and what to write into them [label]",
    )
    parser.add_argument("--split", nargs="+", default=[], help="splits to annotate [all]")
    parser.add_argument("--overwrite", action="store_true", help="replace columns of these names")
    parser.add_argument(
        "--confident", type=float, default=0.0, metavar="P", help="keep labels of at least this confidence"
    )
    parser.add_argument(
        "--balance", action="store_true", help="keep as many labels of each class, the most confident ones"
    )
    parser.add_argument(
        "--leave-out",
        nargs="+",
        default=[],
        metavar="DIR",
        help="in train keep no label of a text in valid or test of these datasets, nor of the model's own",
    )
    parser.add_argument(
        "--to-tsv",
        default="",
        metavar="FILE",
        help="write label and text of the rows that keep their label, too; of train, or of --split",
    )
    add_user_dir(parser)
    return parser


def columns_of(words: Sequence[str]) -> dict[str, str]:
    """Returns {name of a new column: what to write into it} of words such as `sentiment=label`; "" for the default."""
    columns = {}
    for word in words:
        name, _, what = word.partition("=")
        if not name or name in columns:
            expected = "NAME or NAME=WHAT, such as sentiment=label, each name once"
            raise ConfigError(f"is {word!r}", where="--column", expected=expected)
        columns[name] = what
    return columns
