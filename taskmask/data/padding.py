"""Token ranges to rectangular arrays."""

from __future__ import annotations

import numpy as np


def gather(
    values: np.ndarray, starts: np.ndarray, stops: np.ndarray, bos: int, eos: int, pad: int
) -> tuple[np.ndarray, np.ndarray]:
    """Rows `<s> content </s>`, padded to the longest.

    Args:
        values: flat token ids, of any integer type.
        starts: first token of each row's content, int [B].
        stops: one past its last, int [B].
        bos: id put first in every row.
        eos: id put after the content.
        pad: id that fills up.

    Returns:
        tokens int64 [B, T], and lengths int64 [B] (`<s>` and `</s>` included).
    """
    starts, sizes = np.asarray(starts, np.int64), np.asarray(stops, np.int64) - starts
    lengths = sizes + 2
    tokens = np.full((len(starts), int(lengths.max(initial=0))), pad, np.int64)
    tokens[:, :1] = bos
    _fill(tokens, values, starts, sizes)
    tokens[np.arange(len(starts)), lengths - 1] = eos
    return tokens, lengths


def gather_aligned(values: np.ndarray, starts: np.ndarray, stops: np.ndarray, width: int, fill: float) -> np.ndarray:
    """Values of a token-aligned column beside the tokens of `gather`.

    Args:
        values: flat, one a token.
        starts: as for `gather`, int [B].
        stops: as for `gather`, int [B].
        width: T of the tokens.
        fill: what stands at `<s>`, `</s>` and padding.

    Returns:
        [B, T] of the type of `values`.
    """
    starts = np.asarray(starts, np.int64)
    out = np.full((len(starts), width), fill, values.dtype)
    _fill(out, values, starts, np.asarray(stops, np.int64) - starts)
    return out


def gather_pairs(
    values: tuple[np.ndarray, np.ndarray],
    starts: tuple[np.ndarray, np.ndarray],
    stops: tuple[np.ndarray, np.ndarray],
    bos: int,
    eos: int,
    pad: int,
    separators: int = 1,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows `<s> first </s> second </s>`, padded to the longest.

    Args:
        values: flat token ids of the first and of the second texts.
        starts: as for `gather`, int [B], of each.
        stops: as for `gather`, int [B], of each.
        bos: id put first in every row.
        eos: id put after each text.
        pad: id that fills up.
        separators: how many `</s>` stand between the two.

    Returns:
        tokens int64 [B, T], lengths int64 [B], and segments int64 [B, T]: 1 at the second text and its `</s>`, else 0.
    """
    begins = [np.asarray(part, np.int64) for part in starts]
    sizes = [np.asarray(stop, np.int64) - start for stop, start in zip(stops, begins, strict=True)]
    second = 1 + sizes[0] + separators  # where the second text begins
    lengths = second + sizes[1] + 1
    tokens = np.full((len(lengths), int(lengths.max(initial=0))), pad, np.int64)
    tokens[:, :1] = bos
    place = np.arange(tokens.shape[1])[None, :]
    tokens[(place > sizes[0][:, None]) & (place < second[:, None])] = eos
    tokens[np.arange(len(lengths)), lengths - 1] = eos
    _fill(tokens, values[0], begins[0], sizes[0])
    _fill(tokens, values[1], begins[1], sizes[1], second)
    segments = ((place >= second[:, None]) & (place < lengths[:, None])).astype(np.int64)
    return tokens, lengths, segments


def _fill(out: np.ndarray, values: np.ndarray, starts: np.ndarray, sizes: np.ndarray, at: int | np.ndarray = 1) -> None:
    """Copies values[start : start + size] to out[row, at : at + size]."""
    if isinstance(at, int) and len(sizes) and (sizes == sizes[0]).all():
        size = int(sizes[0])
        out[:, at : size + at] = values.take(starts[:, None] + np.arange(size))
        return
    if sizes.max(initial=0) >= out.shape[1] > 0:
        raise ValueError(f"{sizes.max()} values do not fit rows of {out.shape[1]}")
    before = np.cumsum(sizes) - sizes  # values of the rows above
    number = np.arange(sizes.sum())
    first = np.arange(len(sizes)) * out.shape[1] + at  # where each row's values go in the flat array
    here = number + np.repeat(first - before, sizes)
    out.reshape(-1)[here] = values.take(number + np.repeat(starts - before, sizes))
