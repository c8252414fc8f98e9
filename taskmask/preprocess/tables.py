"""Tables: a header and rows of fields, split at tabs (tsv) or commas (csv).

In a plain tsv file a line is a row, and quotation marks are text. In a csv file, and in a tsv file that is read with
`--quoted`, a field may stand in quotation marks. Such a field may hold the delimiter, line breaks, and quotation marks,
each of them doubled. A mark within a field that does not begin with one is text.

**Source:** RFC 4180, section 2. Python's `csv` with `strict=True` splits the quoted fields.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from taskmask.errors import DataError
from taskmask.preprocess.fields import is_blank
from taskmask.preprocess.utf8 import decode
from taskmask.tokenizer.text import TO_SPACE, TO_SPACE_BUT_TAB

if TYPE_CHECKING:
    from taskmask.preprocess.schema import Layout

DELIMITERS = {"tsv": "\t", "csv": ","}
LONGEST_ROW = 16 << 20  # bytes, if fields are quoted
_QUOTED = re.compile(rb'"((?:[^"\t\n]|"")*)"(?=[\t\r\n]|\Z)')
_BORDERS = (b"", b"\t", b"\n")  # before a field of a plain tsv file
csv.field_size_limit(1 << 30)  # the rows are limited


def header_of(head: bytes, layout: Layout) -> tuple[list[str], int]:
    """Returns the names of the columns, without blanks around them, and the number of the last line of the header.

    Args:
        head: the first lines of a table, not all of them blank.
        layout: name, delimiter and quoting of the table.

    Raises:
        DataError: the header is not UTF-8, or its quotation marks are not closed.
    """
    if not layout.quoted:
        number, line = next((n, row) for n, row in enumerate(head.split(b"\n"), 1) if not is_blank(row))
        return [name.strip() for name in decode(line, layout.name, number).split(layout.delimiter)], number
    for number, row in _quoted_rows(head.decode("latin-1"), layout, 1):
        if any(map(str.strip, row)):
            stop = number + sum(field.count("\n") for field in row)
            decode(b"\n".join(head.split(b"\n")[:stop]), layout.name, 1)
            return [name.replace("\n", " ").encode("latin-1").decode().strip() for name in row], stop
    raise DataError("there is no header", where=layout.name, expected="the names of the columns")


def rows_of(text: bytes, layout: Layout, first_line: int) -> Iterator[tuple[int, list[bytes]]]:
    """Gives the line in which each row begins, and its fields; control characters become spaces.

    Args:
        text: whole rows, UTF-8, without carriage returns at the ends of lines.
        layout: how they are split; rows of its header are passed over.
        first_line: number of the first line.

    Raises:
        DataError: a row has another number of fields than the header, or quotation marks that do not fit.
    """
    return _quoted_fields(text, layout, first_line) if layout.quoted else _plain_fields(text, layout, first_line)


def _plain_fields(text: bytes, layout: Layout, first_line: int) -> Iterator[tuple[int, list[bytes]]]:
    size, header = len(layout.columns), layout.header
    for number, line in enumerate(text.split(b"\n"), first_line):
        if number > header and line:
            fields = line.translate(TO_SPACE_BUT_TAB).split(b"\t")
            if len(fields) != size:
                raise _ragged(number, fields, layout)
            yield number, fields


def _quoted_fields(text: bytes, layout: Layout, first_line: int) -> Iterator[tuple[int, list[bytes]]]:
    for number, row in _quoted_rows(text.decode(), layout, first_line):
        if number > layout.header:
            fields = [field.encode().translate(TO_SPACE) for field in row]
            if len(fields) != len(layout.columns):
                raise _ragged(number, fields, layout)
            yield number, fields


def _quoted_rows(text: str, layout: Layout, first_line: int) -> Iterator[tuple[int, list[str]]]:
    """Yields the line in which each row begins, and its fields; blank lines between rows are passed over."""
    number = first_line
    reader = _reader(text, layout.delimiter)
    try:
        for row in reader:
            if row:
                yield number, row
            number = first_line + reader.line_num
    except csv.Error as error:
        is_open = "unexpected end" in str(error)
        until = f"before the file ends, or within {LONGEST_ROW >> 20} MiB"
        how = f"is not closed {until}" if is_open else "goes on after the closing one"
        raise DataError(
            f"a field of the row that begins here opens with a quotation mark and {how}",
            where=f"{layout.name}:{number}",
            expected='quoted fields such as "a, b" or "he said ""no"""',
            fix="double the marks within quoted fields"
            + ("" if layout.format == "csv" else ", or leave out --quoted if the marks are text"),
        ) from error


