"""taskmask inspect: what maskers mask, on real rows."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from collections.abc import Sequence

from taskmask import config
from taskmask.config import Assignment, Problems
from taskmask.config.settings import DataSettings
from taskmask.errors import ConfigError, visible
from taskmask.system.json_output import to_json
from taskmask_cli.options import DATA_HELP, FROM_HELP, Parser, add_user_dir, whole

DESCRIPTION = """Shows what maskers do: rows with what each policy masks, and figures over a sample of the corpus: how
much it masks, which words, where, in what spans, and how far policies overlap. A policy is a name with options:
"span p=0.3". With a run, its model is asked for what is masked: what is hard for it, what is trivial.
Rows are cut as --data.length and --data.blocks say."""

EPILOG = """examples:
  taskmask inspect --data data-bin --masker uniform --masker "span p=0.4" --html masks.html
  taskmask inspect --data data-bin --from runs/first --masker whole_word --rows 8
  taskmask inspect --data data-bin --masker span --text "The quick brown fox jumps over the lazy dog."
  taskmask inspect --data data-bin --user-dir my_masker.py --masker "long_words power=2" --json"""


def main(argv: Sequence[str] | None = None) -> int:
    """Inspects, prints, and writes a page where it is asked for."""
    parser = Parser("taskmask inspect", DESCRIPTION, EPILOG)
    parser.add_argument("--data", default="", metavar="DIR", help=DATA_HELP)
    parser.add_argument(
        "--from", dest="source", default="", metavar="RUN", help=FROM_HELP + " to ask for what is masked"
    )
    parser.add_argument(
        "--masker", action="append", default=[], metavar="POLICY",
        help='masker with its options, "span p=0.3"; may be repeated [the run\'s, else uniform, whole_word, span]',
    )  # fmt: skip
    parser.add_argument("--rows", type=whole(), default=4, help="rows to show [4]")
    parser.add_argument("--text", action="append", default=[], help="a text to show instead of rows; may be repeated")
    parser.add_argument("--split", default="", help="split of the dataset [train; with a run, valid]")
    parser.add_argument("--sample", type=whole(), default=1000, help="rows to count on, spread over the split [1000]")
    parser.add_argument("--draws", type=whole(), default=20, help="how often each row is masked [20]")
    parser.add_argument("--seed", type=whole(), default=1, help="seed of the masks [1]")
    parser.add_argument("--html", default="", metavar="FILE", help="write a page with pictures")
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    add_user_dir(parser)
    options, rest = parser.parse_settings(argv)
    rows_of = data_settings(rest)

    from tqdm import tqdm

    from taskmask.analysis.inspect.inspection import inspect
    from taskmask.system.files import resolve_output, write_text

    page = resolve_output(options.html, "--html") if options.html else None
    bar = tqdm(unit="row", disable=options.json or not sys.stderr.isatty(), leave=False)
    with bar, contextlib.redirect_stdout(sys.stderr):  # what a plug-in prints is none of our output
        seen = inspect(
            options.data,
            options.masker,
            source=options.source,
            split=options.split,
            texts=options.text,
            rows=options.rows,
            sample=options.sample,
            draws=options.draws,
            seed=options.seed,
            rows_of=rows_of,
            advance=bar.update,
        )
    if page:
        write_text(page, seen.page())
    if options.json:
        print(to_json(seen.to_dict()))
        return 0
    colour = sys.stdout.isatty() and os.environ.get("TERM") != "dumb" and not os.environ.get("NO_COLOR")
    lines = seen.lines(colour, shutil.get_terminal_size((100, 24)).columns)
    print("\n".join(lines))
    if page:
        print(visible(f"\nthe page: {options.html}"))
    else:
        print("\nnext: the same with pictures: --html masks.html")
    return 0


def data_settings(rest: Sequence[Assignment]) -> DataSettings | None:
    """Returns how rows are cut, where `--data.length` or `--data.blocks` say it.

    Raises:
        ConfigError: another setting is given, or a value does not fit.
    """
    values = {}
    for given in rest:
        section, _, field = given.key.partition(".")
        if section != "data" or field not in ("length", "blocks"):
            expected = '--data.length or --data.blocks; options of a masker go with its name: "span p=0.3"'
            raise ConfigError(f"unknown option {given.source}", where="taskmask inspect", expected=expected)
        values[field] = given
    problems = Problems()
    made = config.build(DataSettings, values, "data", problems)
    problems.raise_any()
    return made if values else None
