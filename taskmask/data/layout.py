"""What input files hold: as asked for (`Fields`), and as found in the first lines of a file (`Layout`)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from taskmask.data import questions
from taskmask.data.conll import Columns, find_columns
from taskmask.data.tables import DELIMITERS, header_of
from taskmask.data.utf8 import decode
from taskmask.data.values import check_fields, is_blank, record_of
from taskmask.errors import DataError

TEXT, WORDS, LABEL, TAGS = "text", "words", "label", "tags"  # names of fields, unless others are given
_FORMS = {"txt": ("text",), "tsv": ("text",), "csv": ("text",), "jsonl": ("text", "tags", "answers"),
          "conll": ("tags",), "squad": ("answers",)}  # fmt: skip
_WHAT = {"text": "texts", "tags": "words with tags", "answers": "questions with answers"}


@dataclass(frozen=True)
class Fields:
    """Which fields to take; what is None, or an empty form, is found out from the files.

    Attributes:
        text: fields that hold text; None: `text`.
        label: fields that hold labels; None: `label`, where the first file of a split has it.
        number: fields that hold numbers.
        lists: fields that hold lists of texts.
        words: field that holds a list of words; None: `words`.
        tags: field that holds their tags, and name of the column; None: `tags`, where the first file of a split has it.
        word_column: column with the words in a CoNLL file, from 1, or its name; 0: found out.
        tag_column: column with the tags in a CoNLL file, from 1, or its name; 0: found out.
        conll: the columns of the first CoNLL file.
        form: "text", "tags" (tagged sentences) or "answers" (questions with answers in a context); of all files.
        has_answers: questions have answers; None: if the first of a split has.
        on_bad_answer: what is done with a bad or missing answer: "stop" or "skip".
        missing: marks that mean that there is no label or number; None: they are found out.
        optional: a file without the fields of labels, numbers, lists and tags has none; else it is an error.
        quoted: fields of tsv files may stand in quotation marks, as those of csv files do.
        delimiter: between the fields of csv files, one character; None: a comma.
    """

    text: tuple[str, ...] | None = None
    label: tuple[str, ...] | None = None
    number: tuple[str, ...] = ()
    lists: tuple[str, ...] = ()
    words: str | None = None
    tags: str | None = None
    word_column: int | str = 0
    tag_column: int | str = 0
    conll: Columns | None = None
    form: str = ""
    has_answers: bool | None = None
    on_bad_answer: str = "stop"
    missing: tuple[str, ...] | None = None
    optional: bool = False
    quoted: bool = False
    delimiter: str | None = None

    @property
    def asked_form(self) -> str:
        """The form that the other attributes ask for; empty if none does."""
        of_tags = self.words or self.tags or self.word_column or self.tag_column
        return self.form or ("tags" if of_tags else "text" if self.text else "")


@dataclass(frozen=True)
class Layout:
    """How the lines of a file are parsed.

    Attributes:
        name: of the file, for messages.
        format: "txt", "tsv", "csv", "jsonl", "conll" or "squad" (as lines of jsonl, of `questions.lines_of`).
        form: "text", "tags" or "answers".
        text: fields that hold text; the first becomes the column `tokens`.
        label: fields that hold labels.
        number: fields that hold numbers.
        lists: fields that hold lists of texts.
        columns: names in the header of a table (tsv or csv); none in other files.
        header: number of the line in which that header ends.
        delimiter: between the fields of a table.
        quoted: whether fields of a table may stand in quotation marks.
        documents: "line" or "blank", for txt.
        words: field that holds a list of words, for form "tags".
        tags: field that holds their tags, and name of the column; "" where there are none.
        conll: the columns of a CoNLL file.
        has_answers: for form "answers"; without, the questions are for prediction only.
        on_bad_answer: "stop" or "skip".
        missing: marks that mean that there is no label or number; None: they are found out.
    """

    name: str
    format: str
    form: str = "text"
    text: tuple[str, ...] = ()
    label: tuple[str, ...] = ()
    number: tuple[str, ...] = ()
    lists: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    header: int = 0
    delimiter: str = "\t"
    quoted: bool = False
    documents: str = "line"
    words: str = ""
    tags: str = ""
    conll: Columns | None = None
    has_answers: bool = False
    on_bad_answer: str = "stop"
    missing: tuple[str, ...] | None = None

    @property
    def fields(self) -> list[str]:
        """All fields that a record must have."""
        answers = [questions.ANSWERS] if self.has_answers else []
        return [*self.text, *self.label, *self.number, *self.lists, *filter(None, (self.words, self.tags)), *answers]

    @property
    def label_columns(self) -> list[str]:
        """The columns of labels, of rows and of words."""
        return [*self.label, *([self.tags] if self.tags else [])]


def layout_of(name: str, format: str, head: bytes, fields: Fields, documents: str) -> Layout:
    """Finds the layout of a file from its first bytes, and checks that it has the fields asked for.

    Args:
        name: of the file.
        format: one of `Layout.format`.
        head: its first lines, without a byte order mark.
        fields: what is asked for.
        documents: "line" or "blank", for txt.
    """
    form = fields.asked_form
    if form and form not in _FORMS[format]:
        raise DataError(
            f"a file of format {format} has no {_WHAT[form]}",
            where=name,
            expected=f"{_WHAT[form]}, as asked for or as in the first file",
            fix="give --input-format if it is of another format",
        )
    if fields.lists and format != "jsonl":
        raise DataError(
            f"a file of format {format} has no lists",
            where=name,
            expected=f"the lists {', '.join(fields.lists)}",
            fix="use jsonl, or name fields that hold one text each with --text",
        )
    if format == "txt":
        return _txt_layout(name, fields, documents)
    if format == "conll":
        return _conll_layout(name, head, fields)
    if format in DELIMITERS:
        layout = _table_layout(name, format, head, fields)
        found, where = list(layout.columns), f"{name}:{layout.header}"
    else:
        number, line = next((n, row) for n, row in enumerate([*head.split(b"\n"), b"{}"], 1) if not is_blank(row))
        where = f"{name}:{number}"
        decode(line, name, number)
        record = record_of(line, where)
        found = list(record)
        layout = _record_layout(name, format, record, head, fields)
    layout = replace(layout, number=fields.number, lists=fields.lists, missing=fields.missing)
    label = fields.label
    if label is None:
        label = (LABEL,) if LABEL in found and LABEL not in layout.fields else ()
    layout = replace(layout, label=label)
    if fields.optional:
        label, numbers, lists = (
            tuple(one for one in names if one in found) for names in (layout.label, layout.number, layout.lists)
        )
        layout = replace(layout, label=label, number=numbers, lists=lists)
    check_fields(layout.fields, found, where, _other_table(layout))
    return layout


def _txt_layout(name: str, fields: Fields, documents: str) -> Layout:
    asked = [*(fields.text or ()), *(fields.label or ()), *fields.number]
    if len(fields.text or ()) > 1 or fields.label or fields.number:
        raise DataError(
            "a txt file has one text a line and no fields",
            where=name,
            expected=f"the fields {', '.join(asked)}",
            fix="use tsv or jsonl, or leave out --text, --label and --number",
        )
    return Layout(name, "txt", text=fields.text or (TEXT,), documents=documents)


def _table_layout(name: str, format: str, head: bytes, fields: Fields) -> Layout:
    """The layout of a table, but for labels and numbers."""
    delimiter = (format == "csv" and fields.delimiter) or DELIMITERS[format]
    quoted = format == "csv" or fields.quoted
    layout = Layout(name, format, text=fields.text or (TEXT,), delimiter=delimiter, quoted=quoted)
    columns, header = header_of(head, layout)
    return replace(layout, columns=tuple(columns), header=header)


def _other_table(layout: Layout) -> str:
    """How else a table is to be read, if its header says so; empty if it does not."""
    names = "".join(layout.columns)
    if layout.format == "csv" and len(layout.columns) == 1:
        option = {";": "';'", "\t": "tab", "|": "'|'", ",": "','"}
        return next((f"give --delimiter {shown}" for mark, shown in option.items() if mark in names), "")
    return "give --quoted, since the header has quotation marks" if not layout.quoted and '"' in names else ""


def _record_layout(name: str, format: str, first: dict[str, Any], head: bytes, fields: Fields) -> Layout:
    """The layout of the records of a jsonl file, but for labels and numbers.

    Args:
        name: of the file.
        format: "jsonl" or "squad".
        first: its first record.
        head: its first lines.
        fields: what is asked for.
    """
    form = fields.asked_form or _form_of(format, [key for key in first if first[key] is not None])
    if form == "tags":
        tags = TAGS if fields.tags is None else fields.tags
        if fields.optional and tags not in first:
            tags = ""
        return Layout(name, format, form, words=fields.words or WORDS, tags=tags)
    if form == "answers":
        has_answers = fields.has_answers
        if has_answers is None:
            has_answers = questions.ANSWERS in first
            if has_answers and fields.optional:  # those that are hidden are empty
                has_answers = any(map(questions.has_answer, _records_in(head)))
        text = questions.FIELDS
        return Layout(name, format, form, text, has_answers=has_answers, on_bad_answer=fields.on_bad_answer)
    return Layout(name, format, form, fields.text or (TEXT,))


def _records_in(head: bytes) -> Iterator[dict[str, Any]]:
    """The records in the first lines of a file; those that are none are passed over here."""
    for line in head.split(b"\n"):
        with contextlib.suppress(DataError):
            yield record_of(line, "")


def _form_of(format: str, found: Sequence[str]) -> str:
    if format == "squad":
        return "answers"
    if TEXT in found:
        return "text"
    if WORDS in found:
        return "tags"
    return "answers" if {*questions.FIELDS, questions.ANSWERS} <= set(found) else "text"


def _conll_layout(name: str, head: bytes, fields: Fields) -> Layout:
    if fields.label or fields.number:
        raise DataError(
            "a CoNLL file has words and tags only", where=name, expected="no --label and --number", fix="use jsonl"
        )
    # the first file must have them; if `optional`, they are there if there is a column for them
    has_tags = None if fields.optional else fields.tags is None or bool(fields.tags)
    columns = find_columns(head, name, fields.word_column, fields.tag_column, has_tags, fields.conll)
    tags = (fields.tags or TAGS) if columns.tag else ""
    return Layout(name, "conll", "tags", tags=tags, conll=columns, missing=fields.missing)
