"""Masking units of several words, which a column lists, and whole words elsewhere."""

from __future__ import annotations

import dataclasses

import numpy as np

from taskmask.config import opt
from taskmask.data.batch import TokenBatch
from taskmask.data.rng import RowRng
from taskmask.maskers.base import Masker, MaskerConfig, register_masker, sample_units
from taskmask.maskers.runs import spans_of, token_column
from taskmask.tokenizer.tokenizer import Vocabulary


@dataclasses.dataclass(frozen=True)
class WholeUnitConfig(MaskerConfig):
    """Options of masking whole units."""

    column: str = opt("spans", "column with the number of the unit of each token, 0 where the word is the unit")


@register_masker("whole_unit", config=WholeUnitConfig, promises=("mean_budget", "whole_words"))
class WholeUnit(Masker):
    """Masks whole units: what a column puts together, such as a collocation or a name, or else one word.

    Every token of a row is as likely as any other, whatever the size of its unit; a row misses its budget by less than
    one unit, and on average not at all. Units never end within a word, even where those of the column do.

    **Source:** Levine et al. 2021 (PMI-Masking, arXiv 2010.01825), section 4: collocations, of a column that `taskmask
    spans --collocations` writes; Sun et al. 2019 (ERNIE, arXiv 1904.09223), section 3.2: phrases and entities. Differs
    from PMI-Masking: which of two overlapping collocations counts is drawn once, when the column is written.
    """

    config: WholeUnitConfig

    def __init__(self, config: WholeUnitConfig, vocab: Vocabulary):
        super().__init__(config, vocab)
        self.columns = (config.column,)

    def units(self, batch: TokenBatch, rng: RowRng) -> np.ndarray:
        """Returns int64 [B, T], the number of each token's unit; -1 at special tokens."""
        words, spans = batch.words, spans_of(token_column(batch, self.config.column, "masker.column"))
        starts = np.ones(batch.shape, bool)
        starts[:, 1:] = words[:, 1:] != words[:, :-1]
        starts[:, 1:] &= (spans[:, 1:] < 0) | (spans[:, 1:] != spans[:, :-1]) | (words[:, :-1] < 0)
        return np.where(words < 0, -1, np.cumsum(starts, axis=1) - 1)

    def select(self, batch: TokenBatch, rng: RowRng) -> np.ndarray:
        """Returns bool [B, T]."""
        return sample_units(self.units(batch, rng), batch.maskable, self.budget(batch, rng), rng)
