"""Uniform masking: every token alike."""

import numpy as np

from taskmask.data.batch import TokenBatch
from taskmask.data.rng import RowRng
from taskmask.maskers.base import Masker, highest, random_keys, register_masker


@register_masker("uniform", promises=("exact_budget", "mean_budget"))
class Uniform(Masker):
    """Masks tokens drawn uniformly without replacement: exactly the budget in every row.

    **Source:** Devlin et al. 2019 (BERT), section 3.1; Liu et al. 2019 (RoBERTa), section 4.1, draws anew every epoch,
    as is done here.
    """

    def units(self, batch: TokenBatch, rng: RowRng) -> np.ndarray:
        """Returns int64 [B, T]: each token by itself."""
        return np.broadcast_to(np.arange(batch.shape[1]), batch.shape)

    def select(self, batch: TokenBatch, rng: RowRng) -> np.ndarray:
        """Returns bool [B, T]."""
        return highest(random_keys(batch.maskable, "uniform", rng), self.budget(batch, rng))
