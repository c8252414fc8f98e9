"""CORRUPT: from chosen positions to the tokens that the model sees. Plain functions, the same for every masker.

Shapes: B rows, T tokens, K views.
"""

from __future__ import annotations

import numpy as np

from taskmask.data.draws import Draw
from taskmask.data.rows import Rows


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
    num_rows, num_tokens = rows.shape
    ordinary = np.flatnonzero(~rows.vocab.is_special)
    out = np.empty((mask.shape[0], num_rows, num_tokens), dtype=np.int64)
    for view, chosen in enumerate(mask):
        roll = draw.uniform(f"replace.{view}", num_tokens)
        roll = np.take_along_axis(roll, units(rows, chosen, per), axis=1)
        random = (draw.uniform(f"random.{view}", num_tokens) * len(ordinary)).astype(np.int64)
        tokens = np.where(chosen & (roll < mask_share), rows.vocab.mask, rows.tokens)
        other = chosen & (roll >= mask_share) & (roll < mask_share + random_share)
        out[view] = np.where(other, ordinary[random], tokens)
    return out.reshape(-1, num_tokens)  # [K*B, T]
