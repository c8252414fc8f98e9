"""What a criterion is: it counts targets, and turns a model's outputs into sums of losses."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor, nn

from taskmask.data.batch import Batch


class Criterion(nn.Module):
    """Sums and counts, never means, so that accumulation and data parallelism are exact.

    The step's loss is the sum over `weights` of weight * sum / count, where sums and counts run over all
    micro-batches and processes of the step.

    Args:
        config: its options.

    Attributes:
        weights: {name of a loss: its weight}.
        blends: whether it gives the model the argument `blend`, other tokens by shares of their embeddings.
    """

    weights: dict[str, float]
    blends: bool = False

    def __init__(self, config: Any):
        super().__init__()
        self.config = config

    @staticmethod
    def differentiates_twice(config: Any) -> bool:
        """Says whether it goes through a gradient step of the model, which a compiled model cannot."""
        return False

    def prepare(self, class_names: list[str], class_counts: np.ndarray) -> None:
        """Is told once, before training, the names of the task's classes, and how often each is a target there."""

    def count(self, batch: Batch) -> dict[str, float]:
        """Returns the number of targets of each loss, known before the forward pass, or the sum of their weights."""
        raise NotImplementedError(f"{type(self).__name__} must define count(batch)")

    def each(self, outputs: dict[str, Tensor], batch: Batch) -> dict[str, Tensor]:
        """Returns the plain losses of single targets, float [targets] in the order of the batch.

        Their sums are the losses of `loss` in validation. `evaluate` computes the interval of the loss from them. By
        default {}: the loss then has no interval.
        """
        return {}

    def loss(self, outputs: dict[str, Tensor], batch: Batch) -> dict[str, Tensor]:
        """Returns the sum of each loss, with gradient, and any other sum worth logging (its name not in `weights`).

        Where something shapes a loss in training alone (smoothing, weights, a bonus), "NAME_plain" is the sum without
        it: that is logged as the loss, and what training minimises as the objective.
        """
        raise NotImplementedError(f"{type(self).__name__} must define loss(outputs, batch)")

    def forward(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Runs the model and returns what `loss` does. Override for several passes or an inner step."""
        return self.loss(model(**batch.inputs), batch)

    @property
    def says_each(self) -> bool:
        """Whether `each` belongs to `loss`: a subclass that changes `loss` or `forward` must define `each` again."""
        order = type(self).__mro__
        of_each, *others = (
            next(place for place, cls in enumerate(order) if name in vars(cls)) for name in ("each", "loss", "forward")
        )
        return of_each <= min(others)
