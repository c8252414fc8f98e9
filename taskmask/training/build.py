"""Making the parts of a run from its settings: vocabulary, dataset, masker, task, model, criterion, in this order."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from typing import Any

import torch

from taskmask.config.settings import Settings
from taskmask.criteria.base import Criterion
from taskmask.data.dataset import Dataset
from taskmask.data.sequences.base import Source, no_labels
from taskmask.errors import ConfigError
from taskmask.maskers.base import build_masker
from taskmask.registry import CRITERIA, MODELS, TASKS
from taskmask.tasks.base import Task
from taskmask.tokenizer.tokenizer import Vocabulary
from taskmask.training.objective import Objective
from taskmask.training.unread import unread_columns


@dataclasses.dataclass(frozen=True)
class DataParts:
    """The parts that know no network: dataset, vocabulary, task (with its masker) and the rows of each split.

    `unread` says which texts of these splits the task does not read; "" if there are none.
    """

    dataset: Dataset
    vocab: Vocabulary
    task: Task
    sources: dict[str, Source]
    unread: str = ""

    @property
    def notes(self) -> list[str]:
        """What people should know of the rows, each once; what is a warning begins with the word."""
        found = [note for source in self.sources.values() for note in source.notes]
        return list(dict.fromkeys([*found, *([f"warning: {self.unread}"] if self.unread else [])]))

    @property
    def fingerprint(self) -> str:
        """A sha256 of what the rows depend on: the vocabulary and the columns in use, so that others may be added."""
        content: list[Any] = [self.vocab.fingerprint, *(source.checksums for source in self.sources.values())]
        used = {name for source in self.sources.values() for name in source.columns}
        content += sorted((name, names) for name, names in self.dataset.labels.items() if name in used)
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def build_task(settings: Settings, vocab: Vocabulary, labels: dict[str, list[str]]) -> Task:
    """Makes the task and its masker; the task learns the weights of the losses from the criterion."""
    masker = settings.masker and build_masker(settings.masker.name, settings.masker.options, vocab)
    task: Task = TASKS.get(settings.task.name).make(settings.task.options, vocab, masker, labels)
    task.weights = build_criterion(settings).weights
    return task


def build_criterion(settings: Settings) -> Criterion:
    """Makes the criterion."""
    criterion: Criterion = CRITERIA.get(settings.criterion.name).make(settings.criterion.options)
    return criterion


def build_data(
    settings: Settings, splits: list[str], labels: dict[str, list[str]] | None = None, labelled: bool = True
) -> DataParts:
    """Opens the dataset and makes the task; a split that is not there is an error.

    Args:
        settings: all settings.
        splits: names of the splits to open.
        labels: names of the labels that the task knows, those of a checkpoint; None: those of the dataset.
        labelled: whether the rows come with their labels.

    Raises:
        ConfigError: no dataset is named, or the token budget is too small for the masker's views.
        DataError: the dataset is damaged, or lacks a split or a column.
    """
    if not settings.data.path:
        raise ConfigError("no dataset is named", where="--data", fix="add --data DIR, made by taskmask-preprocess")
    dataset = Dataset.open_to_read(settings.data.path)
    vocab = dataset.vocabulary()
    task = build_task(settings, vocab, dataset.labels if labels is None else labels)
    task.prepare(dataset)
    if labelled:
        for name in splits:
            _check_labelled(task, dataset, name)
    sources = {name: task.source(dataset.split(name), settings.data, dataset, labelled) for name in splits}
    unread = unread_columns([dataset.split(name) for name in splits], sources.values(), task, settings.task.name)
    return DataParts(dataset, vocab, task, sources, unread)


def _check_labelled(task: Task, dataset: Dataset, split: str) -> None:
    """Raises a DataError if a split does not have a column that the task needs, and other splits of the dataset do."""
    for column in task.columns:
        having = [name for name, one in dataset.splits.items() if column in one.columns]
        if having and column not in dataset.split(split).columns:
            raise no_labels(
                dataset.split(split), f"there is no column {column!r}, which the split {' and '.join(having)} has"
            )


def build_objective(settings: Settings, task: Task) -> Objective:
    """Makes model and criterion; the weights depend on `train.seed` alone.

    Raises:
        ConfigError: the task has a target that the model does not read, or has none where the model needs it.
    """
    check_fit(settings, task)
    torch.manual_seed(settings.train.seed)
    model = MODELS.get(settings.model.name).make(
        settings.model.options, vocab_size=task.vocab.size, max_length=settings.data.length, heads=task.heads()
    )
    criterion = build_criterion(settings)
    criterion.prepare(task.class_names, task.class_counts)
    return Objective(model, criterion)


def check_fit(settings: Settings, task: Task) -> None:
    """Raises a ConfigError where task, criterion and model do not fit: what one gives another does not take."""
    model, criterion = MODELS.get(settings.model.name).load(), CRITERIA.get(settings.criterion.name).load()
    reads = model.reads_target
    asks = any(spec.kind == "lm" for spec in task.heads().values())
    name, where = settings.model.name, "model.name"
    if task.gives_target and not reads:
        what = f"is {name}, an encoder, but task {settings.task.name} wants a text written"
        raise ConfigError(what, where=where, expected="one with a decoder", fix=f"--model {task.default_model}")
    if reads and asks and not task.gives_target:
        what = f"is {name}, whose decoder reads a target, but task {settings.task.name} has none"
        raise ConfigError(what, where=where, expected="an encoder", fix=f"--model {task.default_model}")
    if criterion.blends and not model.blends:
        what = f"is {name}, which takes no blend of texts, as criterion {settings.criterion.name} gives it one"
        raise ConfigError(what, where=where, expected="a transformer", fix=f"--model {task.default_model}")
    if settings.run.compile and criterion.differentiates_twice(settings.criterion.options):
        what, fix = "is true, but compiled models have no second derivatives", "--criterion.gradient finite_difference"
        raise ConfigError(what, where="run.compile", expected="false with criterion.gradient exact", fix=fix)


def describe(objective: Objective) -> dict[str, Any]:
    """Returns the number of parameters: in all, and of them in the embeddings."""
    numbers = {name: p.numel() for name, p in objective.named_parameters()}
    return {
        "parameters": sum(numbers.values()),
        "embeddings": sum(n for name, n in numbers.items() if "embedding" in name),
    }
