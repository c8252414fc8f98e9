"""Texts as every text is read: control characters are spaces."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from taskmask.errors import DataError

# Control characters are never part of a longer UTF-8 character, so bytes can be replaced one by one.
TO_SPACE = bytes(32 if byte < 32 or byte == 127 else byte for byte in range(256))
TO_SPACE_BUT_TAB = TO_SPACE[:9] + b"\t" + TO_SPACE[10:]
TO_SPACE_BUT_LINE_FEED = TO_SPACE[:10] + b"\n" + TO_SPACE[11:]
_CONTROLS = re.compile("[\x00-\x1f\x7f]")


def to_spaces(text: str) -> str:
    """The text with a space for each control character, as every text is read."""
    return _CONTROLS.sub(" ", text)


def texts_to_read(records: Sequence[dict[str, Any]], field: str) -> list[str]:
    """The texts in a field of records, as those of a dataset were read.

    Raises:
        DataError: one is blank.
    """
    texts = [to_spaces(record[field]) for record in records]
    if not all(map(str.strip, texts)):
        raise DataError("the text is empty", where=field, expected="a text")
    return texts
