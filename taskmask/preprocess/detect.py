"""The layout of a file, found in its first lines."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from taskmask.errors import DataError
from taskmask.preprocess import squad
from taskmask.preprocess.conll import find_columns
from taskmask.preprocess.fields import check_fields, is_blank, record_of
from taskmask.preprocess.schema import LABEL, TAGS, TEXT, WORDS, Fields, Layout
from taskmask.preprocess.tables import DELIMITERS, header_of
from taskmask.preprocess.utf8 import decode

_FORMS = {"txt": ("text",), "tsv": ("text",), "csv": ("text",), "jsonl": ("text", "tags", "answers"),
          "conll": ("tags",), "squad": ("answers",)}  # fmt: skip
_WHAT = {"text": "texts", "tags": "words with tags", "answers": "questions with answers"}


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
            has_answers = squad.ANSWERS in first
            if has_answers and fields.optional:  # those that are hidden are empty
                has_answers = any(map(squad.has_answer, _records_in(head)))
        text = squad.FIELDS
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
    return "answers" if {*squad.FIELDS, squad.ANSWERS} <= set(found) else "text"


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
