"""What tasks share whose targets are tokens of the vocabulary: their metrics, over all rows and example by example."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from taskmask.data.batch import Batch
from taskmask.data.sequences.base import Source
from taskmask.stats.bootstrap import Measure
from taskmask.stats.limits import Limits
from taskmask.tasks.base import Answers, Task, Totals, by_example, losses_of, mean, mean_loss

if TYPE_CHECKING:
    import torch


class TokenTask(Task):
    """A task whose targets are tokens of the vocabulary.

    Attributes:
        kind: name of its head, its loss and its targets.
        holds: the input, [N, T], into which the positions of its targets point.
    """

    kind: str
    holds: str = "tokens"

    @property
    def kinds(self) -> tuple[str, ...]:
        """Names of all heads whose targets are measured."""
        return (self.kind,)

    def metrics(self, totals: Totals) -> dict[str, float]:
        """The loss, and over the targets perplexity and accuracy."""
        count = totals[f"{self.kind}_count"]
        surprise = mean_loss(totals, self.kind, count)["loss"]
        accuracy = mean(totals[f"{self.kind}_correct"], count)
        return {**self.joint_loss(totals), "perplexity": math.exp(min(surprise, 100.0)), "accuracy": accuracy}

    def answers(self, outputs: dict[str, torch.Tensor], batch: Batch, losses: dict[str, torch.Tensor]) -> Answers:
        """Of every row of the batch, views apart: the sum of its losses, its hits and its targets, of each kind."""
        import torch

        num_rows, num_tokens = batch.inputs[self.holds].shape
        found: Answers = {"ids": np.tile(np.asarray(batch.ids), num_rows // len(batch.ids))}
        for kind in self.kinds:
            logits, labels = outputs[kind], batch.targets[kind]
            places = batch.inputs["positions"].get(kind)
            row = torch.arange(num_rows, device=logits.device) if places is None else places // num_tokens
            hits, known = logits.argmax(-1) == labels, labels >= 0
            parts = torch.stack([losses_of(losses, kind, labels).double(), hits.double(), known.double()])
            sums = torch.zeros(3, num_rows, dtype=torch.float64, device=logits.device).index_add_(1, row, parts)
            found |= dict(zip(fields_of(kind), sums.cpu().numpy(), strict=True))
        return found

    def measure(self, answers: Answers, source: Source) -> Measure:
        """The metrics by examples: documents, with all of their rows and all masks of each row."""
        names = [name for kind in self.kinds for name in fields_of(kind)]
        table = by_example(answers, source, names)
        asked = table[2::3].any(axis=1)  # the kinds that have targets at all

        def metrics(index: np.ndarray) -> dict[str, float]:
            sums = table[:, index].sum(1)
            found = self.metrics(dict(zip(names, sums.tolist(), strict=True)))
            is_whole = bool(sums[2::3][asked].all())  # else the loss of a kind would be missing
            return found if is_whole else {**found, "loss": math.nan}

        with_targets = (table[2::3] > 0).sum(axis=1).tolist()
        return Measure(table.shape[1], metrics, self.limits(dict(zip(self.kinds, with_targets, strict=True))))

    def limits(self, examples: dict[str, int]) -> dict[str, Limits]:
        """Between which values each metric is.

        Args:
            examples: how many have targets, of each kind.
        """
        count = examples[self.kind]
        losses = {"loss": Limits(0, examples=count), "perplexity": Limits(1, examples=count)}
        return {**losses, "accuracy": Limits(0, 1, count)}


def fields_of(kind: str) -> tuple[str, str, str]:
    """Returns the names of the sum of losses, of the hits and of the targets of a kind, in records and totals."""
    return kind, f"{kind}_correct", f"{kind}_count"
