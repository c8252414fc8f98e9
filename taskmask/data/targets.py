"""TARGET: from chosen positions to what the model must say there. Plain functions, the same for every masker."""

from __future__ import annotations

import numpy as np


def labels_in_place(tokens: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the flat positions of the chosen tokens in a batch of K*B rows, and the tokens that stood there.

    Args:
        tokens: int64 [B, T], before corruption.
        mask: bool [K, B, T].

    Returns:
        positions int64 [P] into the K*B*T tokens, and labels int64 [P].
    """
    positions = np.flatnonzero(mask)
    places = positions % tokens.size if len(mask) > 1 else positions  # every view holds the same B*T tokens
    labels = tokens.reshape(-1).take(places)
    return positions, labels
