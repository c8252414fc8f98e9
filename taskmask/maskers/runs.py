"""What maskers share that choose runs of neighbouring units: given by a column, or laid out in a row.

Shapes: B rows, T tokens in the longest row, S runs, U units (tokens or words) of a row.
"""

from __future__ import annotations

import numpy as np

from taskmask.data.batch import TokenBatch
from taskmask.errors import ConfigError
from taskmask.maskers.base import highest


def token_column(batch: TokenBatch, name: str, where: str) -> np.ndarray:
    """Returns a column, [B, T].

    Args:
        batch: the rows.
        name: of the column.
        where: the setting that names it.

    Raises:
        ConfigError: the column has values of rows.
    """
    values = batch.columns[name]
    if values.shape != batch.shape:
        what = f"column {name!r} has a value for each row"
        fix = "write one of tokens: taskmask annotate, or taskmask spans"
        raise ConfigError(what, where=where, expected="one for each token", fix=fix)
    return values


def spans_of(values: np.ndarray) -> np.ndarray:
    """Returns int64 [B, T], from 0 in each row: the runs of equal values of [B, T] that are not 0; -1 where it is 0."""
    is_new = np.ones(values.shape, bool)
    is_new[:, 1:] = values[:, 1:] != values[:, :-1]
    return np.where(values != 0, np.cumsum(is_new, axis=1) - 1, -1)


def begins(keys: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Returns int64 [B, T]: how many tokens `inside` the row have a lower key; keys are numbers [B, T]."""
    num_tokens = keys.shape[1]
    order = np.argsort(np.where(inside, keys.astype(np.float64), np.inf), axis=1, kind="stable")
    ordered = np.take_along_axis(keys, order, axis=1)
    is_new = np.ones(keys.shape, dtype=bool)
    is_new[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    starts = np.empty(keys.shape, dtype=np.int64)
    lower = np.maximum.accumulate(np.where(is_new, np.arange(num_tokens), 0), axis=1)
    np.put_along_axis(starts, order, lower, axis=1)
    return starts


def composition(total: np.ndarray, parts: np.ndarray, keys: np.ndarray) -> np.ndarray:
    """Divides whole numbers into whole parts of at least 1, every way to do so as likely as any other.

    Args:
        total: int [B], each at least `parts`.
        parts: int [B]; 0 where the row gets nothing.
        keys: uint32 [B, U], random; U is at least the largest total.

    Returns:
        int64 [B, S], the parts of each row, then zeros.
    """
    num_rows, width = keys.shape
    place = np.arange(width)
    # `total` ones stand in a row; parts - 1 of the gaps between them are borders.
    cuts = np.where((place > 0) & (place < total[:, None]), np.maximum(keys, 1), 0)
    number = np.cumsum(highest(cuts, np.maximum(parts - 1, 0)), axis=1)
    most = max(int(parts.max(initial=1)), 1)
    counted = (place < total[:, None]) & (parts[:, None] > 0)
    flat = (number + np.arange(num_rows)[:, None] * most)[counted]
    return np.bincount(flat, minlength=num_rows * most).reshape(num_rows, most)


def laid_out(gaps: np.ndarray, spans: np.ndarray, width: int) -> np.ndarray:
    """Returns bool [B, width], True in the spans: a gap, a span, a gap, a span ... of these sizes, int [B, S] both."""
    num_rows = len(gaps)
    ends = np.cumsum(np.stack([gaps, spans], axis=2).reshape(num_rows, -1), axis=1)
    flat = np.minimum(ends, width) + np.arange(num_rows)[:, None] * (width + 1)
    changes = np.bincount(flat.reshape(-1), minlength=num_rows * (width + 1)).reshape(num_rows, width + 1)
    return np.cumsum(changes[:, :width], axis=1) % 2 == 1
