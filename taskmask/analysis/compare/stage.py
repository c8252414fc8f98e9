"""Running one stage of an experiment in its folder, quietly; what is done, what it has cost, where it failed."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from taskmask.analysis.compare.cost import bill
from taskmask.analysis.compare.planner import Stage
from taskmask.analysis.compare.results import Cost
from taskmask.checkpoints import checkpoint
from taskmask.errors import CheckpointError, DivergedError
from taskmask.system.console import say
from taskmask.system.json_input import read_json
from taskmask.training import distributed
from taskmask.training.auto_precision import with_precision
from taskmask.training.run_folder import write_json
from taskmask.training.train import train

SILENCE = 60.0  # seconds


@dataclasses.dataclass(frozen=True)
class Done:
    """A stage that has come to its end.

    Args:
        cost: what it took.
        failure: its last words, where it failed; "" where it did not.
    """

    cost: Cost
    failure: str = ""


def look(stage: Stage) -> Done | None:
    """Returns what came of a stage, None where it is still to be trained, or where what it left is not whole."""
    try:
        record = read_json(stage.folder / "stage.json")
        done = Done(Cost(**record["cost"]), str(record["failure"]))
        is_its_own = record["digest"] == stage.digest and record.pop("checksum") == _checksum(record)
        whole = is_its_own and (done.failure or not lacking(stage))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return done if whole else None


def lacking(stage: Stage) -> list[int]:
    """Returns the steps whose checkpoints a stage is to leave, and that are not there."""
    steps, every = stage.settings.train.steps, stage.settings.run.keep_every
    there = {checkpoint.step_of(file) for file in checkpoint.all_of(stage.folder)}
    asked = range(every, steps + 1, every) if stage.kind == "intermediate" else [] if there else [steps]
    return [step for step in asked if step not in there]


def checkpoint_of(stage: Stage, step: int) -> Path:
    """Returns the checkpoint of a stage at a step.

    Raises:
        CheckpointError: it is not there.
    """
    for file in reversed(checkpoint.all_of(stage.folder)):
        if checkpoint.step_of(file) == step:
            return file
    raise CheckpointError(f"holds no checkpoint of step {step}", where=str(stage.folder), fix="remove the folder")


def run_stage(stage: Stage, start: str, kept: str, said: set[str], is_first: bool) -> Done:
    """Trains a stage, or goes on with it; called by all processes together, of which the first notes what came of it.

    Args:
        stage: the stage; the one before it is done.
        start: run folder or checkpoint that the experiment begins with; "" where it begins with a stage.
        kept: number format of the stages that say auto and have begun; "" before the first has.
        said: warnings that were shown before.
        is_first: whether this process is the one that writes.

    Raises:
        TaskmaskError: it did not come to an end, so that there is something to mend; a training that diverges has one.
    """
    beginning = _begun_with(stage.folder)
    if beginning is None:
        beginning = _beginning(stage, start)
    settings = dataclasses.replace(stage.settings, train=dataclasses.replace(stage.settings.train, init_from=beginning))
    if settings.train.precision == "auto" and kept:
        settings = with_precision(settings, kept)
    failure, again = "", f"it is not tried again as long as its folder {stage.folder} is there"
    try:
        with quietly(said):
            train(settings)
        if steps := lacking(stage):  # somebody has removed them, or wants the curve at other points
            if is_first:
                say(f"it was trained before, and its checkpoints of steps {steps} are not there: trained anew")
            with quietly(said):
                train(settings, restart=True)
    except DivergedError as error:
        if error.where != "train.max_bad_steps":  # which a training comes to at the same step every time
            raise
        failure = f"{error}; {again}"
        distributed.leave()  # all processes have failed together
    cost = bill(stage.folder, stage.shape, stage.length)
    if not failure and not cost.updates:
        failure = f"all of its {stage.settings.train.steps} steps were skipped, so that it learned nothing; {again}"
    done = Done(cost, failure)
    if is_first:
        record = {
            "digest": stage.digest,
            "stage": stage.kind,
            "cost": dataclasses.asdict(done.cost),
            "failure": failure,
        }
        write_json(stage.folder / "stage.json", {**record, "checksum": _checksum(record)})
    return done


def _checksum(record: dict[str, Any]) -> str:
    """Returns the sha256 of a record, hexadecimal: a cost with another digit is a cost, too."""
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()


def _beginning(stage: Stage, start: str) -> str:
    """Returns the `train.init_from` of a stage."""
    if stage.kind == "pretraining" or stage.before is None:
        return "" if stage.kind == "pretraining" else start
    return str(checkpoint_of(stage.before, stage.begins) if stage.begins else stage.before.folder)


def _begun_with(folder: Path) -> str | None:
    """Returns the `train.init_from` that a stage has begun with, which may be elsewhere now; None before it has."""
    if not checkpoint.all_of(folder):
        return None
    try:
        return str(read_json(folder / "settings.json")["train"]["init_from"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


class FewWords:
    """Standard error while a stage trains: bars pass, each warning once, and one step a minute; other lines do not.

    Args:
        stream: the real one.
        said: warnings that were shown before.
    """

    def __init__(self, stream: TextIO, said: set[str]):
        self.stream, self.said, self.line, self.spoke = stream, said, "", time.monotonic()

    def write(self, text: str) -> int:
        """Writes what people need to see."""
        if "\r" in text:  # a bar
            return self.stream.write(text)
        *lines, self.line = (self.line + text).split("\n")
        for line in lines:
            is_news = line.startswith("taskmask: warning") and line not in self.said
            if is_news or (line.startswith("step ") and time.monotonic() > self.spoke + SILENCE):
                self.said.add(line)
                self.spoke = time.monotonic()
                self.stream.write(f"{line}\n")
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


@contextlib.contextmanager
def quietly(said: set[str]) -> Iterator[None]:
    """Keeps the words of a training from standard error for the time of a `with`, and takes its bar away at the end."""
    stream = sys.stderr
    few: Any = FewWords(stream, said)
    try:
        with contextlib.redirect_stderr(few):
            yield
    finally:
        if stream.isatty():
            stream.write("\r\x1b[K")
            stream.flush()
