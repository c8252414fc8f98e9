"""Texts in a terminal: how wide they are, and tables of them."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

from taskmask.errors import visible


def width_of(text: str) -> int:
    """Returns how wide a text is in a terminal: letters of East Asian scripts are two wide, combining marks none."""
    return sum(2 if unicodedata.east_asian_width(c) in "WF" else not unicodedata.combining(c) for c in text)


def aligned(rows: Sequence[Sequence[str]], numeric: Sequence[int] | None = None) -> list[str]:
    """Returns rows of cells as lines whose columns stand below each other.

    Args:
        rows: the cells.
        numeric: numbers of the columns that stand to the right; None for all but the first.
    """
    rows = [[visible(cell) for cell in row] for row in rows]
    widths = [max(map(width_of, column)) for column in zip(*rows, strict=True)]

    def padded(number: int, cell: str) -> str:
        blank = " " * (widths[number] - width_of(cell))
        return blank + cell if (number > 0 if numeric is None else number in numeric) else cell + blank

    return ["  ".join(padded(number, cell) for number, cell in enumerate(row)).rstrip() for row in rows]
