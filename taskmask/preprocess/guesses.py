"""What was guessed of the input files, and the option that says otherwise."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from taskmask.preprocess.missing import DOUBTFUL
from taskmask.preprocess.pipeline import SplitSummary
from taskmask.preprocess.python_docs import is_python_docs
from taskmask.preprocess.readers import Source
from taskmask.preprocess.schema import Fields, Layout

Layouts = dict[str, list[Layout]]


class Guess(NamedTuple):
    """One guess.

    Attributes:
        what: it is about, in a word.
        found: what was guessed.
        option: that says otherwise.
    """

    what: str
    found: str
    option: str


def guesses_of(
    sources: dict[str, list[Source]], asked: Fields, input_format: str | None = None, documents: str = "auto"
) -> list[Guess]:
    """Returns all that was not asked for, and so was guessed from the names and the first lines of the files.

    Args:
        sources: split -> its files, of `find_sources`.
        asked: the fields that were asked for.
        input_format: the format that was asked for, if any.
        documents: what was asked for: "auto" is a guess.
    """
    layouts = {
        split: [file.layout for file in files if not is_python_docs(file.layout.name)]
        for split, files in sources.items()
    }
    layouts = {split: files for split, files in layouts.items() if files}
    if not layouts:
        return []
    guesses = [] if input_format else [_guess("format", layouts, lambda one: one.format, "--input-format")]
    return [*guesses, *_of_formats(layouts, asked, documents), *_of_fields(layouts, asked)]


def _of_formats(layouts: Layouts, asked: Fields, documents: str) -> Iterator[Guess]:
    """What is guessed of files of one format."""
    if _of_format(layouts, "csv") and not asked.delimiter:
        yield Guess("delimiter", "a comma in csv", "--delimiter")
    if _of_format(layouts, "tsv") and not asked.quoted:
        yield Guess("quotes", "quotation marks in tsv are text", "--quoted")
    if (texts := _of_format(layouts, "txt")) and documents == "auto":
        units = {"line": "each line is one", "blank": "blank lines separate them"}
        yield _guess("documents", texts, lambda one: units[one.documents], "--documents")
    if columns := _of_format(layouts, "conll"):
        yield _guess("columns", columns, _columns, "")
        if not asked.word_column:
            yield _guess("words", columns, _word_column, "--word-column")
        if not asked.tag_column or not all(one.tags for files in columns.values() for one in files):
            yield _guess("tags", columns, _tag_column, "--tag-column")


def _of_fields(layouts: Layouts, asked: Fields) -> Iterator[Guess]:
    """What is guessed of the fields of tables and records."""
    records = {
        split: chosen
        for split, files in layouts.items()
        if (chosen := [one for one in files if one.format not in ("txt", "conll")])
    }
    if not records:
        return
    forms = {one.form for files in records.values() for one in files}
    if "text" in forms and asked.text is None:
        yield _guess("text", records, lambda one: _field(*one.text), "--text")
    if "tags" in forms:
        if asked.words is None:
            yield _guess("words", records, lambda one: _field(one.words), "--words")
        if asked.tags is None:
            yield _guess("tags", records, _FIELDS["tags"], "--tags")
    if "answers" in forms:
        shown = {True: "in the contexts", False: "none"}
        yield _guess("answers", records, lambda one: shown[one.has_answers], "" if asked.form else "--text")
    if asked.label is None and ("text" in forms or any(one.label for files in records.values() for one in files)):
        yield _guess("label", records, _FIELDS["label"], "--label")
    for what, names in (("label", asked.label), ("number", asked.number), ("list", asked.lists)):
        guess = _guess(what, records, _FIELDS[what], f"--{what}")
        if names and guess.found != _field(*names):  # some splits have none
            yield guess
    if asked.tags and (guess := _guess("tags", records, _FIELDS["tags"], "--tags")).found != _field(asked.tags):
        yield guess


def guesses_of_marks(summaries: dict[str, SplitSummary], asked: Fields) -> list[Guess]:
    """Returns which labels were taken for marks that there is none, and which were not and might be.

    Args:
        summaries: split -> what was written of it.
        asked: the fields that were asked for.
    """
    if asked.missing is not None:
        return []
    parts = summaries.values()
    missing = {(column, mark) for part in parts for column, marks in part.unlabelled.items() for mark in marks if mark}
    known = {
        (column, mark)
        for part in parts
        for column, labels in part.labels.items()
        for mark in DOUBTFUL
        if labels.get(mark)
    }
    return [
        *(Guess(f"{column} {mark}", "no label", "--missing-label") for column, mark in sorted(missing)),
        *(Guess(f"{column} {mark}", "a label", f"--missing-label {mark}") for column, mark in sorted(known)),
    ]


def _field(*names: str) -> str:
    named = [name for name in names if name]
    return f"field {', '.join(named)}" if named else "none"


_FIELDS: dict[str, Callable[[Layout], str]] = {
    "label": lambda one: _field(*one.label),
    "number": lambda one: _field(*one.number),
    "list": lambda one: _field(*one.lists),
    "tags": lambda one: _field(one.tags),
}


def _columns(layout: Layout) -> str:
    assert layout.conll
    return f"{layout.conll.width or 'as many as each sentence has'}, split at {layout.conll.division}"


def _word_column(layout: Layout) -> str:
    assert layout.conll
    counts = "; column 1 counts them" if layout.conll.counts else ""
    return layout.conll.described(layout.conll.word) + counts


def _tag_column(layout: Layout) -> str:
    assert layout.conll
    brackets = "; brackets are read as B-, I- and O" if layout.conll.brackets else ""
    return layout.conll.described(layout.conll.tag) + brackets if layout.tags else "none"


def _of_format(layouts: Layouts, format: str) -> Layouts:
    chosen = {split: [one for one in files if one.format == format] for split, files in layouts.items()}
    return {split: files for split, files in chosen.items() if files}


def _guess(what: str, layouts: Layouts, of: Callable[[Layout], str], option: str) -> Guess:
    """The guess of the first split; after it the other splits, if they differ."""
    found = {split: ", ".join(dict.fromkeys(map(of, files))) for split, files in layouts.items()}
    first, *others = found.items()
    differing = [f"{split}: {value}" for split, value in others if value != first[1]]
    return Guess(what, first[1] + (f" ({', '.join(differing)})" if differing else ""), option)
