"""The stages of an experiment, each named by the hash of what it depends on, and what they will cost."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
import os
import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from taskmask.analysis.compare.cost import Shape
from taskmask.analysis.compare.experiment_file import Experiment
from taskmask.analysis.compare.profile import Measured, check_same_body, measure
from taskmask.analysis.compare.results import Cost
from taskmask.config.settings import Settings
from taskmask.errors import ConfigError, DataError, TaskmaskError
from taskmask.registry import REGISTRIES, user_dir_checksums
from taskmask.tasks.base import Task
from taskmask.training.build import DataParts, build_objective
from taskmask.training.distributed import World
from taskmask.training.eval_loop import check_metric
from taskmask.training.train import check_world, open_data

Kind = Literal["pretraining", "intermediate", "finetuning"]
FORMAT = 1  # of what digests are made of


@dataclass(frozen=True)
class Stage:
    """One training of an experiment.

    Args:
        kind: which.
        settings: complete but for `train.init_from`, which is known when the stage before it is done.
        digest: sha256 of all that its result depends on.
        before: the stage whose weights it begins with; None: those of the experiment's start.
        begins: the step of that stage it begins with; 0: its best checkpoint.
        share: share of the intermediate stage that is over where a fine-tuning begins; 1 for other stages.
        policy: name of the policy; "" where there is none.
        task: name of the task of a fine-tuning.
        planned: what it will cost, the time apart.
        shape: of its model.
        length: tokens that a token sees, on average.
    """

    kind: Kind
    settings: Settings
    digest: str
    before: Stage | None
    begins: int
    share: float
    policy: str
    task: str
    planned: Cost
    shape: Shape
    length: float

    @property
    def folder(self) -> Path:
        """Its run folder."""
        return Path(self.settings.run.folder)

    @property
    def seed(self) -> int:
        """Its seed."""
        return self.settings.train.seed

    @property
    def title(self) -> str:
        """What it is, in words."""
        if self.kind == "pretraining":
            return "pre-training"
        after = f" after {self.share:.0%} of" if self.share < 1 and self.policy else " after"
        words = f"fine-tuning {self.task}{after if self.policy else ''}" if self.task else "intermediate"
        return f"{words} {self.policy or 'without an intermediate stage'}, seed {self.seed}"


class Planner:
    """Looks at all data and models of an experiment, and lists its stages.

    Args:
        experiment: the experiment.
        folder: the stages are folders in `stages` of it.

    Attributes:
        splits: {name of a task: the split that is reported}.

    Raises:
        TaskmaskError: all that is wrong with the data or does not fit it, at once.
    """

    def __init__(self, experiment: Experiment, folder: Path):
        self.experiment, self.folder = experiment, folder
        self.splits = dict(experiment.splits)
        self._errors: list[TaskmaskError] = []
        self._opened: dict[str, DataParts] = {}
        self._measured: dict[str, Measured] = {}
        self._examples: dict[str, int] = {}
        file, first = experiment.file, experiment.first
        if not experiment.start:
            self._look(first, f"{file}, [pretrain]")
        for name, settings in experiment.policies.items():
            self._look(settings, f"{file}, [policies.{name}]")
        for task in experiment.tasks:
            for before in (first, *experiment.policies.values()):
                self._look(before, f"{file}, [tasks.{task}]", task)
        _raise_all(self._errors)
        self.policies = self._in_budget()

    def measured(self, settings: Settings) -> Measured:
        """Returns what was found out about the settings of a stage; the seed does not matter."""
        key = _text({**settings.to_dict(), "run": 0}, seed=0)
        if key not in self._measured:
            self._measured[key] = measure(settings, self._open(settings))
        return self._measured[key]

    def stages(self) -> list[Stage]:
        """Returns the stages, each after those that it depends on; what two tasks share stands there twice."""
        experiment, points = self.experiment, self.experiment.points
        found = [] if experiment.start else [self._stage("pretraining", experiment.first, None)]
        first = found[0] if found else None
        for seed in experiment.seeds:
            for task in experiment.tasks:
                settings = _seeded(experiment.finetuning(task, experiment.first), seed)
                found.append(self._stage("finetuning", settings, first, share=0.0, task=task))
            for policy, of_policy in self.policies.items():
                before = self._stage("intermediate", _seeded(of_policy, seed), first, policy=policy)
                found.append(before)
                for part, task in itertools.product(range(1, points + 1), experiment.tasks):
                    settings = _seeded(experiment.finetuning(task, of_policy), seed)
                    begins = before.settings.train.steps // points * part
                    named = {"policy": policy, "task": task, "share": part / points}
                    found.append(self._stage("finetuning", settings, before, begins=begins, **named))
        self._refuse_doubles(found)
        return found

    def _stage(self, kind: Kind, settings: Settings, before: Stage | None, begins: int = 0, **named: Any) -> Stage:
        measured = self.measured(settings)
        digest = digest_of(settings, measured.parts.fingerprint, self._beginning(kind, before, begins))
        run = dataclasses.replace(self.experiment.run, folder=str(self.folder / "stages" / f"{kind}-{digest[:12]}"))
        run = dataclasses.replace(run, keep_best=max(run.keep_best, 1))  # the result is the best, whatever is kept
        if kind == "intermediate":  # its checkpoints at equal shares are kept; the best by its own masks says nothing
            part = settings.train.steps // self.experiment.points
            save = next(every for every in range(min(run.save_every, part), 0, -1) if part % every == 0)
            run = dataclasses.replace(run, save_every=save, keep_every=part, keep_best=0)
        return Stage(
            kind=kind,
            settings=dataclasses.replace(settings, run=run),
            digest=digest,
            before=before,
            begins=begins,
            planned=measured.cost(measured.steps),
            shape=measured.shape,
            length=measured.length,
            **{"share": 1.0, "policy": "", "task": "", **named},
        )

    def _beginning(self, kind: Kind, before: Stage | None, begins: int) -> Any:
        start = self.experiment.start
        if kind == "pretraining":
            return None
        return [before.digest, begins] if before else start and start.sha256

    def _refuse_doubles(self, stages: list[Stage]) -> None:
        """Raises a ConfigError where two policies are the same."""
        known: dict[str, str] = {}
        for stage in stages:
            if stage.kind == "intermediate" and known.setdefault(stage.digest, stage.policy) != stage.policy:
                raise ConfigError(
                    f"policies {known[stage.digest]} and {stage.policy} say the same, so that one would be compared "
                    "with itself",
                    where=f"{self.experiment.file}, [policies.{stage.policy}]",
                    fix="leave one of them out",
                )

    def _look(self, settings: Settings, title: str, task: str = "") -> None:
        """Opens the data of a stage and tries it; with `task`, of the fine-tuning after a stage with these settings."""
        try:
            if task:
                settings = self.experiment.finetuning(task, settings)
            self._try(settings, task)
        except TaskmaskError as error:
            self._note(error, title)

    def _note(self, error: TaskmaskError, title: str) -> None:
        """Notes an error with its place in the file; what is wrong with a dataset as a whole, once."""
        for one in error.parts if isinstance(error, ConfigError) and error.parts else (error,):
            told = one.where.startswith(self.experiment.file)
            where = one.where if told else f"{title}: {one.where}".rstrip(": ")
            is_of_dataset = Path(one.where).name == "dataset.json"
            if not (is_of_dataset and any(said.where.endswith(f": {one.where}") for said in self._errors)):
                self._errors.append(type(one)(one.what, where=where, expected=one.expected, fix=one.fix))

    def _try(self, settings: Settings, task: str) -> None:
        check_world(settings, World(size=int(os.environ.get("WORLD_SIZE", "1"))))
        if not settings.data.path:
            raise ConfigError("names no dataset", fix='add data = "DIR", a folder made by taskmask-preprocess')
        parts = self._open(settings)
        start = self.experiment.start
        expected = start.vocabulary if start else self._open(self.experiment.first).vocab.fingerprint
        if parts.vocab.fingerprint != expected:
            source = self.experiment.first.data.path or (start and start.file.parent.parent)
            raise DataError(
                f"has vocabulary {parts.vocab.fingerprint[:12]}",
                where=settings.data.path,
                expected=f"that of {source}, {expected[:12]}",
                fix=f"prepare the data with taskmask-preprocess --vocab {shlex.quote(str(source))}",
            )
        check_same_body(settings, self.experiment.first, parts.task)
        self.measured(settings)
        if settings.train.metric:  # else no weights are made
            check_metric(parts, settings, build_objective(settings, parts.task), World(), torch.device("cpu"))
        if task:
            self._check_split(settings, parts, task)

    def _check_split(self, settings: Settings, parts: DataParts, task: str) -> None:
        """Chooses the split that is reported, and checks that it can be measured."""
        known = parts.dataset.splits
        split = self.splits[task] or next((name for name in ("test", "valid") if name in known), "test")
        examples = len(parts.task.source(parts.dataset.split(split), settings.data, parts.dataset))
        self.splits[task] = split
        if self._examples.setdefault(task, examples) != examples:
            what = f"is {settings.data.length}, which cuts split {split} into {examples} rows"
            expected = f"the {self._examples[task]} rows that other policies are measured on"
            raise ConfigError(what, where="data.length", expected=expected, fix=f"set data.length in [tasks.{task}]")
        if type(parts.task).answers is Task.answers:
            what = f"task {settings.task.name} gives no answers of single examples, without which there is no interval"
            raise ConfigError(what, where="task", fix="write its answers and measure")

    def _open(self, settings: Settings) -> DataParts:
        tables = settings.to_dict()
        names = ("data", "task", "masker", "train", "criterion")
        key = _text({name: tables.get(name) for name in names}, seed=0, steps=0, epochs=0)
        if key not in self._opened:
            self._opened[key] = open_data(settings)
        return self._opened[key]

    def _in_budget(self) -> dict[str, Settings]:
        """Returns the settings of the policies with the steps by which each uses the budget of the baseline."""
        experiment = self.experiment
        policies, of_baseline = dict(experiment.policies), self.measured(experiment.policies[experiment.baseline])
        if experiment.budget == "steps":
            return policies
        total = getattr(of_baseline.cost(of_baseline.steps), experiment.budget)
        for name, settings in experiment.policies.items():
            a_step = getattr(self.measured(settings).cost(1), experiment.budget)
            if not a_step:
                where = f"{experiment.file}, [policies.{name}]"
                raise ConfigError("has no targets to spend the budget on", where=where, fix="mask more")
            parts = max(1, round(total / a_step / experiment.points))
            if name != experiment.baseline:
                train = dataclasses.replace(settings.train, steps=parts * experiment.points)
                policies[name] = dataclasses.replace(settings, train=train)
                self._look(policies[name], f"{experiment.file}, [policies.{name}], whose budget is {train.steps} steps")
        _raise_all(self._errors)
        return policies


def digest_of(settings: Settings, data: str, before: Any) -> str:
    """Returns the sha256 of all that the result of a training depends on.

    Args:
        settings: of the training; section `run`, the path of the data and where it begins do not count.
        data: fingerprint of its rows.
        before: what its weights come from, as JSON types.
    """
    tables = {name: table for name, table in settings.to_dict().items() if name != "run"}
    tables["data"] = {**tables["data"], "path": data}
    tables["train"] = {**tables["train"], "init_from": before}
    content = {"format": FORMAT, "settings": tables, "plug_ins": _contents(plug_ins_of(settings))}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def plug_ins_of(settings: Settings) -> dict[str, str]:
    """Returns the plug-ins whose components the settings name, be it inside of others' options.

    Returns:
        {path: checksum} of those of `--user-dir`, {name and version: ""} of installed packages.
    """
    words = set(re.findall(r"[\w.-]+", json.dumps({k: v for k, v in settings.to_dict().items() if k != "run"})))
    named = [(registry, name) for registry in REGISTRIES.values() for name in registry.names() if name in words]
    for registry, name in named:  # grows by what variants are made of
        if of := registry.get(name).of:
            named.append((registry, of))
    places = [Path(registry.where(name).rpartition(":")[0]) for registry, name in named]
    known = user_dir_checksums().items()
    files = {path: checksum for path, checksum in known if any(place.is_relative_to(path) for place in places)}
    return files | {package: "" for registry, name in named if (package := registry.installed_by(name))}


def _contents(plug_ins: dict[str, str]) -> list[str]:
    """Returns what tells plug-ins apart wherever they lie."""
    return sorted({checksum or package for package, checksum in plug_ins.items()})


def _seeded(settings: Settings, seed: int) -> Settings:
    return dataclasses.replace(settings, train=dataclasses.replace(settings.train, seed=seed))


def _text(tables: dict[str, Any], **of_train: Any) -> str:
    """Returns tables as a key of a dict, with these values in section train."""
    return json.dumps({**tables, "train": {**tables["train"], **of_train}}, sort_keys=True)


def _raise_all(errors: list[TaskmaskError]) -> None:
    """Raises one error of the kind of the first that says all of them, each once; or nothing."""
    unlike = list({str(one): one for one in errors}.values())
    if len(unlike) == 1:
        raise unlike[0]
    if unlike:
        error = type(unlike[0])(f"{len(unlike)} things are wrong")
        error.args = ("\n  ".join([f"{error.what}:", *map(str, unlike)]),)
        raise error