def _reader(text: str, delimiter: str) -> Any:
    """Returns a `csv.reader` of the text, in which a line feed alone ends a line."""
    if "\r" in text or "\0" in text:
        text = text.replace("\r\n", "\n").removesuffix("\r").replace("\r", " ").replace("\0", " ")
    return csv.reader(io.StringIO(text, newline="\n"), delimiter=delimiter, strict=True)


def _ragged(number: int, fields: list[bytes], layout: Layout) -> DataError:
    fix = ""
    if layout.quoted:
        fix = "put quotation marks around fields that hold the delimiter or a line break"
    elif any(field.startswith(b'"') for field in fields):
        fix = "give --quoted if quotation marks stand around fields"
    return DataError(
        f"the {'row that begins here' if layout.quoted else 'line'} has {len(fields)} columns",
        where=f"{layout.name}:{number}",
        expected=f"{len(layout.columns)}, as in the header ({', '.join(layout.columns)})",
        fix=fix,
    )


def whole_rows(blocks: Iterator[tuple[bytes, int]], delimiter: str) -> Iterator[tuple[bytes, int]]:
    """Yields the same lines in blocks that end with a row, if fields are quoted.

    A row that cannot be split, or is longer than `LONGEST_ROW`, comes in a block as it is: `rows_of` names it.

    Args:
        blocks: whole lines, each block with a position in its file.
        delimiter: between fields.
    """
    rest, position = b"", 0
    for block, position in blocks:
        text = rest + block
        stop = _end_of_last_row(text, delimiter)
        if len(text) - stop > LONGEST_ROW:
            stop = len(text)
        if stop:
            yield text[:stop], position
        rest = text[stop:]
    if rest:
        yield rest, position


def _end_of_last_row(text: bytes, delimiter: str) -> int:
    """Returns where the last whole row of whole lines ends; 0 if none is whole."""
    if b'"' not in text:
        return len(text)
    lines = text.count(b"\n") + (not text.endswith(b"\n"))
    reader, line = _reader(text.decode("latin-1"), delimiter), 0
    try:
        for _ in reader:
            line = reader.line_num
    except csv.Error:
        if reader.line_num < lines:  # more lines do not mend it
            return len(text)
    stop = len(text)
    for _ in range(lines - line):
        stop = text.rfind(b"\n", 0, stop - 1) + 1
    return stop


def quoting_in(head: bytes) -> str:
    """Says how quotation marks stand in a plain tsv file, if that looks like quoted fields; empty if it does not.

    It looks so if fields in marks hold doubled ones and are more than those that begin with a stray mark, or if most
    lines have a field in marks.

    Args:
        head: the first lines of the file.
    """
    num_opening = sum(map(head.count, (b'\n"', b'\t"'))) + head.startswith(b'"')
    if not num_opening:
        return ""
    # no match goes beyond its field, so one within a field takes nothing from the next
    fields = [match for match in _QUOTED.finditer(head) if head[match.start() - 1 : match.start()] in _BORDERS]
    stray = num_opening - len(fields)
    quoted = [match for match in fields if match[1]]
    doubled = [match for match in quoted if b'""' in match[1]]
    lines = head.count(b"\n") + (not head.endswith(b"\n")) - 1  # without the header
    if len(doubled) > stray:
        found, how = doubled, "in quotation marks with doubled ones inside"
    elif len(quoted) > max(stray, lines / 2):
        found, how = quoted, "in quotation marks"
    else:
        return ""
    place = head.count(b"\n", 0, found[0].start()) + 1
    return f"fields {how}: {len(found):,}, the first in line {place}"
