"""Losses and metrics of a model over a whole split, with masks that never change."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch

from taskmask.config import Assignment, from_tables
from taskmask.faults import reach
from taskmask.settings import parse
from taskmask.training import distributed, pretrained
from taskmask.training.distributed import World
from taskmask.training.loader import BatchMaker, batches, frozen_tickets, workers_watched
from taskmask.training.objective import Objective
from taskmask.training.parts import build_data
from taskmask.training.precision import autocast, speed_up_fp32

STOP_EVERY = 16


@torch.no_grad()
def total_over(
    objective: Objective,
    maker: BatchMaker,
    world: World,
    device: torch.device,
    advance: Callable[[int], Any] = lambda rows: None,
    asked_to_stop: Callable[[], bool] = lambda: False,
) -> dict[str, float] | None:
    """Returns the sums and counts of the objective over a split, over all processes.

    Args:
        objective: gives the sums of a batch; put into evaluation mode meanwhile.
        maker: makes the batches of the split.
        world: the processes that share the work.
        device: where the objective lives.
        advance: called with the rows of each batch that is done.
        asked_to_stop: called now and then, by all processes together; None is returned where it says yes.
    """
    train = maker.settings.train
    tickets = frozen_tickets(maker.source.lengths, train.max_tokens, maker.task.views)
    shared = len(tickets) // world.size  # batches that every process has
    # a process that has none does the first for the names of the sums alone
    mine = tickets[world.rank :: world.size] or tickets[:1]
    was_training = objective.training
    objective.eval()
    totals: dict[str, float | torch.Tensor] = {}
    for number, (_, batch) in enumerate(batches(mine, maker, device)):
        reach("validation.batch")
        if number % STOP_EVERY == 0 and number < max(shared, 1) and asked_to_stop():
            return None
        with autocast(device, train.precision):
            sums = objective(batch)
        counts = {f"{name}_count": count for name, count in objective.criterion.count(batch).items()}
        parts = {**{name: value.double() for name, value in sums.items()}, **counts, "tokens": batch.num_tokens}
        for name, value in parts.items():
            totals[name] = totals.get(name, 0.0) + value * (world.rank < len(tickets))
        advance(len(batch.ids))
    objective.train(was_training)
    names = sorted(totals)
    return dict(zip(names, world.sum([float(totals[name]) for name in names]), strict=True))


def evaluate(
    source: str,
    data: str | Mapping[str, Any] = "",
    split: str = "valid",
    overrides: Iterable[Assignment] = (),
    advance: Callable[[int], Any] = lambda rows: None,
    **sections: Any,
) -> dict[str, Any]:
    """Returns the metrics of a checkpoint on a split of a dataset.

    Args:
        source: a run folder (its best checkpoint) or one checkpoint.
        data: dataset folder, or settings of the section; where none is given, that of the run.
        split: name of the split.
        overrides: settings that differ from the run's, as flags or files give them.
        advance: called with the rows of each batch that is done.
        sections: the same in Python: `masker="span"`, `masker={"name": "span", "ratio": 0.3}`, `train={...}`.

    Returns:
        {"loss": ..., "perplexity": ..., "accuracy": ..., "targets": ..., "rows": ..., ...}.

    Raises:
        CheckpointError: the checkpoint is damaged or was made with another vocabulary than the dataset.
        DataError: there is no such split.
    """
    loaded = pretrained.load(source)
    own = from_tables(loaded.settings.to_dict(), str(loaded.file))
    given = from_tables({**({"data": data} if data else {}), **sections}, "evaluate")
    settings = parse([*own, *given, *overrides])
    loaded.check_vocabulary(settings.data.path)
    world, device = distributed.join(settings.run)
    speed_up_fp32(device)
    parts = build_data(settings, [split])
    objective = loaded.objective(settings, parts.task).to(device)
    maker = BatchMaker(parts, split, settings)
    with distributed.peers_watched(world), workers_watched(settings.data.path):
        totals = total_over(objective, maker, world, device, advance)
    distributed.leave()
    assert totals is not None  # nobody asked it to stop
    metrics = parts.task.metrics(totals)
    masker = settings.masker
    return {
        **metrics,
        "targets": int(sum(totals[f"{name}_count"] for name in objective.criterion.weights)),
        "tokens": int(totals["tokens"]),
        "rows": len(maker.source),
        "split": split,
        "masker": None if masker is None else {"name": masker.name, **dataclasses.asdict(masker.options)},
        "checkpoint": str(Path(loaded.file)),
        "step": loaded.step,
    }
