"""The stages of an experiment, each named by the hash of what it depends on, and what they will cost."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from taskmask.analysis.cost import Shape, flops, seen_by_a_token, shape_of
from taskmask.analysis.experiment import Experiment
from taskmask.analysis.results import Cost
from taskmask.data.plan import plan_epoch
from taskmask.errors import ConfigError, DataError, TaskmaskError
from taskmask.models.base import Model
from taskmask.registry import CRITERIA, MODELS, REGISTRIES, user_dir_checksums
from taskmask.settings import Settings
from taskmask.tasks.base import Task
from taskmask.training.distributed import World
from taskmask.training.evaluate import find_over, metrics_of, value_of
from taskmask.training.loader import BatchMaker, Position, training_tickets
from taskmask.training.parts import DataParts, build_objective
from taskmask.training.run import check_world, in_steps, open_data

Kind = Literal["pretraining", "intermediate", "finetuning"]
FORMAT, SAMPLE = 1, 64


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


@dataclass(frozen=True)
class Measured:
    """What planning found out about the settings of a stage.

    Args:
        settings: with the number of steps; train.epochs is as it was.
        parts: the data.
        shape: of the model.
        tokens: of a step, on average.
        targets: of a step, on average.
        length: tokens that a token sees, on average.
        steps: of the stage.
    """

    settings: Settings
    parts: DataParts
    shape: Shape
    tokens: float
    targets: float
    length: float
    steps: int

    def cost(self, steps: int) -> Cost:
        """What a number of steps will cost."""
        tokens, targets = steps * self.tokens, steps * self.targets
        return Cost(steps, tokens, targets, flops(self.shape, tokens, targets, self.length))


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
            self._measured[key] = _measure(settings, self._open(settings))
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
            self._try(settings, title, task)
        except TaskmaskError as error:
            parts = error.parts if isinstance(error, ConfigError) and error.parts else (error,)
            for one in parts:
                told = one.where.startswith(self.experiment.file)
                where = one.where if told else f"{title}: {one.where}".rstrip(": ")
                self._errors.append(type(one)(one.what, where=where, expected=one.expected, fix=one.fix))

    def _try(self, settings: Settings, title: str, task: str) -> None:
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
                fix=f"prepare the data with taskmask-preprocess --vocab {source}",
            )
        self.measured(settings)
        _check_metric(settings, parts)
        if task:
            self._check_split(settings, parts, task)

    def _check_split(self, settings: Settings, parts: DataParts, task: str) -> None:
        """Chooses the split that is reported, and checks that it can be measured."""
        known = parts.dataset.splits
        split = self.splits[task] or next((name for name in ("test", "valid") if name in known), "test")
        parts.task.source(parts.dataset.split(split), settings.data, parts.dataset)
        self.splits[task] = split
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
    content = {"format": FORMAT, "settings": tables, "plug_ins": plug_ins_of(settings)}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def plug_ins_of(settings: Settings) -> list[str]:
    """Returns the checksums of the plug-ins whose components the settings name, be it inside of others' options."""
    words = set(re.findall(r"[\w.-]+", json.dumps({k: v for k, v in settings.to_dict().items() if k != "run"})))
    named = [(registry, name) for registry in REGISTRIES.values() for name in registry.names() if name in words]
    places = [Path(registry.where(name).rpartition(":")[0]) for registry, name in named]
    known = user_dir_checksums().items()
    return sorted({checksum for path, checksum in known if any(place.is_relative_to(path) for place in places)})


def per_step(settings: Settings, parts: DataParts) -> tuple[float, float]:
    """Returns the tokens and targets of a step, on average over the first batches that the run would train on.

    Their rows are those of the run; their masks are drawn as at places spread over it, since a ratio may change.
    """
    source, task, train = parts.sources["train"], parts.task, settings.train
    maker, criterion = BatchMaker(parts, "train", settings), CRITERIA.get(settings.criterion.name)
    counting = criterion.make(settings.criterion.options)
    counting.prepare(task.class_names, task.class_counts)
    epoch = len(plan_epoch(source.lengths, train.seed, 1, train.max_tokens, task.views))
    tickets = training_tickets(source.lengths, settings, task.views, Position(), 0, 1)
    some = list(itertools.islice(tickets, min(epoch, SAMPLE)))
    tokens = targets = 0.0
    for number, ticket in enumerate(some):
        draw = dataclasses.replace(ticket.draw, progress=(number + 0.5) / len(some))
        batch = maker.make(dataclasses.replace(ticket, draw=draw))
        tokens += batch.num_tokens
        targets += sum(counting.count(batch.map(torch.from_numpy)).values())
    of_a_step = train.micro_batches_per_step / len(some)
    return tokens * of_a_step, targets * of_a_step


def _measure(settings: Settings, parts: DataParts) -> Measured:
    resolved = in_steps(settings, parts)
    task = parts.task
    width = getattr(settings.model.options, "width", 0)
    shape = shape_of(_without_weights(settings, task), task.heads(), task.vocab.size, width)
    tokens, targets = per_step(resolved, parts)
    length = seen_by_a_token(parts.sources["train"].lengths)
    return Measured(settings, parts, shape, tokens, targets, length, resolved.train.steps)


def _without_weights(settings: Settings, task: Task) -> Model:
    """Returns a model whose weights have shapes and no content, where it can be made so."""
    entry, heads = MODELS.get(settings.model.name), task.heads()
    sizes: dict[str, Any] = {"vocab_size": task.vocab.size, "max_length": settings.data.length, "heads": heads}
    try:
        with torch.device("meta"):
            return entry.make(settings.model.options, **sizes)
    except (ConfigError, NotImplementedError, RuntimeError):  # what a model of a plug-in may do in its constructor
        return entry.make(settings.model.options, **sizes)


def _check_metric(settings: Settings, parts: DataParts) -> None:
    """Tries on a few rows whether there is the metric that is asked for."""
    if settings.train.metric and "valid" in parts.sources:
        objective, maker = build_objective(settings, parts.task), BatchMaker(parts, "valid", settings)
        found = find_over(objective, maker, World(), torch.device("cpu"), with_answers=True, most=1)
        assert found is not None  # nobody asked it to stop
        value_of(metrics_of(parts.task, found, maker.source), settings.train.metric)


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
        lines = "\n".join(f"  {one}" for one in unlike)
        raise type(unlike[0])(f"{len(unlike)} things are wrong:\n{lines}")
