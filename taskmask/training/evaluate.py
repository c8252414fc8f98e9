"""Losses and metrics of a model over a whole split, with masks that never change."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from taskmask.config import Assignment, from_tables
from taskmask.settings import Settings, parse
from taskmask.training import distributed, pretrained
from taskmask.training.distributed import World
from taskmask.training.loader import BatchMaker, batches, frozen_tickets, workers_watched
from taskmask.training.objective import Objective
from taskmask.training.parts import build_data
from taskmask.training.precision import autocast, speed_up_fp32


@torch.no_grad()
def total_over(
    objective: Objective,
    maker: BatchMaker,
    settings: Settings,
    world: World,
    device: torch.device,
    advance: Callable[[int], Any] = lambda rows: None,
) -> dict[str, float]:
    """Returns the sums and counts of the objective over a split, over all processes.

    Args:
        objective: gives the sums of a batch; put into evaluation mode meanwhile.
        maker: makes the batches of the split.
        settings: token budget and precision.
        world: the processes that share the work.
        device: where the objective lives.
        advance: called with the rows of each batch that is done.
    """

    def totals_of(rank: int, world_size: int) -> Iterator[dict[str, float | torch.Tensor]]:
        lengths, budget, views = maker.source.lengths, settings.train.max_tokens, maker.task.views
        tickets = frozen_tickets(lengths, budget, views, rank, world_size)
        for _, batch in batches(tickets, maker, settings.run.workers, device):
            with autocast(device, settings.train.precision):
                sums = objective(batch)
            counts = {f"{name}_count": count for name, count in objective.criterion.count(batch).items()}
            yield {**{name: value.double() for name, value in sums.items()}, **counts, "tokens": batch.num_tokens}
            advance(len(batch.ids))

    was_training = objective.training
    objective.eval()
    totals: dict[str, float | torch.Tensor] = {}
    for parts in totals_of(world.rank, world.size):
        for name, value in parts.items():
            totals[name] = totals.get(name, 0.0) + value
    if not totals:  # more processes than micro-batches: this one learns the names of the sums from the first
        totals = dict.fromkeys(next(totals_of(0, 1)), 0.0)
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
    maker = BatchMaker(parts.sources[split], parts.task)
    with distributed.peers_watched(), workers_watched():
        totals = total_over(objective, maker, settings, world, device, advance)
    distributed.leave()
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
