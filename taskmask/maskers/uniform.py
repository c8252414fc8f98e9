"""Uniform masking: every token alike."""

import numpy as np

from taskmask.data.draws import Draw
from taskmask.data.rows import Rows
from taskmask.maskers.base import Masker, highest, random_keys, register_masker


@register_masker("uniform", promises=("exact_budget", "mean_budget"))
class Uniform(Masker):
    """Masks tokens drawn uniformly without replacement: exactly the budget in every row.

    **Source:** Devlin et al. 2019 (BERT), section 3.1; Liu et al. 2019 (RoBERTa), section 4.1, draws anew every epoch,
    as is done here.
    """

    def select(self, rows: Rows, draw: Draw) -> np.ndarray:
        """Returns bool [B, T]."""
        return highest(random_keys(rows.maskable, "uniform", draw), self.budget(rows, draw))
