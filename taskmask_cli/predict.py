"""taskmask predict: what a trained model says of a text."""

from __future__ import annotations

import io
import itertools
import json
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from taskmask.errors import ConfigError, DataError, visible
from taskmask_cli.options import FROM_HELP, Parser, add_user_dir, load_user_dirs

if TYPE_CHECKING:
    from taskmask.training.pretrained import Pretrained

DESCRIPTION = """Fills every <mask> of each text with the pieces that the model finds likeliest. Texts come from the
command line, or from standard input: a text a line, or JSON objects with a key "text" (--jsonl)."""

EPILOG = """examples:
  taskmask predict --from runs/first "Paris is the <mask> of France." "It was a <mask> film."
  cat texts.txt | taskmask predict --from runs/first --top 3
  cat texts.jsonl | taskmask predict --from runs/first --jsonl > answers.jsonl"""


BATCH = 32  # texts that are predicted, and printed, together


def main(argv: Sequence[str] | None = None) -> int:
    """Predicts and prints, text by text."""
    parser = Parser("taskmask predict", DESCRIPTION, EPILOG)
    parser.add_argument("--from", dest="source", required=True, metavar="RUN", help=FROM_HELP)
    parser.add_argument("--top", type=int, default=5, help="answers for each <mask> [5]")
    parser.add_argument("--jsonl", action="store_true", help="standard input holds JSON objects; answers are added")
    parser.add_argument("--json", action="store_true", help="print one JSON object a text and nothing else")
    parser.add_argument("texts", nargs="*", metavar="TEXT", help="texts; standard input where there are none")
    add_user_dir(parser)
    options = parser.parse_all(argv)
    load_user_dirs(options)
    if options.top < 1:
        raise ConfigError(f"is {options.top}", where="--top", expected="at least 1")

    from taskmask.training.pretrained import load

    model = load(options.source)
    given = [(f"text {number}", {"text": text}) for number, text in enumerate(options.texts, 1)]
    records = iter(given or read_records(options.jsonl))
    done = 0
    while group := list(itertools.islice(records, BATCH)):
        for record, answer in answers_to(model, group, options.top):
            if options.json or options.jsonl:
                print(visible(json.dumps({**record, **answer}, ensure_ascii=False)))
            else:
                print_answer(answer)
        done += len(group)
    if not done:
        raise DataError("there is no text", where="taskmask predict", fix="give texts, or pipe some in")
    return 0


Record = dict[str, Any]


def answers_to(model: Pretrained, group: list[tuple[str, Record]], top: int) -> Iterator[tuple[Record, Record]]:
    """Yields each record with its answer; one that has none comes to light in its turn, with its place."""
    try:
        answers = model.predict([check_text(record["text"]) for _, record in group], top)
        yield from zip([record for _, record in group], answers, strict=True)
    except DataError:
        for where, record in group:
            try:
                yield record, model.predict([check_text(record["text"])], top)[0]
            except DataError as error:
                raise DataError(error.what, where=where, expected=error.expected, fix=error.fix) from None


def read_records(jsonl: bool) -> Iterator[tuple[str, Record]]:
    """Yields the place and {"text": ...} of every line of standard input that is not blank."""
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(encoding="utf-8", errors="surrogateescape")  # `check_text` finds what is wrong
    for number, line in enumerate(sys.stdin, 1):
        where = f"standard input, line {number}"
        if not line.strip():
            continue
        if not jsonl:
            yield where, {"text": line.rstrip("\r\n")}
            continue
        try:
            record = json.loads(line)
            text = record["text"]
        except (ValueError, KeyError, TypeError, RecursionError):
            text = None
        if not isinstance(text, str):
            expected = 'a JSON object with a key "text"'
            raise DataError(f"is {line.strip()[:60]!r}", where=where, expected=expected)
        yield where, record


def check_text(text: str) -> str:
    """Returns the text; one that is no Unicode is an error."""
    try:
        return text.encode("utf-8", "surrogateescape").decode()  # on a command line in a locale without UTF-8, too
    except UnicodeError:
        raise DataError(f"{text[:60]!r} is not UTF-8", where="text", fix="convert it, with iconv for example") from None


def print_answer(answer: dict[str, Any]) -> None:
    """Prints the fills of each mask as a small table."""
    print(visible(answer["text"]))
    for number, mask in enumerate(answer["masks"], 1):
        if len(answer["masks"]) > 1:
            print(f"  <mask> {number}")
        for fill in mask["fills"]:
            print(visible(f"  {fill['probability']:7.2%}  {fill['token']}"))
    print(visible(f"  = {answer['filled']}\n"))
