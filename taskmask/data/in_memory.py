"""A split that was never written: texts to predict, read as the rows of a dataset are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from taskmask.data.dataset import Column, Split


class MemorySplit(Split):
    """Rows in memory, with the columns that its reader asks for.

    Args:
        ragged: {column: a row's values each}; "tokens" among them, its rows closed by `</s>`.
        aligned: {column: the same, one value a token}.
    """

    def __init__(
        self, ragged: Mapping[str, Sequence[np.ndarray]], aligned: Mapping[str, Sequence[np.ndarray]] | None = None
    ):
        aligned = aligned or {}
        self._flat = {name: np.concatenate(rows) for name, rows in {**ragged, **aligned}.items()}
        self._offsets = {
            name: np.cumsum([0, *(len(row) for row in rows)], dtype=np.int64) for name, rows in ragged.items()
        }
        columns = {name: Column("ragged", self._flat[name].dtype.name) for name in ragged}
        columns |= {name: Column("aligned", self._flat[name].dtype.name, of="tokens") for name in aligned}
        super().__init__(Path("memory"), "memory", len(ragged["tokens"]), len(self._flat["tokens"]), columns)

    def values(self, name: str) -> np.ndarray:
        """All values of a column, flat."""
        self.column(name)
        return self._flat[name]

    def offsets(self, name: str) -> np.ndarray:
        """Row i of a column is `values[offsets[i]:offsets[i + 1]]`; int64 [rows + 1]."""
        return self._offsets[self.column(name).of or name]
