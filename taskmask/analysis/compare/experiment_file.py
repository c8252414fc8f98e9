"""An experiment file: which stages and policies are compared, read strictly and checked before anything is trained."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from taskmask import config
from taskmask.config import Assignment, Problems, settings
from taskmask.config.settings import RunSettings, Settings
from taskmask.errors import ConfigError, TaskmaskError, did_you_mean
from taskmask.inference import loaded_model

KEYS = ("seeds", "baseline", "budget", "points", "run", "pretrain", "intermediate", "policies", "finetune", "tasks")
SCALARS: dict[str, tuple[Any, Any]] = {  # type and default
    "seeds": (tuple[int, ...], (1, 2, 3)),
    "baseline": (str, ""),
    "budget": (Literal["steps", "targets", "flops"], "steps"),
    "points": (int, 1),
}
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
# settings that a stage does not give itself, and why
OF_THE_FIRST = {"train.init_from": "a stage begins with the one before it, the first one with [pretrain] from"}
OF_THE_EXPERIMENT = {**OF_THE_FIRST, "train.seed": "the seeds stand at the top: seeds = [1, 2, 3]"}
OF_ALL_POLICIES = {
    **OF_THE_EXPERIMENT,
    "train.epochs": "budgets are counted in steps: set train.steps in [intermediate]",
    "train.patience": "every policy uses its whole budget; leave it out",
}
OF_A_POLICY = {
    **OF_ALL_POLICIES,
    "train.steps": "the budget is the same for all policies: set it in [intermediate]",
}


@dataclass(frozen=True)
class Start:
    """The checkpoint that all begins with.

    Args:
        file: the checkpoint.
        sha256: of the file.
        vocabulary: fingerprint of its vocabulary.
    """

    file: Path
    sha256: str
    vocabulary: str

    @staticmethod
    def of(loaded: loaded_model.Pretrained) -> Start:
        """Describes a checkpoint that was read."""
        with open(loaded.file, "rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        return Start(loaded.file, sha256, loaded.vocab.fingerprint)


@dataclass(frozen=True)
class Experiment:
    """What is to be compared. The settings of the stages lack what the walk gives them: folder, seed, where to begin.

    Args:
        file: the experiment file.
        tables: what it says.
        name: of the experiment, the stem of the file.
        seeds: seeds of the stages after the pre-training.
        baseline: the policy that the others are compared with.
        budget: what is equal for all policies.
        points: parts of the intermediate stage after each of which is fine-tuned.
        run: section `run` of all stages.
        start: what the intermediate stages begin with; None where that is a stage, the pre-training.
        first: settings of the pre-training, or of the run that `start` is of.
        policies: {name: settings of its intermediate stage}, in the order of the file.
        tasks: {name: settings of its fine-tuning after the baseline}, in the order of the file.
        own: {name of a task: what its tables say}, to be said again after every policy.
        splits: {name of a task: the split that is reported; "": test where there is one, else valid}.
    """

    file: str
    tables: Mapping[str, Any]
    name: str
    seeds: tuple[int, ...]
    baseline: str
    budget: str
    points: int
    run: RunSettings
    start: Start | None
    first: Settings
    policies: dict[str, Settings]
    tasks: dict[str, Settings]
    own: dict[str, list[Assignment]]
    splits: dict[str, str]

    def finetuning(self, task: str, before: Settings) -> Settings:
        """Returns the settings of the fine-tuning on a task of a model that was trained with other settings."""
        base = inherited(before, "length")
        path = config.from_tables({"data": {"path": self.tasks[task].data.path}}, "the stage before")
        return settings.parse([*base, *path, *self.own[task]])


class Reader:
    """Reads the tables of an experiment file and notes all that is wrong with them.

    Args:
        file: where they come from, for messages.
        tables: the tables.
    """

    def __init__(self, file: str, tables: Mapping[str, Any]):
        self.file, self.tables, self.problems = file, tables, Problems()
        self.said: set[str] = set()

    def scalars(self) -> dict[str, Any]:
        """Returns the values that stand at the top of the file; notes unknown keys."""
        for key in self.tables:
            if key not in KEYS:
                hint = did_you_mean(key, KEYS) or self._home_of(key)
                self.problems.add(f"unknown key {key!r}", where=self.file, expected=", ".join(KEYS), fix=hint)
        values = {}
        for key, (kind, default) in SCALARS.items():
            values[key] = default
            try:
                values[key] = config.convert(self.tables.get(key, default), kind)
            except ValueError as error:
                what = f"{key} {config.said(Assignment(key, self.tables[key], self.file))}"
                self.problems.add(what, where=self.file, expected=str(error))
        self._check(values)
        return values

    def _home_of(self, key: str) -> str:
        """Returns the hint for a section of settings that stands at the top instead of in a stage."""
        return f"settings stand in a stage: [intermediate.{key}], say" if key in settings.SECTIONS else ""

    def _check(self, values: dict[str, Any]) -> None:
        seeds, points, policies = values["seeds"], values["points"], list(self.table("policies"))
        shown, check = " ".join(map(str, seeds)), self.problems.check
        twice = sorted({seed for seed in seeds if seeds.count(seed) > 1})
        check(not twice, f"seeds names {', '.join(map(str, twice))} twice: {shown}", where=self.file)
        usable = bool(seeds) and min(seeds, default=0) >= 0
        check(usable, f"seeds is [{shown}]", where=self.file, expected="one or more whole numbers from 0")
        check(points >= 1, f"points is {points}", where=self.file, expected="at least 1")
        check(bool(policies), "names no policy", where=self.file, fix='add [policies.uniform] masker = "uniform", say')
        tasks = bool(self.table("tasks"))
        check(tasks, "names no labelled task", where=self.file, fix="add [tasks.NAME] with task and data")
        if policies:
            values["baseline"] = values["baseline"] or policies[0]
            fix = did_you_mean(values["baseline"], policies)
            what, expected = f"baseline is {values['baseline']!r}", f"one of the policies: {', '.join(policies)}"
            check(values["baseline"] in policies, what, where=self.file, expected=expected, fix=fix)

    def table(self, *path: str) -> Mapping[str, Any]:
        """Returns a table of the file, empty where there is none; notes where there is something else."""
        found: Any = self.tables
        for key in path:
            found = found.get(key, {})
            if not isinstance(found, Mapping):
                fix = f"{path[-1]} = {{ masker = {json.dumps(found)} }}" if path[0] == "policies" and path[1:] else ""
                where = self._title(path)
                self._note(ConfigError(f"is {found!r}", where=where, expected="a table of settings", fix=fix))
                return {}
        return found

    def tables_of(self, kind: str) -> Iterator[str]:
        """Yields the names in a table of tables, `policies` or `tasks`; notes those that cannot be names of folders."""
        for name in self.table(kind):
            if NAME.fullmatch(name):
                yield name
            else:
                expected = "letters, digits and - _ . behind the first"
                self._note(ConfigError(f"is called {name!r}", where=f"{self.file}, [{kind}]", expected=expected))

    def assignments(self, refused: Mapping[str, str], *path: str) -> list[Assignment]:
        """Returns the settings in the table at `path`; notes those that are refused there."""
        where, found = self._title(path), []
        for assignment in config.from_tables(self.table(*path), where):
            if assignment.key in refused:
                self._note(ConfigError(f"sets {assignment.key}", where=where, fix=refused[assignment.key]))
            elif assignment.key.partition(".")[0] == "run":
                fix = "section run is the same for all stages: [run] at the top of the file"
                self._note(ConfigError(f"sets {assignment.key}", where=where, fix=fix))
            else:
                found.append(assignment)
        return found

    def settings(self, found: list[Assignment], *path: str) -> Settings | None:
        """Makes settings; notes what is wrong with them, once where several stages share it."""
        try:
            return settings.parse(found)
        except ConfigError as error:
            for part in error.parts or (error,):
                self._note(part, self._title(path))
        return None

    def _title(self, path: tuple[str, ...]) -> str:
        return f"{self.file}, [{'.'.join(path)}]"

    def _note(self, error: ConfigError, title: str = "") -> None:
        """Notes an error, with the place in the file where it does not tell it itself."""
        if str(error) in self.said:
            return
        self.said.add(str(error))
        where = error.where if error.where.startswith(self.file) else f"{title}: {error.where}".rstrip(": ")
        self.problems.add(error.what, where=where, expected=error.expected, fix=error.fix)


def read(path: str | Path) -> Experiment:
    """Reads an experiment file; opens no dataset.

    Raises:
        ConfigError: all that is wrong with it, at once.
        CheckpointError: what it starts from is no checkpoint.
    """
    file = str(path)
    tables = config.read_tables(path)
    reader = Reader(file, tables)
    scalars = reader.scalars()
    run = reader.settings(config.from_tables({"run": reader.table("run")}, f"{file}, [run]"), "run")
    if "folder" in reader.table("run"):
        reader.problems.add("sets folder", where=f"{file}, [run]", fix="name it on the command line: --run DIR")
    start, pretraining = _start(reader)
    loaded, begin = _load(reader, start) if start else (None, None)
    first = loaded.settings if loaded else pretraining
    base = inherited(first, "path", "length", "blocks") if first else []
    shared = reader.assignments(OF_ALL_POLICIES, "intermediate")
    policies = {
        name: reader.settings([*base, *shared, *reader.assignments(OF_A_POLICY, "policies", name)], "policies", name)
        for name in reader.tables_of("policies")
    }
    before = policies.get(scalars["baseline"])
    _check_points(reader, scalars["points"], before)
    base = inherited(before, "path", "length") if before else []
    own, splits = {}, {}
    for name in reader.tables_of("tasks"):
        own[name], splits[name] = _task(reader, name)
    of_tasks = {name: reader.settings([*base, *found], "tasks", name) for name, found in own.items()}
    reader.problems.raise_any()
    assert run and before and first  # what is None was noted as a problem
    return Experiment(
        file=file,
        tables=tables,
        name=Path(file).stem,
        run=run.run,
        start=begin,
        first=first,
        policies={name: one for name, one in policies.items() if one},
        tasks={name: one for name, one in of_tasks.items() if one},
        own=own,
        splits=splits,
        **scalars,
    )


def inherited(before: Settings, *of_data: str) -> list[Assignment]:
    """Returns what a stage has of the one before it: the model, and these settings of the data."""
    tables = before.to_dict()
    data = {name: tables["data"][name] for name in of_data}
    return config.from_tables({"model": tables["model"], "data": data}, "the stage before")


def _start(reader: Reader) -> tuple[str, Settings | None]:
    """Returns what the intermediate stages begin with: a checkpoint, or the settings of the pre-training."""
    table, where = reader.table("pretrain"), f"{reader.file}, [pretrain]"
    if not table:
        fix = '[pretrain] from = "RUN", or the settings of a training'
        reader.problems.add("names nothing to begin with", where=reader.file, fix=fix)
        return "", None
    if "from" not in table:
        return "", reader.settings(reader.assignments(OF_THE_FIRST, "pretrain"), "pretrain")
    if others := [key for key in table if key != "from"]:
        what = f"names a checkpoint with from, and settings of a training: {', '.join(others)}"
        reader.problems.add(what, where=where, fix="leave one of them out")
    elif isinstance(table["from"], str) and table["from"]:
        return table["from"], None
    else:
        reader.problems.add(f"from is {table['from']!r}", where=where, expected="a run folder or a checkpoint")
    return "", None


def _load(reader: Reader, start: str) -> tuple[loaded_model.Pretrained, Start]:
    try:
        while True:
            loaded = loaded_model.load(start)
            with contextlib.suppress(FileNotFoundError):  # the run is at work, and has removed it just now
                return loaded, Start.of(loaded)
    except TaskmaskError as error:
        where = f"{reader.file}, [pretrain] from: {error.where}"
        placed = type(error)(error.what, where=where, expected=error.expected, fix=error.fix)
        if reader.problems.errors:
            reader.problems.add(str(placed))
            reader.problems.raise_any()
        raise placed from error


def _task(reader: Reader, name: str) -> tuple[list[Assignment], str]:
    """Returns the settings of a fine-tuning, and the split that is reported."""
    shared = reader.assignments(OF_THE_EXPERIMENT, "finetune")
    own = reader.assignments(OF_THE_EXPERIMENT, "tasks", name)
    split = next((a for a in own if a.key == "split"), None)
    if split and not (isinstance(split.value, str) and split.value):
        reader.problems.add(f"split is {split.value!r}", where=split.source, expected="the name of a split")
    return [*shared, *(a for a in own if a is not split)], str(split.value) if split else ""


def _check_points(reader: Reader, points: int, baseline: Settings | None) -> None:
    """Notes where the stage cannot be cut into equal parts."""
    if baseline and points > 1 and baseline.train.steps % points:
        reader.problems.add(
            f"points is {points}",
            where=reader.file,
            expected=f"a divisor of the {baseline.train.steps} steps of the intermediate stage",
        )
