"""The evaluation loop: losses and metrics of a model over a whole split, with masks that never change."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from taskmask.config.settings import Settings
from taskmask.criteria.base import Criterion
from taskmask.data.batch import Batch
from taskmask.data.sequences.base import Source
from taskmask.errors import ConfigError, did_you_mean
from taskmask.system.failpoints import reach
from taskmask.tasks.base import Answers, Task
from taskmask.training.build import DataParts
from taskmask.training.data_loader import BatchMaker, batches, frozen_tickets, on_device
from taskmask.training.distributed import World
from taskmask.training.objective import Objective
from taskmask.training.precision import autocast

STOP_EVERY, SHOWN_ROWS = 16, 4


@dataclasses.dataclass(frozen=True)
class Found:
    """What a model gave over a split.

    Args:
        totals: sums and counts of the objective.
        answers: the records of the task, ordered by their rows; empty where they were not asked for.
    """

    totals: dict[str, float]
    answers: Answers


@torch.no_grad()
def find_over(
    objective: Objective,
    maker: BatchMaker,
    world: World,
    device: torch.device,
    *,
    with_answers: bool,
    most: int | None = None,
    advance: Callable[[int], Any] = lambda rows: None,
    asked_to_stop: Callable[[], bool] = lambda: False,
) -> Found | None:
    """Returns the sums and counts of the objective over a split, and the task's answers, over all processes.

    Args:
        objective: gives the sums of a batch; put into evaluation mode meanwhile.
        maker: makes the batches of the split.
        world: the processes that share the work.
        device: where the objective lives.
        with_answers: whether the task is asked for its answers.
        most: batches to look at; None: all.
        advance: called with the rows of each batch that is done.
        asked_to_stop: called now and then, by all processes together; None is returned where it says yes.
    """
    train = maker.settings.train
    tickets = frozen_tickets(maker.source.lengths, train.max_tokens, maker.task.views)[:most]
    shared = len(tickets) // world.size  # batches that every process has
    # a process that has none does the first for the names of the sums alone
    mine = tickets[world.rank :: world.size] or tickets[:1]
    counts_here = world.rank < len(tickets)
    was_training = objective.training
    objective.eval()
    totals: dict[str, Any] = {}
    records: list[Answers] = []
    for number, (_, batch) in enumerate(batches(mine, maker, device)):
        reach("validation.batch")
        if number % STOP_EVERY == 0 and number < max(shared, 1) and asked_to_stop():
            return None
        with autocast(device, train.precision):
            sums, answers = _asked(objective, maker, batch, with_answers)
        counts = {f"{name}_count": count for name, count in objective.criterion.count(batch).items()}
        parts: dict[str, Any] = {**{name: value.double() for name, value in sums.items()}, **counts}
        parts["tokens"] = batch.num_tokens
        for name, value in parts.items():
            totals[name] = totals.get(name, 0.0) + value * counts_here
        records += [answers] if counts_here else []
        advance(len(batch.ids))
    objective.train(was_training)
    names = sorted(totals)
    summed = dict(zip(names, world.sum([float(totals[name]) for name in names]), strict=True))
    return Found(summed, _in_order(world.collect(_joined(records))) if with_answers else {})


def _asked(
    objective: Objective, maker: BatchMaker, batch: Batch, with_answers: bool
) -> tuple[dict[str, Tensor], Answers]:
    """Returns the sums of a batch and, of the same forward pass, the task's answers; then the generated texts.

    A criterion with a `forward` of its own makes its own passes for the sums.
    """
    criterion = objective.criterion
    if not with_answers or type(maker.task).answers is Task.answers:
        return objective(batch), {}
    outputs = objective.model(**batch.inputs)
    losses = criterion.each(outputs, batch) if criterion.says_each else {}
    answers = maker.task.answers(outputs, batch, losses)
    answers |= maker.task.generate(objective.model, batch, maker.source)
    is_plain = type(criterion).forward is Criterion.forward
    return criterion.loss(outputs, batch) if is_plain else objective(batch), answers


def _joined(records: list[Answers]) -> Answers:
    return {name: np.concatenate([part[name] for part in records]) for name in records[0]} if records else {}


def _in_order(parts: list[Answers]) -> Answers:
    """Joins the records of all processes, in the order of the rows, so that it does not matter who had which."""
    joined = _joined([part for part in parts if part])
    if not joined:
        return joined
    order = np.argsort(joined["ids"], kind="stable")
    return {name: values[order] for name, values in joined.items()}


def metrics_of(task: Task, found: Found, source: Source) -> dict[str, float]:
    """Returns the metrics of the sums and of the answers; those that validations in training take win.

    The loss is that of the sums: the one that is trained.
    """
    of_sums, of_answers = task.metrics(found.totals), {}
    if found.answers:
        of_answers = task.measure(found.answers, source).value()
    both = {**of_sums, **of_answers} if task.measured_in_training else {**of_answers, **of_sums}
    both["loss"] = of_sums["loss"]
    return {name: float(value) for name, value in both.items()}  # numbers of numpy are no JSON, and no checkpoint


def undefined(metrics: Mapping[str, float], targets: float, split: str) -> str:
    """Returns a warning that names the undefined metrics, and why they are, if that is known; "" without one."""
    names = [name for name, value in metrics.items() if math.isnan(value)]
    why = "" if targets else "nothing is to be predicted, so "
    return f"warning: split {split}: {why}undefined: {', '.join(names)}" if names else ""


def check_metric(
    parts: DataParts, settings: Settings, objective: Objective, world: World, device: torch.device
) -> None:
    """Tries on a few rows whether validations in training will give the metric that `train.metric` names, if any.

    Raises:
        ConfigError: they will not.
    """
    if settings.train.metric and "valid" in parts.sources:
        task, maker = parts.task, BatchMaker(parts, "valid", settings)
        found = find_over(objective, maker, world, device, with_answers=task.measured_in_training, most=1)
        assert found is not None  # nobody asked it to stop
        more = "" if getattr(task.config, "validate", True) else "for more of them --task.validate true"
        value_of(metrics_of(task, found, maker.source), settings.train.metric, more)


def value_of(metrics: dict[str, float], name: str, more: str = "") -> float:
    """Returns the metric that `train.metric` names.

    Raises:
        ConfigError: there is none of that name; `more` says how to come by further ones.
    """
    if name not in metrics:
        fix = did_you_mean(name, metrics) or more
        raise ConfigError(f"is {name!r}", where="train.metric", expected=f"one of {', '.join(metrics)}", fix=fix)
    return metrics[name]


@torch.no_grad()
def guesses(objective: Objective, maker: BatchMaker, device: torch.device) -> list[str]:
    """Returns the same few rows of a split each time, with the model's answers of now, for people to read."""
    train = maker.settings.train
    ticket = frozen_tickets(maker.source.lengths, train.max_tokens, maker.task.views)[0]
    few = dataclasses.replace(ticket, ids=ticket.ids[:SHOWN_ROWS], rng=ticket.rng.take(slice(SHOWN_ROWS)))  # type: ignore[arg-type]
    arrays = maker.make(few)
    objective.eval()
    with autocast(device, train.precision):
        outputs = objective.model(**on_device(arrays, device).inputs)
    objective.train()
    return maker.task.show(arrays, {name: tensor.float().cpu() for name, tensor in outputs.items()})
