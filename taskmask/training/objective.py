"""The one thing the trainer trains: a model and its criterion, wrapped together so that the loss is inside DDP."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from taskmask.criteria.base import Criterion
from taskmask.data.batch import Batch
from taskmask.models.base import Model
from taskmask.system.failpoints import reach
from taskmask.system.hardware import is_out_of_memory


class Objective(nn.Module):
    """Model and criterion as one module: every forward pass, inner step and learned loss happens in its forward.

    Args:
        model: the network.
        criterion: turns its outputs into sums.

    Attributes:
        lack_of_memory: what torch said when memory ran out in training; whoever reads it empties it.
    """

    def __init__(self, model: Model, criterion: Criterion):
        super().__init__()
        self.model, self.criterion = model, criterion
        self.lack_of_memory = ""

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Returns the sums of the batch's losses and statistics.

        Where memory runs out in training they are NaN, with a gradient at every parameter: so this process keeps its
        part in the exchange of gradients, and all processes skip the step.
        """
        try:
            reach("step.forward")
            return self.criterion(self.model, batch)
        except (MemoryError, RuntimeError) as error:
            if not (self.training and torch.is_grad_enabled() and is_out_of_memory(error)):
                raise
            self.lack_of_memory = str(error).split("\n")[0]
        nothing = torch.stack([p.sum() for p in self.parameters() if p.requires_grad]).sum() * math.nan
        return dict.fromkeys(self.criterion.weights, nothing)


def weighted_total(sums: dict[str, Tensor], counts: dict[str, float], weights: dict[str, float]) -> Tensor:
    """Returns this micro-batch's part of the step's loss: the sum of weight * sum / count over the losses.

    Args:
        sums: the sums of this micro-batch.
        counts: targets of each loss in the whole step, over all micro-batches and processes.
        weights: the criterion's weights.
    """
    parts = [weight * sums[name] / (counts[name] or 1.0) for name, weight in weights.items()]
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total
