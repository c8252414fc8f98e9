"""The one thing the trainer trains: a model and its criterion, wrapped together so that the loss is inside DDP."""

from __future__ import annotations

from torch import Tensor, nn

from taskmask.criteria.base import Criterion
from taskmask.data.rows import Batch
from taskmask.models.base import Model


class Objective(nn.Module):
    """Model and criterion as one module: every forward pass, inner step and learned loss happens in its forward.

    Args:
        model: the network.
        criterion: turns its outputs into sums.
    """

    def __init__(self, model: Model, criterion: Criterion):
        super().__init__()
        self.model, self.criterion = model, criterion

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Returns the sums of the batch's losses and statistics."""
        return self.criterion(self.model, batch)


def weighted_total(sums: dict[str, Tensor], counts: dict[str, float], weights: dict[str, float]) -> Tensor:
    """Returns this micro-batch's part of the step's loss: the sum of weight * sum / count over the losses.

    Args:
        sums: the sums of this micro-batch.
        counts: targets of each loss in the whole step, over all micro-batches and processes.
        weights: the criterion's weights.
    """
    parts = [weight * sums[name] / max(counts[name], 1.0) for name, weight in weights.items()]
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total
