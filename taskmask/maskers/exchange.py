"""What passes between a policy and its caller: rows that it may read and not write, and what it returns.

Shapes: B rows, T tokens in the longest row.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from taskmask.data.rows import Rows


@contextlib.contextmanager
def read_only(rows: Rows) -> Iterator[None]:
    """Makes tokens and maskable [B, T] read-only for a while: a policy that wrote to them would corrupt the text that
    the model learns from, or get round the check of its own mask."""
    arrays = [array for array in (rows.tokens, rows.maskable) if array.flags.writeable]
    for array in arrays:
        array.flags.writeable = False
    try:
        yield
    finally:
        for array in arrays:
            array.flags.writeable = True


def as_array(returned: Any) -> np.ndarray:
    """Returns what a policy returned as an array; what cannot be one, as the only item of one of objects."""
    try:
        return np.asarray(returned)
    except ValueError:  # e.g. a list of lists of different lengths
        array = np.empty((), dtype=object)
        array[()] = returned
        return array


def described(array: np.ndarray) -> str:
    """Says what it is: "int64 [4, 20]"; of what is no array its type."""
    if array.ndim or array.dtype != object:
        return f"{array.dtype} {list(array.shape)}"
    return "None" if array.item() is None else f"a {type(array.item()).__name__} that is no array"
