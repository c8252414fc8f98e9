"""taskmask predict: what a trained model says of a text."""

from __future__ import annotations

import io
import itertools
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from taskmask.config import read_flags
from taskmask.errors import ConfigError, DataError, visible
from taskmask.system.json_input import from_json
from taskmask.system.json_output import to_json
from taskmask_cli.options import FROM_HELP, Parser, add_user_dir, load_user_dirs, whole

if TYPE_CHECKING:
    from taskmask.inference.loaded_model import Pretrained

DESCRIPTION = """Says what a trained model makes of texts: fills for every <mask>, classes, numbers, tags, answers to
questions, other texts. Texts come from the command line or, a text a line, from standard input. Where a task needs two
(a pair, a context and a question), a tab stands between them, or they are keys of JSON objects: --jsonl. Options of the
run's task can be changed, each with one value: --task.beams 4, where texts are generated."""

EPILOG = """examples:
  taskmask predict --from runs/first "Paris is the <mask> of France." "It was a <mask> film."
  taskmask predict --from runs/sst2 "A film to remember." "Two hours I will not get back."
  cat texts.txt | taskmask predict --from runs/first --top 3
  taskmask predict --from runs/nq --task.beams 4 "who wrote the ring of the nibelung"
  cat pairs.jsonl | taskmask predict --from runs/aspects --jsonl > answers.jsonl"""

GROUP = 8  # batches that are read, sorted by length and printed together


def main(argv: Sequence[str] | None = None) -> int:
    """Predicts and prints, text by text."""
    parser = Parser("taskmask predict", DESCRIPTION, EPILOG)
    parser.add_argument("--from", dest="source", required=True, metavar="RUN", help=FROM_HELP)
    parser.add_argument("--top", type=whole(), default=5, help="answers to show, where there are several [5]")
    parser.add_argument("--jsonl", action="store_true", help="standard input holds JSON objects; answers are added")
    parser.add_argument("--json", action="store_true", help="print one JSON object a text and nothing else")
    parser.add_argument("texts", nargs="*", metavar="TEXT", help="texts; standard input where there are none")
    parser.add_argument("--batch-size", type=whole(), default=32, metavar="N", help="texts per forward pass [32]")
    parser.add_argument("--device", default="auto", help="auto (a GPU if there is one), cpu, cuda or cuda:N [auto]")
    add_user_dir(parser)
    words, of_task = divided(sys.argv[1:] if argv is None else argv)
    options = parser.parse_all(words)
    load_user_dirs(options)
    if options.top < 1:
        raise ConfigError(f"is {options.top}", where="--top", expected="at least 1")
    if options.batch_size < 1:
        raise ConfigError(f"is {options.batch_size}", where="--batch-size", expected="at least 1")
    if options.jsonl and options.texts:
        raise ConfigError("reads standard input, not TEXT", where="--jsonl", fix="leave one of them out")

    from taskmask.inference.loaded_model import load
    from taskmask.system.console import say
    from taskmask.training.unread import unread_after_tab

    model = load(options.source).changed(read_flags(of_task))
    fields = model.asked.fields
    given = [(f"text {number}", fielded(text, fields)) for number, text in enumerate(options.texts, 1)]
    records = iter(given or read_records(options.jsonl, fields))
    done, told = 0, False
    how = {"top": options.top, "batch_size": options.batch_size, "device": options.device}
    while group := list(itertools.islice(records, GROUP * options.batch_size)):
        if not (told or options.jsonl):
            unread = next(filter(None, (unread_after_tab(one, model.asked) for _, one in group)), "")
            if unread:
                say(f"warning: {unread}")
                told = True
        for record, answer in answers_to(model, group, how):
            if options.json or options.jsonl:
                inputs = {*fields, *model.asked.lists} & record.keys()
                other = {key: value for key, value in answer.items() if key not in inputs}
                own = {f"predicted_{key}" if key in record else key: value for key, value in other.items()}
                print(to_json({**record, **own}))
            else:
                print(visible("\n".join(model.asked.say(record, answer))))
        done += len(group)
    if not done:
        raise DataError("there is no text", where="taskmask predict", fix="give texts, or pipe some in")
    return 0


def divided(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Returns the words without and of `--task.field VALUE`: one value each, for texts may follow."""
    left, rest, of_task = list(words), [], []
    while left and left[0] != "--":
        word = left.pop(0)
        if word.startswith("--task."):
            of_task += [word, *(left.pop(0) for _ in left[:1] if "=" not in word and not left[0].startswith("--"))]
        else:
            rest.append(word)
    return [*rest, *left], of_task


Record = dict[str, Any]


def answers_to(
    model: Pretrained, group: list[tuple[str, Record]], how: dict[str, Any]
) -> Iterator[tuple[Record, Record]]:
    """Yields each record with its answer; the first record without one raises an error that gives its place.

    Args:
        model: the model.
        group: the place and the record of each text.
        how: the other arguments of `Pretrained.predict`.
    """
    try:
        records = [checked(record) for _, record in group]
        yield from zip(records, model.predict(records, **how), strict=True)
    except DataError:
        for where, record in group:
            try:
                own = checked(record)
                yield own, model.predict([own], **how)[0]
            except DataError as error:
                raise DataError(error.what, where=where, expected=error.expected, fix=error.fix) from None


def fielded(line: str, fields: tuple[str, ...]) -> Record:
    """Returns the texts of a line by their names; the last ones are lacking where it has fewer tabs than there are."""
    return dict(zip(fields, line.split("\t", len(fields) - 1), strict=False))


def read_records(jsonl: bool, fields: tuple[str, ...]) -> Iterator[tuple[str, Record]]:
    """Yields the place and the record of every line of standard input that is not blank."""
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(encoding="utf-8", errors="surrogateescape")  # `check_text` finds what is wrong
    for number, line in enumerate(sys.stdin, 1):
        where = f"standard input, line {number}"
        if not line.strip():
            continue
        if not jsonl:
            yield where, fielded(line.rstrip("\r\n"), fields)
            continue
        try:
            record = from_json(line)
        except ValueError:
            record = None
        if not isinstance(record, dict):
            expected = f"a JSON object with {' and '.join(fields)}"
            raise DataError(f"is {line.strip()[:60]!r}", where=where, expected=expected)
        yield where, record


def checked(record: Record) -> Record:
    """Returns the record with texts that are Unicode; one that cannot be is an error."""
    return {key: check_text(value) if isinstance(value, str) else value for key, value in record.items()}


def check_text(text: str) -> str:
    """Returns the text; one that is no Unicode is an error."""
    try:
        return text.encode("utf-8", "surrogateescape").decode()  # on a command line in a locale without UTF-8, too
    except UnicodeError:
        raise DataError(f"{text[:60]!r} is not UTF-8", where="text", fix="convert it, with iconv for example") from None
