"""A rehearsal: everything a run does, once, before a month is spent on it."""

from __future__ import annotations

import dataclasses
import resource
import sys
import tempfile
import textwrap
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from taskmask.checkpoints import checkpoint
from taskmask.config.settings import Settings
from taskmask.data.rng import RowRng
from taskmask.errors import DivergedError
from taskmask.training import distributed
from taskmask.training.auto_precision import begun_with, for_training
from taskmask.training.build import build_objective, describe
from taskmask.training.distributed import World
from taskmask.training.initialise import initialise
from taskmask.training.monitor.run_log import duration
from taskmask.training.train import check_world, in_steps, notes, open_data, report_weights
from taskmask.training.trainer import Trainer

STEPS, SHOWN_ROWS = 3, 3


def dry_run(settings: Settings) -> list[str]:
    """Opens the data, builds the model, trains a few steps, saves and loads a checkpoint in a temporary folder.

    Returns:
        Lines to print: sizes, memory, an estimate of the time, and a few masked rows.
    """
    with distributed.joined(settings.run) as (world, device):
        return _rehearse(settings, world, device)


def _rehearse(settings: Settings, world: World, device: torch.device) -> list[str]:
    """Does what `dry_run` does, as one of the processes that have joined."""
    check_world(settings, world)
    kept = begun_with([Path(settings.run.folder)]) if settings.run.folder else ""
    settings, on_format = for_training(settings, kept, world, device)
    parts = open_data(settings)
    settings = in_steps(settings, parts)
    objective = build_objective(settings, parts.task)
    if settings.train.init_from:
        report_weights(initialise(objective, settings.train.init_from, parts), world)
    with tempfile.TemporaryDirectory() as folder:
        run = dataclasses.replace(settings.run, folder=folder, tensorboard=False)
        short = dataclasses.replace(
            settings,
            run=run,
            train=dataclasses.replace(settings.train, steps=STEPS + 1),
            optim=dataclasses.replace(settings.optim, warmup_steps=0),
        )
        trainer = Trainer(short, parts, objective.to(device), World(), device)
        trainer.check_metric()
        seconds = [time_step(trainer, group) for group in trainer.steps()]
        if trainer.progress.skipped_steps:
            raise DivergedError(
                f"{trainer.progress.skipped_steps} of {len(seconds)} steps were skipped",
                where="--dry-run",
                expected="finite losses, and enough memory",
                fix="lower train.max_tokens or optim.lr",
            )
        file = Path(folder) / "step-1.pt"
        checkpoint.save(file, trainer.state())
        checkpoint.load(file)
        size = file.stat().st_size
    source, numbers = parts.sources["train"], describe(objective)
    per_step = trainer.progress.tokens / len(seconds)
    epoch = int(source.lengths.sum()) * parts.task.views * parts.task.turns
    # the first steps warm caches up: the fastest is the nearest to a long run's
    total = settings.train.steps * min(seconds) / world.size
    return [
        f"model         {settings.model.name}, {numbers['parameters']:,} parameters, "
        f"{numbers['embeddings']:,} of them in embeddings",
        f"data          {settings.data.path}: {len(source):,} rows, {epoch:,} tokens an epoch",
        *(f"note          {note}" for note in [*on_format, *notes(parts)]),
        f"step          {per_step:,.0f} tokens; {settings.train.steps:,} steps are "
        f"{settings.train.steps * per_step / epoch:.1f} epochs",
        f"speed         {per_step / min(seconds):,.0f} tokens a second a process, {device}, {settings.train.precision}",
        f"time          about {duration(total)} for the run on {world.size} process{'es' * (world.size > 1)}, "
        "validation and saving left out",
        f"memory        {peak_memory(device)} at the peak",
        f"checkpoint    {size / 2**20:.1f} MiB, written and read back",
        "masked rows   [what stood there]:" if settings.masker else "rows          [what is right]:",
        *show_rows(parts.sources["train"], parts.task, settings),
    ]


def peak_memory(device: torch.device) -> str:
    """Returns the most memory that was in use, on the GPU or of the process."""
    if device.type == "cuda":
        return f"{torch.cuda.max_memory_allocated(device) / 2**30:.2f} GiB on the GPU"
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return f"{peak / 2**30:.2f} GiB"


def time_step(trainer: Trainer, group: Any) -> float:
    """Does one step and returns its seconds."""
    began = time.monotonic()
    trainer.step(group)
    return time.monotonic() - began


def show_rows(source: Any, task: Any, settings: Settings) -> list[str]:
    """Returns the first rows of the split as the first epoch masks them."""
    ids = np.arange(min(SHOWN_ROWS, len(source)))
    batch = task.make_batch(source[ids], RowRng(settings.train.seed, 1, ids))
    return [textwrap.fill(line, 118, initial_indent="  ", subsequent_indent="    ") for line in task.show(batch)]
