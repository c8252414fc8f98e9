"""Whole-word masking: all pieces of a word or none."""

import numpy as np

from taskmask.data.batch import TokenBatch
from taskmask.data.rng import RowRng
from taskmask.maskers.base import Masker, register_masker, sample_units


@register_masker("whole_word", promises=("budget_within_a_word", "mean_budget", "whole_words"))
class WholeWord(Masker):
    """Masks whole words; every token of a row is as likely as any other, whatever the length of its word.

    Where words start is the vocabulary's knowledge: at a blank, at and after punctuation, and at every piece of a
    script that is written without blanks (Chinese, Japanese, Thai, Lao, Khmer, Burmese), where a piece is the nearest
    thing to a word that is known. A row misses its budget by less than one word, and on average not at all.

    **Source:** the whole-word models of Devlin et al. 2019 (released May 2019). Differs from that code: the last word
    may pass the budget, where BERT's code leaves out a word that would and so masks long words too rarely.
    """

    def units(self, batch: TokenBatch, rng: RowRng) -> np.ndarray:
        """Returns int32 [B, T], the words."""
        return batch.words

    def select(self, batch: TokenBatch, rng: RowRng) -> np.ndarray:
        """Returns bool [B, T]."""
        return sample_units(self.units(batch, rng), batch.maskable, self.budget(batch, rng), rng)
