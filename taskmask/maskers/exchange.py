"""What passes between a policy and its caller: rows that it may read and not write, and what it returns.

Shapes: B rows, T tokens in the longest row.
"""

from __future__ import annotations

import contextlib
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from taskmask.data.batch import TokenBatch


@contextlib.contextmanager
def read_only(batch: TokenBatch) -> Iterator[None]:
    """Makes tokens and maskable [B, T] read-only for a while: a policy that wrote to them would corrupt the text that
    the model learns from, or get round the check of its own mask."""
    arrays = [array for array in (batch.tokens, batch.maskable) if array.flags.writeable]
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


def failing_line(error: BaseException) -> traceback.FrameSummary:
    """Returns the policy's own line that failed: not that of numpy, nor of what calls and helps policies."""
    frames = list(traceback.extract_tb(error.__traceback__))
    helpers = [str(Path(np.__file__).parent), *(str(Path(__file__).with_name(f"{n}.py")) for n in ("base", "row"))]
    return ([frame for frame in frames if not frame.filename.startswith(tuple(helpers))] or frames)[-1]


def undeclared_column(error: BaseException, batch: TokenBatch) -> str:
    """Returns the column that a policy reads without having named it, "" where it failed otherwise."""
    if not isinstance(error, KeyError) or not error.args or error.args[0] in batch.columns:
        return ""
    return str(error.args[0]) if ".columns[" in (failing_line(error).line or "") else ""


def described(array: np.ndarray) -> str:
    """Says what it is: "int64 [4, 20]"; of what is no array its type."""
    if array.ndim or array.dtype != object:
        return f"{array.dtype} {list(array.shape)}"
    return "None" if array.item() is None else f"a {type(array.item()).__name__} that is no array"
