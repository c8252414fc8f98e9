"""Cross-entropy of a text that a decoder writes.

Shapes: P target positions, V vocabulary.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from taskmask.criteria.base import Criterion
from taskmask.data.batch import Batch


class Seq2SeqCriterion(Criterion):
    """Sum over the tokens of the target texts of -log p(token), in nats, and how many of them were guessed right.

    Smoothing shapes the training, which also sums the plain loss ("seq2seq_plain"); validation measures the plain loss
    alone.

    **Source:** Sutskever et al. 2014 (arXiv 1409.3215), section 3; Szegedy et al. 2016 (arXiv 1512.00567), section 7
    (label smoothing).
    """

    weights = {"seq2seq": 1.0}  # noqa: RUF012 - other criteria have their own in each instance

    def count(self, batch: Batch) -> dict[str, float]:
        """Tokens of the targets."""
        return {"seq2seq": len(batch.targets["seq2seq"])}

    def each(self, outputs: dict[str, Tensor], batch: Batch) -> dict[str, Tensor]:
        """Logits float [P, V] against labels int64 [P]."""
        return {"seq2seq": F.cross_entropy(outputs["seq2seq"].float(), batch.targets["seq2seq"], reduction="none")}

    def loss(self, outputs: dict[str, Tensor], batch: Batch) -> dict[str, Tensor]:
        """Logits float [P, V] against labels int64 [P]; with P = 0 the sum is 0."""
        logits, labels = outputs["seq2seq"].float(), batch.targets["seq2seq"]
        smoothing = self.config.label_smoothing if self.training else 0.0
        sums = {
            "seq2seq": self.each(outputs, batch)["seq2seq"].sum(),
            "seq2seq_correct": (logits.detach().argmax(-1) == labels).sum(dtype=torch.float32),
        }
        if smoothing:
            sums["seq2seq_plain"] = sums["seq2seq"].detach()
            sums["seq2seq"] = F.cross_entropy(logits, labels, reduction="sum", label_smoothing=smoothing)
        return sums
