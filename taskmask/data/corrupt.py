"""CORRUPT: from chosen positions to the tokens that the model sees. Plain functions, the same for every masker.

Shapes: B rows, T tokens, K views.
"""

from __future__ import annotations

import functools

import numpy as np

from taskmask.data.draws import Draw
from taskmask.data.rows import Rows
from taskmask.data.vocab import Vocabulary

_HALF, _LOWER_HALF = np.uint64(32), np.uint64(0xFFFFFFFF)


def units(rows: Rows, mask: np.ndarray, per: str) -> np.ndarray:
    """Returns int [B, T], equal numbers at positions of one row that are replaced in the same way.

    Args:
        mask: bool [B, T], the chosen positions.
        per: "token", "word", or "span": a run of neighbouring chosen positions.
    """
    num_tokens = rows.tokens.shape[1]
    if per == "token":
        return np.broadcast_to(np.arange(num_tokens), mask.shape)
    if per == "word":
        return np.maximum(rows.words, 0)
    starts = mask & ~np.pad(mask, ((0, 0), (1, 0)))[:, :-1]
    return np.maximum(np.cumsum(starts, axis=1) - 1, 0)


def replace_tokens(
    rows: Rows,
    mask: np.ndarray,
    draw: Draw,
    *,
    mask_share: float = 0.8,
    random_share: float = 0.1,
    per: str = "token",
) -> np.ndarray:
    """Replaces the chosen tokens: by `<mask>`, by a random piece, or by themselves, decided once per unit.

    Args:
        rows: the rows, tokens [B, T].
        mask: bool [K, B, T], the chosen positions of each view.
        draw: the rows' random numbers.
        mask_share: share of units that become `<mask>`.
        random_share: share whose tokens become random pieces, drawn uniformly from all that are not special.
        per: the unit that shares one decision: "token", "word" or "span".

    Returns:
        int64 [K*B, T], view by view. Positions that were not chosen are unchanged.

    **Source:** Devlin et al. 2019, section 3.1 (80/10/10 per token); Joshi et al. 2020, section 3.1 (per span).
    """
    ordinary = _ordinary_pieces(rows.vocab)
    mask_below, random_below = (np.uint64(round(share * 2**32)) for share in (mask_share, mask_share + random_share))
    num_tokens = rows.tokens.shape[1]
    out = np.empty(mask.shape, dtype=np.int64)
    out[:] = rows.tokens
    for view, chosen in enumerate(mask):
        stream, index = f"replace.{view}", np.flatnonzero(chosen)
        number = draw.bits_at(stream, num_tokens, index)
        roll = number >> _HALF
        if per != "token":
            unit = index // num_tokens * num_tokens + units(rows, chosen, per).reshape(-1).take(index)
            roll = draw.bits_at(stream, num_tokens, unit) >> _HALF
        random = ordinary.take((number & _LOWER_HALF) * np.uint64(len(ordinary)) >> _HALF)
        old = rows.tokens.reshape(-1).take(index)
        new = np.where(roll < mask_below, rows.vocab.mask, np.where(roll < random_below, random, old))
        out[view].reshape(-1)[index] = new
    return out.reshape(-1, num_tokens)  # [K*B, T]


@functools.lru_cache(maxsize=4)
def _ordinary_pieces(vocab: Vocabulary) -> np.ndarray:
    """Returns int64, the ids of all pieces that are not special."""
    return np.flatnonzero(~vocab.is_special)
