"""What a task is: it turns rows into batches, says which heads the model needs, and names the metrics."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from taskmask.config.settings import DataSettings
from taskmask.data.batch import Batch, TokenBatch
from taskmask.data.batching import plan_epoch
from taskmask.data.dataset import Column, Dataset, Split
from taskmask.data.rng import RowRng
from taskmask.data.sequences.base import RowSource, Source
from taskmask.errors import DataError, did_you_mean
from taskmask.maskers.base import Masker
from taskmask.modules.heads_spec import HeadSpec
from taskmask.stats.bootstrap import Measure
from taskmask.tokenizer.tokenizer import Vocabulary

if TYPE_CHECKING:
    import torch

ROWS_AT_ONCE = 32  # rows per forward pass of `predict`, if a long text becomes several
Totals = dict[str, float]
Answers = dict[str, np.ndarray]
Ask = Callable[[Batch], "tuple[dict[str, torch.Tensor], Batch]"]
"""Gives the outputs of the model for a batch of numpy arrays, and the batch as tensors beside them."""


class Task:
    """One problem to train on. A subclass writes `heads`, `make_batch` and `metrics`.

    A task that gives `answers` is also measured example by example: with metrics that are no means, such as F1, and
    with intervals.

    Args:
        config: its options.
        vocab: the vocabulary of the dataset.
        masker: the masking policy, None where the task masks nothing.
        labels: {column: names of its labels} of the dataset, or of the checkpoint that is used on it.

    Attributes:
        default_criterion: criterion where none is named.
        default_masker: masker where none is named; None for a task that masks nothing.
        default_model: model where none is named.
        targets_of: {a target: the head whose positions it follows}, of targets that have another name than their head.
        gives_target: whether its batches have the input "target", a second text, on which its "lm" heads are asked.
        columns: columns that the dataset must have.
        best: the metric that picks the best checkpoint, where `train.metric` names none.
        lower_is_better: the metrics of which less is better.
        measured_in_training: whether validations need the answers; else sums do, and `taskmask evaluate` alone asks.
        fields: names of the texts that `predict` needs of each record.
        lists: names of lists of which a record may have one instead.
        class_names: names of the classes, where there are classes.
        class_counts: training targets of each class, where they are known; int64 [C].
        weights: {name of a loss: its weight} of the criterion, set with it; {}: every loss counts once.
    """

    default_criterion: str = ""
    default_masker: str | None = None
    default_model: str = "mini"
    targets_of: dict[str, str] = {}  # noqa: RUF012 - replaced, never changed
    gives_target: bool = False
    columns: tuple[str, ...] = ("tokens",)
    best: str = "loss"
    lower_is_better: frozenset[str] = frozenset({"loss", "perplexity", "mse"})
    measured_in_training: bool = False
    fields: tuple[str, ...] = ("text",)
    lists: tuple[str, ...] = ()
    class_names: list[str] = []  # noqa: RUF012 - replaced, never changed
    class_counts: np.ndarray = np.zeros(0, np.int64)
    weights: Mapping[str, float] = {}

    def __init__(self, config: Any, vocab: Vocabulary, masker: Masker | None, labels: dict[str, list[str]]):
        self.config, self.vocab, self.masker, self.labels = config, vocab, masker, labels

    @property
    def views(self) -> int:
        """Rows of a batch that one row of the dataset becomes."""
        return self.masker.views if self.masker else 1

    @property
    def turns(self) -> int:
        """Updates in succession that see the same rows."""
        return self.masker.turns if self.masker else 1

    @classmethod
    def direction(cls, metric: str) -> Literal["min", "max"]:
        """Which end of a metric is the good one."""
        return "min" if metric in cls.lower_is_better else "max"

    @classmethod
    def sample(cls, options: Any) -> dict[str, str]:
        """Returns a record that `predict` can answer with these options, to show the user; {} if it answers none."""
        second = {options.pair: "A second text."} if getattr(options, "pair", "") else {}
        return {} if cls.predict is Task.predict else {"text": "A text.", **second}

    @classmethod
    def masks(cls, options: Any) -> bool:
        """Whether it masks anything with these options; else it gets no masker."""
        return cls.default_masker is not None

    def prepare(self, dataset: Dataset) -> None:
        """Looks at the dataset as a whole, once, before any row is read: to count classes, say."""

    def source(self, split: Split, data: DataSettings, dataset: Dataset, labelled: bool = True) -> Source:
        """Returns the rows of a split as this task reads them: here cut from the stream of tokens.

        Args:
            split: the split.
            data: length of the rows, and how they are cut.
            dataset: the dataset, with the names of its labels.
            labelled: False to read rows without their labels, to label them with the model.

        Raises:
            DataError: a column is lacking, or holds labels that the task does not know.
        """
        columns = tuple(dict.fromkeys((*self.columns, *(self.masker.columns if self.masker else ()))))
        return RowSource(split, self.vocab, data.length, data.blocks, columns)

    def heads(self) -> dict[str, HeadSpec]:
        """Returns the heads that the model needs, by name."""
        raise NotImplementedError(f"{type(self).__name__} must define heads()")

    def make_batch(self, rows: TokenBatch, rng: RowRng) -> Batch:
        """Returns the batch of numpy arrays made from `rows`."""
        raise NotImplementedError(f"{type(self).__name__} must define make_batch(rows, rng)")

    def metrics(self, totals: Totals) -> dict[str, float]:
        """Returns the metrics of summed losses and counts, "loss" among them; NaN for those without a target.

        Args:
            totals: {"mlm": sum of a loss, "mlm_count": its targets, ...} over the whole set.
        """
        raise NotImplementedError(f"{type(self).__name__} must define metrics(totals)")

    def joint_loss(self, totals: Totals, **counts: float) -> dict[str, float]:
        """Returns {"loss"} and maybe {"objective"}, as `mean_loss` does, of all losses of the criterion by its weights.

        As in training, a loss without a target adds nothing. Without any target the result is NaN; so it is if a loss
        is missing in `totals`.

        Args:
            totals: as `metrics` gets them.
            counts: targets of losses, by name, if they are not those in `totals`.
        """
        weights = self.weights or {name: 1.0 for name in totals if f"{name}_count" in totals}
        found = {}
        for name in weights:
            count = counts.get(name, totals.get(f"{name}_count", math.nan))
            if weights[name] and count:
                found[name] = mean_loss({name: math.nan, f"{name}_count": count, **totals}, name, count)
        if not found:
            return {"loss": math.nan}
        kinds = ["loss", *(["objective"] if any("objective" in one for one in found.values()) else [])]
        return {kind: sum(weights[name] * one.get(kind, one["loss"]) for name, one in found.items()) for kind in kinds}

    def answers(self, outputs: dict[str, torch.Tensor], batch: Batch, losses: dict[str, torch.Tensor]) -> Answers:
        """Returns what the model says and what is right, as records: arrays of equal length, their rows in "ids".

        Args:
            outputs: of the model, on any device.
            batch: the batch, on that device.
            losses: of single targets, as of `Criterion.each`; a loss may be missing (see `losses_of`).
        """
        return {}

    def generate(self, model: Any, batch: Batch, source: Source) -> Answers:
        """Returns more fields of the records of `answers`, for which the model must be asked again; `evaluate` does.

        Args:
            model: in evaluation mode, on the device of the batch.
            batch: the batch.
            source: the rows.
        """
        return {}

    def measure(self, answers: Answers, source: Source) -> Measure:
        """Returns the metrics of the answers over a whole split, ready to be taken over any choice of examples.

        Args:
            answers: the records of all batches, ordered by "ids".
            source: the rows.
        """
        raise NotImplementedError(f"{type(self).__name__} must define measure(answers, source)")

    def annotations(self) -> dict[str, Column]:
        """Returns what `annotate` can write into a dataset: {name: the column's kind, dtype and width}."""
        return {}

    def annotate(self, outputs: dict[str, torch.Tensor], batch: Batch, what: tuple[str, ...]) -> Answers:
        """Returns the values of these annotations: [B] or [B, width] for a row column, [B, T] for an aligned one."""
        raise NotImplementedError(f"{type(self).__name__} must define annotate(outputs, batch, what)")

    def names_of(self, what: str) -> list[str] | None:
        """Returns the names of the values of an annotation, where they are labels."""
        return self.class_names if what == "label" else None

    def annotate_rows(
        self, ask: Ask, source: Source, ids: np.ndarray, what: tuple[str, ...], max_tokens: int, advance: Callable
    ) -> dict[str, list[np.ndarray]]:
        """Returns these annotations of rows: a value, or for an aligned column [T] values, of each row.

        Args:
            ask: gives the outputs of the model.
            source: the rows.
            ids: int64 [N], which of them.
            what: names of annotations.
            max_tokens: tokens in a batch, padding included.
            advance: called with the tokens of the rows that are done.
        """
        plan = plan_epoch(source.lengths[ids], 0, 0, max_tokens, 1)
        found: dict[str, list[Any]] = {name: [None] * len(ids) for name in what}
        for place in range(len(plan)):
            some = ids[plan[place]]
            outputs, batch = ask(self.make_batch(source[some], RowRng(0, 0, some, progress=1.0)))
            for name, values in self.annotate(outputs, batch, what).items():
                for row, value in zip(plan[place], values, strict=True):
                    found[name][row] = value
            advance(batch.num_tokens)
        return found

    def show(self, batch: Batch, outputs: dict[str, torch.Tensor] | None = None) -> list[str]:
        """Returns the batch as lines for people to read, with the model's answers if there are any."""
        return []

    def predict(self, model: Any, records: list[dict[str, Any]], top: int, max_length: int) -> list[dict[str, Any]]:
        """Returns what the model says of each record, as JSON types.

        Args:
            model: called like the model, with inputs on the CPU; returns its outputs, on the CPU.
            records: {field: text} with all `fields`, and whatever else: texts for one forward pass.
            top: answers to give where there are several.
            max_length: tokens in the longest row the model can take.
        """
        raise NotImplementedError(f"{type(self).__name__} cannot predict from text")

    def say(self, record: dict[str, Any], answer: dict[str, Any]) -> list[str]:
        """Returns an answer of `predict` as lines for people to read."""
        return ["  ".join(record[field] for field in self.fields), f"  {answer}"]


def mean(total: float, count: float) -> float:
    """Returns total / count, a float; NaN without a target."""
    return float(total / count) if count else math.nan


def mean_loss(totals: Totals, name: str, count: float) -> dict[str, float]:
    """Returns {"loss": the plain mean} and, if training shapes this loss, also {"objective": the mean it minimises}.

    Args:
        totals: as `Task.metrics` gets them.
        name: of the loss.
        count: its targets.
    """
    if f"{name}_plain" not in totals:
        return {"loss": mean(totals[name], count)}
    return {"loss": mean(totals[f"{name}_plain"], count), "objective": mean(totals[name], totals[f"{name}_count"])}


def losses_of(losses: dict[str, torch.Tensor], name: str, targets: torch.Tensor) -> torch.Tensor:
    """Returns the loss of each target, float [targets]; NaN if the criterion does not give them."""
    import torch

    return losses[name].float() if name in losses else torch.full((len(targets),), torch.nan, device=targets.device)


def by_example(answers: Answers, source: Source, names: Iterable[str]) -> np.ndarray:
    """Returns fields of the records, summed over the rows, views and pieces of each example: float64 [names, examples].

    Raises:
        KeyError: the records do not have such a field.
    """
    examples, number = np.unique(source.examples[answers["ids"]], return_inverse=True)
    return np.stack([np.bincount(number, answers[name], len(examples)) for name in names])


def relabelling(task: Task, dataset: Dataset, split: Split, column: str) -> dict[str, np.ndarray]:
    """Returns {column: id in the dataset -> id of the task}, where a model meets another dataset than its own.

    Raises:
        DataError: the split uses a label that the task does not know.
    """
    known, names = task.labels.get(column, []), dataset.labels.get(column, [])
    if column not in dataset.labels or not split.column(column).dtype.startswith("int"):
        raise DataError(f"column {column!r} holds no labels", where=f"{dataset.path}, split {split.name}")
    if names == known:
        return {}
    table = np.array([known.index(name) if name in known else -1 for name in names], np.int64)
    values = split.values(column)
    used = np.bincount(values[values >= 0], minlength=len(names))
    for unknown in np.flatnonzero((table < 0) & (used > 0)):
        raise DataError(
            f"label {names[unknown]!r} of {used[unknown]:,} rows is unknown",
            where=f"{dataset.path}, column {column} of split {split.name}",
            expected=f"one of {', '.join(known[:20])}{' ...' if len(known) > 20 else ''}",
            fix=did_you_mean(names[unknown], known) or "use a model that was trained with it",
        )
    return {column: table}
