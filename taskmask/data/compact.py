"""Rows of which only some tokens are kept, put together again without holes.

Shapes: N rows, T tokens in the longest row, L tokens in the longest one that is left.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np


def compact(values: np.ndarray, kept: np.ndarray, fill: int) -> np.ndarray:
    """Returns [N, L]: of [N, T] values those that are kept (bool [N, T]), in their order, then `fill`."""
    lengths = kept.sum(axis=1)
    out = np.full((len(values), int(lengths.max(initial=0))), fill, values.dtype)
    row, place = np.nonzero(kept)
    out[row, np.arange(len(row)) - np.repeat(np.cumsum(lengths) - lengths, lengths)] = values[row, place]
    return out


def by_length(lengths: np.ndarray, max_tokens: int) -> Iterator[np.ndarray]:
    """Yields the numbers of rows, a batch after the other, rows of like lengths together.

    Args:
        lengths: int [N], tokens of each row.
        max_tokens: of a batch, padding included; a longer row is a batch of its own.
    """
    order = np.argsort(lengths, kind="stable")
    start = 0
    while start < len(order):
        sizes = lengths[order[start:]] * np.arange(1, len(order) - start + 1)
        stop = start + max(1, int(np.searchsorted(sizes, max_tokens, side="right")))
        yield order[start:stop]
        start = stop
