"""What tasks share whose targets are tokens of the vocabulary: their metrics, over all rows and row by row."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from taskmask.data.rows import Batch
from taskmask.data.source import Source
from taskmask.metrics.bootstrap import Measure
from taskmask.metrics.limits import LOSS, PERPLEXITY, Limits
from taskmask.tasks.base import Answers, Task, Totals, mean_loss

if TYPE_CHECKING:
    import torch


class TokenTask(Task):
    """A task whose targets are tokens of the vocabulary, all of one kind.

    Attributes:
        kind: name of its head, its loss and its targets.
        holds: the input, [N, T], into which the positions of its targets point.
    """

    kind: str
    holds: str = "tokens"

    def metrics(self, totals: Totals) -> dict[str, float]:
        """Mean loss in nats, its exponential, and accuracy, all over the targets."""
        count = max(totals[f"{self.kind}_count"], 1)
        found = mean_loss(totals, self.kind, count)
        perplexity, accuracy = math.exp(min(found["loss"], 100.0)), totals[f"{self.kind}_correct"] / count
        return {**found, "perplexity": perplexity, "accuracy": accuracy}

    def answers(self, outputs: dict[str, torch.Tensor], batch: Batch) -> Answers:
        """Loss in nats, hits and targets of every row of the batch, views apart."""
        import torch
        import torch.nn.functional as F

        logits, labels = outputs[self.kind].float(), batch.targets[self.kind]
        num_rows, num_tokens = batch.inputs[self.holds].shape
        row = batch.inputs["positions"][self.kind] // num_tokens
        losses = F.cross_entropy(logits, labels, reduction="none").double()
        parts = torch.stack([losses, (logits.argmax(-1) == labels).double(), torch.ones_like(losses)])
        sums = torch.zeros(3, num_rows, dtype=torch.float64, device=logits.device).index_add_(1, row, parts)
        loss, correct, count = sums.cpu().numpy()
        ids = np.tile(np.asarray(batch.ids), num_rows // len(batch.ids))
        return {"ids": ids, "loss": loss, "correct": correct, "count": count}

    def measure(self, answers: Answers, source: Source) -> Measure:
        """The metrics by rows."""
        table = np.stack([answers["loss"], answers["correct"], answers["count"]])

        def metrics(index: np.ndarray) -> dict[str, float]:
            loss, correct, count = table[:, index].sum(1)
            return self.metrics({self.kind: loss, f"{self.kind}_correct": correct, f"{self.kind}_count": count})

        limits = {"loss": LOSS, "perplexity": PERPLEXITY, "accuracy": Limits(0, 1, int((table[2] > 0).sum()))}
        return Measure(table.shape[1], metrics, limits)
