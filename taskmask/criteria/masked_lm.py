"""Cross-entropy at the chosen positions."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from taskmask.criteria.base import Criterion
from taskmask.data.batch import Batch


class MaskedLMCriterion(Criterion):
    """Sum over the chosen positions of -log p(token), in nats, and how many of them were guessed right.

    **Source:** Devlin et al. 2019 (BERT), section 3.1, task 1.
    """

    weights = {"mlm": 1.0}  # noqa: RUF012 - other criteria have their own in each instance

    def count(self, batch: Batch) -> dict[str, float]:
        """Chosen positions."""
        return {"mlm": len(batch.targets["mlm"])}

    def each(self, outputs: dict[str, Tensor], batch: Batch) -> dict[str, Tensor]:
        """Logits float [P, V] against labels int64 [P]."""
        return {"mlm": F.cross_entropy(outputs["mlm"].float(), batch.targets["mlm"], reduction="none")}

    def loss(self, outputs: dict[str, Tensor], batch: Batch) -> dict[str, Tensor]:
        """Logits float [P, V] against labels int64 [P]; with P = 0 the sum is 0."""
        right = outputs["mlm"].detach().argmax(-1) == batch.targets["mlm"]
        return {"mlm": self.each(outputs, batch)["mlm"].sum(), "mlm_correct": right.sum(dtype=torch.float32)}
