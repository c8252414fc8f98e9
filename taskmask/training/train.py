"""The composition root: from settings to a trained model. Every part is made here, once, in the order of the data."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import os
import time
from pathlib import Path

import torch

from taskmask.checkpoints import checkpoint
from taskmask.config import Problems
from taskmask.config.settings import Settings, contradictions
from taskmask.data.batching import plan_epoch
from taskmask.data.dataset import Dataset
from taskmask.errors import ConfigError, TaskmaskError
from taskmask.system.console import say
from taskmask.training import distributed
from taskmask.training.auto_precision import begun_with, for_training
from taskmask.training.build import DataParts, build_data, build_objective, describe
from taskmask.training.data_loader import frozen_tickets
from taskmask.training.distributed import World
from taskmask.training.initialise import initialise
from taskmask.training.objective import Objective
from taskmask.training.run_folder import claimed, keep_vocabulary, lock, note_end
from taskmask.training.trainer import Trainer

VALID_EVERY = 500


@dataclasses.dataclass(frozen=True)
class Summary:
    """What a run reached.

    Args:
        folder: the run folder.
        step: steps done.
        metrics: those of the last validation.
        best_checkpoint: the best that was kept; its score is in its name.
        tokens: tokens seen.
        skipped_steps: steps without an update: a number was not finite, a spike, or memory ran out.
        seconds: time this call took.
        parameters: trained numbers.
    """

    folder: str
    step: int
    metrics: dict[str, float]
    best_checkpoint: str
    tokens: int
    skipped_steps: int
    seconds: float
    parameters: int


def train(settings: Settings, *, restart: bool = False) -> Summary:
    """Trains as the settings say; where the run folder holds a checkpoint, goes on from it to the same bits.

    Args:
        settings: all settings.
        restart: begin anew; what the run folder holds is moved aside.

    Raises:
        TaskmaskError: see its kinds; nothing that was computed is lost.
    """
    if not settings.run.folder:
        raise ConfigError("no run folder is named", where="--run", fix="add --run DIR")
    with distributed.joined(settings.run) as (world, device):
        return _train(settings, restart, world, device)


def _train(settings: Settings, restart: bool, world: World, device: torch.device) -> Summary:
    """Trains as `train` does, as one of the processes that have joined."""
    began, folder = time.monotonic(), Path(settings.run.folder)
    # torchrun gives a run that it starts again the same command
    restart = restart and os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") == "0"
    kept = "" if restart else begun_with([folder])
    settings, on_format = for_training(settings, kept, world, device)
    try:
        check_world(settings, world)
        parts = open_data(settings)
        resolved = in_steps(settings, parts)
    except TaskmaskError as error:  # before a run folder is made of nothing; one that is there learns of it
        if world.is_first and (folder / "settings.json").exists():
            with contextlib.suppress(ConfigError), lock(folder):
                note_end(folder, error)
        raise
    with claimed(folder, settings, world, restart), distributed.peers_watched(world):
        if world.is_first:
            keep_vocabulary(folder, parts.vocab)
        objective = build_objective(settings, parts.task)
        if settings.train.init_from and not checkpoint.all_of(folder):
            report_weights(initialise(objective, settings.train.init_from, parts), world)
        if world.is_first:
            for line in [headline(settings, parts, objective, world, device), *on_format, *notes(parts)]:
                say(line)
        trainer = Trainer(resolved, parts, objective.to(device), world, device)
        progress = trainer.fit()
    return Summary(
        folder=str(folder),
        step=progress.position.step,
        metrics=progress.validated,
        best_checkpoint=str(checkpoint.best_of(folder, parts.task.direction(trainer.metric))),
        tokens=progress.tokens,
        skipped_steps=progress.skipped_steps,
        seconds=time.monotonic() - began,
        parameters=describe(objective)["parameters"],
    )


def headline(settings: Settings, parts: DataParts, objective: Objective, world: World, device: torch.device) -> str:
    """Returns in a line what is about to be trained, on how much, and where."""
    source = parts.sources["train"]
    masker = f", masker {settings.masker.name}" if settings.masker else ""
    place = f"{device.type}, {settings.train.precision}" + (f", {world.size} processes" if world.size > 1 else "")
    return (
        f"{settings.run.folder}: model {settings.model.name} ({describe(objective)['parameters']:,} parameters), "
        f"{len(source):,} rows ({int(source.lengths.sum()):,} tokens){masker}; {place}"
    )


def in_steps(settings: Settings, parts: DataParts) -> Settings:
    """Turns `train.epochs` into steps, and says when to validate where nothing is said.

    Raises:
        ConfigError: the warm-up does not fit the steps.
    """
    train, source = settings.train, parts.sources["train"]
    valid_every: float = VALID_EVERY
    if train.epochs:
        plan = plan_epoch(source.lengths, train.seed, 1, train.max_tokens, parts.task.views)
        valid_every = len(plan) * parts.task.turns / train.micro_batches_per_step
        train = dataclasses.replace(train, steps=max(1, math.ceil(train.epochs * valid_every - 1e-6)))
    if train.valid_every is None:
        train = dataclasses.replace(train, valid_every=max(1, round(valid_every)))
    problems = Problems()
    contradictions(problems, settings.data, dataclasses.replace(train, epochs=0.0), settings.optim)
    problems.raise_any()
    return dataclasses.replace(settings, train=train)


def notes(parts: DataParts) -> list[str]:
    """Returns what people should know of the rows and classes before they wait for the result."""
    found = parts.notes
    if parts.task.masker and parts.task.masker.note:
        found.append(f"warning: {parts.task.masker.note}")
    names, counts = parts.task.class_names, parts.task.class_counts
    if absent := [name for name, count in zip(names, counts, strict=True) if not count]:
        shown = ", ".join(absent[:5]) + (" ..." if len(absent) > 5 else "")
        found.append(f"warning: {len(absent)} of {len(names)} classes never occur in split train: {shown}")
    return found


def check_world(settings: Settings, world: World) -> None:
    """Raises a ConfigError unless the micro-batches of a step can be shared out evenly."""
    if settings.train.micro_batches_per_step % world.size:
        raise ConfigError(
            f"is {settings.train.micro_batches_per_step}",
            where="train.micro_batches_per_step",
            expected=f"a multiple of the {world.size} processes",
        )


def open_data(settings: Settings) -> DataParts:
    """Opens the training rows, and those for validation where the dataset has them.

    Raises:
        DataError: a split has no rows, or rows too long for the token budget; the first validation would find out late.
    """
    known = Dataset.open(settings.data.path).splits if settings.data.path else ["train"]
    parts = build_data(settings, ["train", *(["valid"] if "valid" in known else [])])
    if settings.train.patience and "valid" not in parts.sources:
        raise ConfigError(
            f"is {settings.train.patience}, but {settings.data.path} has no split valid",
            where="train.patience",
            fix="prepare the data with --valid, or leave it out",
        )
    if settings.train.metric and "valid" not in parts.sources:
        what = f"is {settings.train.metric!r}, but {settings.data.path} has no split valid"
        raise ConfigError(what, where="train.metric", fix="prepare the data with --valid, or leave it out")
    if "valid" in parts.sources:
        frozen_tickets(parts.sources["valid"].lengths, settings.train.max_tokens, parts.task.views)
    return parts


def report_weights(report: dict[str, list[str]], world: World) -> None:
    """Says which weights were taken over, which are new and which were left."""
    if not world.is_first:
        return
    text = f"{len(report['taken'])} weights taken over"
    for kind in ("new", "left"):
        if report[kind]:
            text += f"; {kind}: {', '.join(report[kind][:6])}{' ...' if len(report[kind]) > 6 else ''}"
    say(text)
