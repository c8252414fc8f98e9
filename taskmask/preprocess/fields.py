"""Single values of input files, checked: lines, records of jsonl, texts, labels and numbers."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Sequence
from typing import Any

from taskmask.errors import DataError, did_you_mean
from taskmask.preprocess.missing import NONE
from taskmask.system.json_input import from_json
from taskmask.tokenizer.text import TO_SPACE

_LARGEST = 3.4028234e38  # of float32


def is_blank(line: bytes) -> bool:
    """Whether a line holds nothing but spaces and control characters."""
    return not line.translate(TO_SPACE).strip()


def shown(value: Any, length: int = 40) -> str:
    """The beginning of a value, in quotes, for messages."""
    text = str(value)
    return repr(text if len(text) <= length else f"{text[:length]}…")


def record_of(line: bytes, where: str) -> dict[str, Any]:
    """The object that a line of jsonl holds."""
    try:
        record = from_json(line)
    except ValueError as error:
        raise DataError(f"the line is not valid JSON: {error}", where=where) from error
    if not isinstance(record, dict):
        raise DataError(
            f"the line is a JSON {type(record).__name__}", where=where, expected='an object such as {"text": ...}'
        )
    return record


def check_fields(wanted: Sequence[str], found: Sequence[str], where: str, fix: str = "") -> None:
    """Raises DataError unless all fields wanted are among those found, and none is wanted or found twice.

    Args:
        wanted: names of fields.
        found: names of fields.
        where: the place.
        fix: what to do if one is missing; empty: a like name, or the options that name fields.
    """
    for field in wanted:
        if wanted.count(field) > 1:
            once = "name each field once in --text, --label, --number, --list, --words and --tags"
            raise DataError(f"the field {field!r} is asked for twice", where=where, expected="once", fix=once)
        if found.count(field) > 1:
            raise DataError(f"there are two fields {field!r}", where=where, expected="one", fix="rename one of them")
        if field not in found:
            fix = (
                fix
                or did_you_mean(field, found)
                or "name the fields with --text, --label, --number, --list, --words and --tags"
            )
            raise DataError(f"there is no field {field!r}", where=where, expected=f"one of {', '.join(found)}", fix=fix)


def text_of(value: Any, where: str, field: str) -> bytes:
    """A text as UTF-8 whose control characters are spaces."""
    if not isinstance(value, str):
        raise DataError(f"{field!r} is {shown(value)}", where=where, expected="a string")
    try:
        return value.encode().translate(TO_SPACE)
    except UnicodeEncodeError as error:
        raise DataError(
            f"{field!r} holds half a surrogate pair (\\u{ord(value[error.start]):04x})",
            where=where,
            expected="text that UTF-8 can hold",
        ) from error


def list_of(value: Any, where: str, field: str) -> bytes:
    """A list of texts as UTF-8, a line each; one text is a list of one; an empty list and null are no text."""
    if value is None or value in ("", []):
        return b""
    texts = [text_of(text, where, field) for text in (value if isinstance(value, list) else [value])]
    if not texts or not all(text.strip() for text in texts):
        raise DataError(f"{field!r} is {shown(value)}", where=where, expected="a list of texts, none blank")
    return b"\n".join(texts)


def label_of(value: Any, where: str, field: str, of_row: bool = True) -> str:
    """The name of a label, of a row or of a word; empty if there is none (null, NaN or an empty string)."""
    if value is None or value != value:
        return NONE
    if not isinstance(value, str | int):
        fix = "name numbers to be predicted with --number" if of_row and isinstance(value, float) else ""
        raise DataError(
            f"the label {field!r} is {shown(value)}",
            where=where,
            expected="a string, a whole number, true, false or null",
            fix=fix,
        )
    return text_of(value if isinstance(value, str) else json.dumps(value), where, field).decode()


def number_of(value: Any, where: str, field: str, missing: Collection[str | float] = ()) -> float:
    """A finite number that float32 can hold, of JSON or as the bytes of a field of a table; NaN if there is none.

    Args:
        value: the number; null, NaN and an empty field are none.
        where: its place.
        field: name of its field.
        missing: texts and numbers that mean that there is none.
    """
    text = value.decode().strip() if isinstance(value, bytes) else value
    if text is None or (isinstance(text, str) and (text.lower() in ("", "nan") or text in missing)):
        return math.nan
    if isinstance(value, str):
        expected = "a JSON number, such as 3.5, without quotes"
        raise DataError(f"the number {field!r} is the string {shown(value)}", where=where, expected=expected)
    if isinstance(value, float) and math.isnan(value):
        return math.nan
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    is_text = isinstance(value, bytes) and b"_" not in value  # which Python would allow
    try:
        number = float(value) if is_number or is_text else math.nan
    except (ValueError, OverflowError):
        number = math.nan
    if not abs(number) <= _LARGEST:  # also if it is NaN
        text = value.decode() if isinstance(value, bytes) else value
        raise DataError(f"the number {field!r} is {shown(text)}", where=where, expected="a finite number, such as 3.5")
    return math.nan if number in missing else number
