"""The folder of a run: locked, checked against the run that began in it, with its settings and how it ended."""

from __future__ import annotations

import contextlib
import json
import platform
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from taskmask import __version__
from taskmask.checkpoints import checkpoint
from taskmask.config import read_file
from taskmask.config.settings import Settings, parse
from taskmask.errors import ConfigError, StorageError, storage_errors
from taskmask.registry import user_dir_checksums
from taskmask.system.console import say
from taskmask.system.files import atomic_write
from taskmask.system.folders import refuse_links, resolve_folder
from taskmask.system.hardware import in_our_words
from taskmask.system.json_input import read_json
from taskmask.system.locks import file_lock
from taskmask.tokenizer.backend import CHECKSUM
from taskmask.tokenizer.tokenizer import TOKENIZER_FILE, VOCABULARY_FILE, Vocabulary
from taskmask.training import distributed
from taskmask.training.distributed import World

MAY_CHANGE = {"data.path"} | {
    f"train.{name}" for name in ("steps", "epochs", "valid_every", "patience", "max_bad_steps")
}
KEPT_VOCABULARY = (VOCABULARY_FILE, TOKENIZER_FILE, VOCABULARY_FILE + CHECKSUM, TOKENIZER_FILE + CHECKSUM)
OWN = (
    *("settings.json", "environment.json", "exit.json", "log.jsonl", "checkpoints", "tensorboard", "crash.pt"),
    *KEPT_VOCABULARY,
)
"""What a run writes into its folder."""


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
            say(f"warning: {path} has changed since the run began")


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
    say(f"the run before is kept as {aside}")


def write_json(file: Path, content: Any) -> None:
    """Writes JSON whole or not at all; a file that says the same is left alone."""
    text = (json.dumps(content, indent=2, allow_nan=False) + "\n").encode()
    if not file.is_file() or file.read_bytes() != text:
        with atomic_write(file) as stream:
            stream.write(text)
