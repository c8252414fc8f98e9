"""The composition root: from settings to a trained model. Every part is made here, once, in the order of the data."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import os
import platform
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from taskmask import __version__
from taskmask.config import Problems, read_file
from taskmask.data.columns import Dataset
from taskmask.data.engine import CHECKSUM
from taskmask.data.plan import plan_epoch
from taskmask.data.vocab import TOKENIZER_FILE, VOCABULARY_FILE, Vocabulary
from taskmask.errors import ConfigError, StorageError, TaskmaskError, storage_errors, visible
from taskmask.files import atomic_write
from taskmask.folders import refuse_links, resolve_folder
from taskmask.json_input import read_json
from taskmask.locks import file_lock
from taskmask.machine import in_our_words
from taskmask.registry import user_dir_checksums
from taskmask.settings import Settings, contradictions, parse
from taskmask.training import checkpoint, distributed, pretrained
from taskmask.training.distributed import World
from taskmask.training.loader import frozen_tickets
from taskmask.training.number_format import begun_with, for_training
from taskmask.training.objective import Objective
from taskmask.training.parts import DataParts, build_data, build_objective, describe
from taskmask.training.trainer import Trainer

MAY_CHANGE = {"data.path"} | {
    f"train.{name}" for name in ("steps", "epochs", "valid_every", "patience", "max_bad_steps")
}
VALID_EVERY = 500
KEPT_VOCABULARY = (VOCABULARY_FILE, TOKENIZER_FILE, VOCABULARY_FILE + CHECKSUM, TOKENIZER_FILE + CHECKSUM)
OWN = (
    *("settings.json", "environment.json", "exit.json", "log.jsonl", "checkpoints", "tensorboard", "crash.pt"),
    *KEPT_VOCABULARY,
)
"""What a run writes into its folder."""


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
            report_weights(pretrained.initialise(objective, settings.train.init_from, parts), world)
        if world.is_first:
            lines = [headline(settings, parts, objective, world, device), *on_format, *notes(parts)]
            print(visible("\n".join(f"taskmask: {line}" for line in lines)), file=sys.stderr)
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


@contextlib.contextmanager
def claimed(folder: Path, settings: Settings, world: World, restart: bool) -> Iterator[None]:
    """Makes the run folder this run's own: checks that it fits, writes the settings into it, locks it.

    How the run ends is noted in it, since torchrun gives the same exit code to every end; while it runs, and where it
    was killed, there is no such note.
    """
    if not world.is_first:
        with distributed.peers_watched(world):
            world.wait()
        yield
        return
    folder = resolve_folder(folder, "--run")  # so that --run.restart moves the folder, not a link to it
    if restart:
        with lock(folder):  # not the folder of a run that is at work
            if (folder / "settings.json").exists():
                move_aside(folder)
    with lock(folder):
        prepare(folder, settings)
        (folder / "exit.json").unlink(missing_ok=True)
        with distributed.peers_watched(world):
            world.wait()
        try:
            yield
        except BaseException as error:
            note_end(folder, error)
            raise
        note_end(folder, None)


def note_end(folder: Path, error: BaseException | None) -> None:
    """Writes exit.json: the exit code of the command line, and its last words."""
    known = in_our_words(error) if error else None
    code = known.exit_code if known else 0 if error is None else 130 if isinstance(error, KeyboardInterrupt) else 1
    message = str(known) if known else "" if error is None else f"{type(error).__name__}: {error}"
    if not (folder / "settings.json").exists():
        return
    with contextlib.suppress(StorageError):  # the error that is on its way says more
        write_json(folder / "exit.json", {"exit_code": code, "message": message})


@contextlib.contextmanager
def lock(folder: Path, option: str = "--run") -> Iterator[None]:
    """Holds a folder, which `option` names, against a second run for the time of a `with`; makes it if need be."""
    with storage_errors(folder):
        folder = resolve_folder(folder, option)
        folder.mkdir(parents=True, exist_ok=True)
    with file_lock(folder / ".lock", f"{option} {folder}"):
        yield


def prepare(folder: Path, settings: Settings) -> None:
    """Writes settings and environment; a folder with other settings, or with strange files, is refused."""
    refuse_links(folder, OWN, "--run")
    file = folder / "settings.json"
    if file.exists():
        if checkpoint.all_of(folder):  # before the first one, nothing is lost by changing one's mind
            refuse_changes(file, settings)
    elif strangers := sorted(p.name for p in folder.iterdir() if not p.name.startswith(".")):
        raise ConfigError(
            f"is not empty and no run folder: holds {', '.join(strangers[:3])}",
            where=f"--run {folder}",
            fix="name another folder",
        )
    environment: dict[str, Any] = {
        "taskmask": __version__,
        "torch": str(torch.__version__),
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "command": sys.argv,
        "user_dirs": user_dir_checksums(),
    }
    warn_of_changed_plug_ins(folder / "environment.json", environment["user_dirs"])
    write_json(file, settings.to_dict())
    write_json(folder / "environment.json", environment)


def keep_vocabulary(folder: Path, vocab: Vocabulary) -> None:
    """Writes the vocabulary and its checksum beside the settings, so that data can be prepared with `--vocab RUN`.

    A run that was killed before its first checkpoint may have left that of other data, which is replaced.
    """
    there = [folder / name for name in (VOCABULARY_FILE, TOKENIZER_FILE) if (folder / name).exists()]
    if there and checkpoint.all_of(folder):
        return
    for name in KEPT_VOCABULARY:
        (folder / name).unlink(missing_ok=True)
    checksum = f"{vocab.fingerprint}  {vocab.file_name}\n".encode()
    for name, content in ((vocab.file_name, vocab.model_bytes), (vocab.file_name + CHECKSUM, checksum)):
        with atomic_write(folder / name) as stream:
            stream.write(content)


def warn_of_changed_plug_ins(file: Path, now: dict[str, str]) -> None:
    """Says which plug-ins of a run that is gone on with are not what they were: the result may be another."""
    try:
        before = read_json(file)["user_dirs"]
    except (OSError, ValueError, KeyError, TypeError):
        return
    for path, checksum in now.items():
        if isinstance(before, dict) and before.get(path, checksum) != checksum:
            print(visible(f"taskmask: warning: {path} has changed since the run began"), file=sys.stderr)


def refuse_changes(file: Path, settings: Settings) -> None:
    """Raises a ConfigError where the settings differ from those of the run in what shapes its result."""
    try:
        before = parse(read_file(file)).to_dict()
    except (ValueError, ConfigError) as error:
        raise ConfigError(f"cannot be read: {error}", where=str(file), fix="start anew with --run.restart") from None
    now = settings.to_dict()
    changes = []
    for section in sorted({*before, *now} - {"run"}):
        old, new = before.get(section, {}), now.get(section, {})
        for field in sorted({*old, *new}):
            key = f"{section}.{field}"
            if key not in MAY_CHANGE and old.get(field) != new.get(field):
                changes.append(f"{key} was {old.get(field)!r}, is {new.get(field)!r}")
    if changes:
        raise ConfigError(
            f"the run has begun with other settings: {'; '.join(changes)}",
            where=f"--run {file.parent}",
            fix="name another --run folder, go back to the old settings, or begin anew with --run.restart",
        )


def move_aside(folder: Path) -> None:
    """Renames a run folder to the first free name with .old-N behind it."""
    number = 1
    while (aside := folder.with_name(f"{folder.name}.old-{number}")).exists():
        number += 1
    folder.rename(aside)
    print(visible(f"taskmask: the run before is kept as {aside}"), file=sys.stderr)


def report_weights(report: dict[str, list[str]], world: World) -> None:
    """Says which weights were taken over, which are new and which were left."""
    if not world.is_first:
        return
    text = f"taskmask: {len(report['taken'])} weights taken over"
    for kind in ("new", "left"):
        if report[kind]:
            text += f"; {kind}: {', '.join(report[kind][:6])}{' ...' if len(report[kind]) > 6 else ''}"
    print(visible(text), file=sys.stderr)


def write_json(file: Path, content: Any) -> None:
    """Writes JSON whole or not at all; a file that says the same is left alone."""
    text = (json.dumps(content, indent=2, allow_nan=False) + "\n").encode()
    if not file.is_file() or file.read_bytes() != text:
        with atomic_write(file) as stream:
            stream.write(text)
