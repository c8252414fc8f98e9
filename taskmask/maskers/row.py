"""Policies that are written for one row at a time.

Shapes: T tokens of the row.
"""

from __future__ import annotations

import numpy as np

from taskmask.data.draws import Draw
from taskmask.data.rows import Rows
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

    def select(self, rows: Rows, draw: Draw) -> np.ndarray:
        """Calls `select_row` for each row."""
        mask = np.zeros(rows.shape, dtype=bool)
        budget, random = self.budget(rows, draw), draw.uniform("row", rows.shape[1])
        for i, length in enumerate(rows.lengths):
            row = slice(0, int(length))
            own = (rows.tokens[i, row], rows.maskable[i, row], int(budget[i]), random[i, row])
            chosen = as_array(self.select_row(*own))
            if chosen.dtype != np.bool_ or chosen.shape != (length,):
                raise ConfigError(
                    f"returned {described(chosen)} for row {rows.ids[i]}",
                    where=self._title(),
                    expected=f"bool [{length}]",
                    fix=self._remedy(),
                )
            mask[i, row] = chosen
        return mask
