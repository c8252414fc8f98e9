"""Policies that are written for one row at a time.

Shapes: T tokens of the row.
"""

from __future__ import annotations

import numpy as np

from taskmask.data.batch import TokenBatch
from taskmask.data.rng import RowRng
from taskmask.errors import ConfigError
from taskmask.maskers.base import Masker
from taskmask.maskers.exchange import as_array, described


class RowMasker(Masker):
    """A policy written for one row at a time: easier to write, slower than one over the batch."""

    def select_row(self, tokens: np.ndarray, maskable: np.ndarray, budget: int, random: np.ndarray) -> np.ndarray:
        """Returns bool [T] for one row.

        Args:
            tokens: int64 [T], without padding.
            maskable: bool [T].
            budget: tokens to choose.
            random: float64 [T], uniform in [0, 1), this row's own.
        """
        raise NotImplementedError(f"{type(self).__name__} must define select_row(tokens, maskable, budget, random)")

    def select(self, batch: TokenBatch, rng: RowRng) -> np.ndarray:
        """Calls `select_row` for each row."""
        mask = np.zeros(batch.shape, dtype=bool)
        budget, random = self.budget(batch, rng), rng.uniform("row", batch.shape[1])
        for i, length in enumerate(batch.lengths):
            row = slice(0, int(length))
            own = (batch.tokens[i, row], batch.maskable[i, row], int(budget[i]), random[i, row])
            chosen = as_array(self.select_row(*own))
            if chosen.dtype != np.bool_ or chosen.shape != (length,):
                raise ConfigError(
                    f"returned {described(chosen)} for row {batch.ids[i]}",
                    where=self._title(),
                    expected=f"bool [{length}]",
                    fix=self._remedy(),
                )
            mask[i, row] = chosen
        return mask
