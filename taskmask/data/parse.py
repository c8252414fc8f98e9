"""Chunks of lines to texts, labels and document ends."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from taskmask.data.utf8 import decode
from taskmask.errors import DataError, did_you_mean

if TYPE_CHECKING:
    from taskmask.data.readers import Chunk

# Control characters are never part of a longer UTF-8 character, so bytes can be replaced one by one.
_TO_SPACE = bytes(32 if byte < 32 or byte == 127 else byte for byte in range(256))
_TO_SPACE_BUT_TAB = _TO_SPACE[:9] + b"\t" + _TO_SPACE[10:]
_TO_SPACE_BUT_LINE_FEED = _TO_SPACE[:10] + b"\n" + _TO_SPACE[11:]


@dataclass(frozen=True)
class Layout:
    """How the lines of a file are parsed.

    Attributes:
        name: of the file, for messages.
        format: "txt", "tsv" or "jsonl".
        text: fields that hold text; the first becomes the column `tokens`.
        label: fields that hold labels.
        columns: names in the header of a tsv file.
        header: number of the header's line in a tsv file.
        documents: "line" or "blank", for txt.
    """

    name: str
    format: str
    text: tuple[str, ...] = ()
    label: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    header: int = 0
    documents: str = "line"


@dataclass(frozen=True)
class Parsed:
    """The rows of a chunk.

    Attributes:
        texts: a list of UTF-8 texts per text field, one a row.
        labels: a list of names per label field, one a row.
        ends: bool [rows], the row is the last of its document.
    """

    texts: tuple[list[bytes], ...]
    labels: tuple[list[str], ...]
    ends: np.ndarray


def layout_of(
    name: str, format: str, head: bytes, text: Sequence[str], label: Sequence[str] | None, documents: str
) -> Layout:
    """Finds the layout of a file from its first bytes, and checks that it has the fields asked for.

    Args:
        name: of the file.
        format: "txt", "tsv" or "jsonl".
        head: its first lines, without a byte order mark.
        text: text fields.
        label: label fields; None: `label` if the file has it.
        documents: "line" or "blank".
    """
    if format == "txt":
        if len(text) > 1 or label:
            raise DataError(
                "a txt file has one text a line and no fields",
                where=name,
                expected=f"the fields {', '.join([*text, *(label or ())])}",
                fix="use tsv or jsonl, or leave out --text and --label",
            )
        return Layout(name, format, tuple(text[:1]), documents=documents)
    number, line = next((n, row) for n, row in enumerate([*head.split(b"\n"), b"{}"], 1) if not is_blank(row))
    line = line.removesuffix(b"\r")
    fields = decode(line, name, number).split("\t") if format == "tsv" else list(_record(line, name, number))
    if label is None:
        label = ["label"] if "label" in fields else []
    _check_fields([*text, *label], fields, f"{name}:{number}")
    header = (tuple(fields), number) if format == "tsv" else ((), 0)
    return Layout(name, format, tuple(text), tuple(label), *header)


def is_blank(line: bytes) -> bool:
    """Whether a line holds nothing but spaces and control characters."""
    return not line.translate(_TO_SPACE).strip()


def parse(chunk: Chunk) -> Parsed:
    """Parses the lines of a chunk.

    Raises:
        DataError: with file and line: text that is not UTF-8, missing fields, lines of another form.
    """
    layout = chunk.layout
    text = chunk.text
    if b"\r" in text:  # quicker to look for than both
        text = text.replace(b"\r\n", b"\n")
    decode(text, layout.name, chunk.first_line)
    if layout.format == "txt":
        return _parse_txt(text, chunk)
    rows = _tsv_rows(text, chunk) if layout.format == "tsv" else _jsonl_rows(text, chunk)
    texts = tuple([row[at] for row in rows] for at in range(len(layout.text)))
    labels = tuple([row[at].decode() for row in rows] for at in range(len(layout.text), _num_fields(layout)))
    return Parsed(texts, labels, np.ones(len(rows), bool))


def _parse_txt(text: bytes, chunk: Chunk) -> Parsed:
    lines = text.removesuffix(b"\n").translate(_TO_SPACE_BUT_LINE_FEED).split(b"\n")
    rows = [line for line in lines if line.strip()]
    if chunk.layout.documents == "line":
        return Parsed((rows,), (), np.ones(len(rows), bool))
    is_text = np.array([bool(line.strip()) for line in lines])
    followed_by_blank = np.append(~is_text[1:], chunk.ends_document)
    return Parsed((rows,), (), followed_by_blank[is_text])


def _tsv_rows(text: bytes, chunk: Chunk) -> list[list[bytes]]:
    layout = chunk.layout
    picked = [layout.columns.index(field) for field in (*layout.text, *layout.label)]
    rows = []
    for number, line in enumerate(text.split(b"\n"), chunk.first_line):
        if number <= layout.header or not line:
            continue
        fields = line.translate(_TO_SPACE_BUT_TAB).split(b"\t")
        if len(fields) != len(layout.columns):
            raise DataError(
                f"the line has {len(fields)} columns",
                where=f"{layout.name}:{number}",
                expected=f"{len(layout.columns)}, as in the header ({', '.join(layout.columns)})",
            )
        rows.append([fields[at] for at in picked])
        if b"" in rows[-1][len(layout.text) :]:
            raise DataError("the label is empty", where=f"{layout.name}:{number}", expected="the name of a label")
    return rows


def _jsonl_rows(text: bytes, chunk: Chunk) -> list[list[bytes]]:
    layout = chunk.layout
    rows = []
    for number, line in enumerate(text.split(b"\n"), chunk.first_line):
        if is_blank(line):
            continue
        record = _record(line, layout.name, number)
        where = f"{layout.name}:{number}"
        try:
            values = [_text_of(record[field], where, field) for field in layout.text]
            values += [_label_of(record[field], where, field) for field in layout.label]
        except KeyError:
            _check_fields([*layout.text, *layout.label], list(record), where)
        rows.append(values)
    return rows


def _record(line: bytes, name: str, number: int) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DataError(f"the line is not valid JSON: {error}", where=f"{name}:{number}") from error
    if not isinstance(record, dict):
        raise DataError(
            f"the line is a JSON {type(record).__name__}",
            where=f"{name}:{number}",
            expected='an object such as {"text": ...}',
        )
    return record


def _text_of(value: Any, where: str, field: str) -> bytes:
    if not isinstance(value, str):
        raise DataError(f"{field!r} is {str(value)[:40]!r}", where=where, expected="a string")
    return _encode(value, where, field)


def _label_of(value: Any, where: str, field: str) -> bytes:
    if not isinstance(value, str | int) or value == "":
        raise DataError(
            f"the label {field!r} is {str(value)[:40]!r}",
            where=where,
            expected="a string, a whole number, true or false",
        )
    return _encode(value if isinstance(value, str) else json.dumps(value), where, field)


def _encode(value: str, where: str, field: str) -> bytes:
    try:
        return value.encode().translate(_TO_SPACE)
    except UnicodeEncodeError as error:
        raise DataError(
            f"{field!r} holds half a surrogate pair (\\u{ord(value[error.start]):04x})",
            where=where,
            expected="text that UTF-8 can hold",
        ) from error


def _check_fields(wanted: Sequence[str], found: Sequence[str], where: str) -> None:
    for field in wanted:
        if field not in found:
            fix = did_you_mean(field, found) or "name the fields with --text and --label"
            raise DataError(f"there is no field {field!r}", where=where, expected=f"one of {', '.join(found)}", fix=fix)


def _num_fields(layout: Layout) -> int:
    return len(layout.text) + len(layout.label)
