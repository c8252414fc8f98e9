"""What a training of an experiment would take, seen from its data and from a model without weights."""

from __future__ import annotations

import dataclasses
import itertools
from dataclasses import dataclass
from typing import Any

import torch

from taskmask.analysis.compare.cost import Shape, flops, seen_by_a_token, shape_of
from taskmask.analysis.compare.results import Cost
from taskmask.checkpoints.read import HEADS, POSITIONS
from taskmask.config.settings import Settings
from taskmask.data.batching import plan_epoch
from taskmask.errors import ConfigError
from taskmask.models.base import Model
from taskmask.registry import CRITERIA, MODELS
from taskmask.tasks.base import Task
from taskmask.training.build import DataParts
from taskmask.training.data_loader import BatchMaker, Position, training_tickets
from taskmask.training.train import in_steps

SAMPLE = 64  # batches whose tokens and targets are counted


@dataclass(frozen=True)
class Measured:
    """What planning found out about the settings of a stage.

    Args:
        settings: with the number of steps; train.epochs is as it was.
        parts: the data.
        shape: of the model.
        tokens: of a step, on average.
        targets: of a step, on average.
        length: tokens that a token sees, on average.
        steps: of the stage.
    """

    settings: Settings
    parts: DataParts
    shape: Shape
    tokens: float
    targets: float
    length: float
    steps: int

    def cost(self, steps: int) -> Cost:
        """What a number of steps will cost."""
        tokens, targets = steps * self.tokens, steps * self.targets
        return Cost(steps, tokens, targets, flops(self.shape, tokens, targets, self.length))


def measure(settings: Settings, parts: DataParts) -> Measured:
    """Looks at the data and the model of a training.

    Raises:
        ConfigError: its warm-up does not fit its steps.
    """
    resolved = in_steps(settings, parts)
    task = parts.task
    width = getattr(settings.model.options, "width", 0)
    shape = shape_of(_without_weights(settings, task), task.heads(), task.vocab.size, width)
    tokens, targets = per_step(resolved, parts)
    length = seen_by_a_token(parts.sources["train"].lengths)
    return Measured(settings, parts, shape, tokens, targets, length, resolved.train.steps)


def per_step(settings: Settings, parts: DataParts) -> tuple[float, float]:
    """Returns the tokens and targets of a step, on average over the first batches that the run would train on.

    Their rows are those of the run; their masks are drawn as at places spread over it, since a ratio may change.
    """
    source, task, train = parts.sources["train"], parts.task, settings.train
    maker, criterion = BatchMaker(parts, "train", settings), CRITERIA.get(settings.criterion.name)
    counting = criterion.make(settings.criterion.options)
    counting.prepare(task.class_names, task.class_counts)
    epoch = len(plan_epoch(source.lengths, train.seed, 1, train.max_tokens, task.views))
    tickets = training_tickets(source.lengths, settings, task.views, Position(), 0, 1, task.turns)
    some = list(itertools.islice(tickets, min(epoch, SAMPLE)))
    tokens = targets = 0.0
    for number, ticket in enumerate(some):
        rng = dataclasses.replace(ticket.rng, progress=(number + 0.5) / len(some))
        batch = maker.make(dataclasses.replace(ticket, rng=rng))
        tokens += batch.num_tokens
        targets += sum(counting.count(batch.map(torch.from_numpy)).values())
    of_a_step = train.micro_batches_per_step / len(some)
    return tokens * of_a_step, targets * of_a_step


def check_same_body(settings: Settings, first: Settings, task: Task) -> None:
    """Raises a ConfigError where a model cannot take the weights of the first stage, heads apart."""
    if settings.model == first.model:
        return
    own, of_first = _body(settings, task), _body(first, task)
    for name in sorted(own.keys() | of_first.keys()):
        if own.get(name) != of_first.get(name):
            shown, expected = (f"{list(one[name])}" if name in one else "nothing" for one in (own, of_first))
            raise ConfigError(
                f"has another model than the first stage, whose weights it begins with: {name} is {shown}",
                where="model",
                expected=expected,
                fix="leave section model out, so that it is that of the first stage",
            )


def _body(settings: Settings, task: Task) -> dict[str, tuple[int, ...]]:
    """Returns {name of a weight: its shape}; heads and the table of positions, which may change, are left out."""
    model = _without_weights(settings, task)
    shapes = {f"model.{name}": tuple(p.shape) for name, p in model.named_parameters()}
    return {name: shape for name, shape in shapes.items() if not name.startswith((HEADS, *POSITIONS))}


def _without_weights(settings: Settings, task: Task) -> Model:
    """Returns a model whose weights have shapes and no content, where it can be made so."""
    entry, heads = MODELS.get(settings.model.name), task.heads()
    sizes: dict[str, Any] = {"vocab_size": task.vocab.size, "max_length": settings.data.length, "heads": heads}
    try:
        with torch.device("meta"):
            return entry.make(settings.model.options, **sizes)
    except (ConfigError, NotImplementedError, RuntimeError):  # what a model of a plug-in may do in its constructor
        return entry.make(settings.model.options, **sizes)
