"""Tasks on whole texts: say the class of one text or of a pair, or a number."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np

from taskmask.config import opt
from taskmask.config.settings import DataSettings
from taskmask.data.batch import Batch, TokenBatch
from taskmask.data.dataset import Column, Dataset, Split
from taskmask.data.in_memory import MemorySplit
from taskmask.data.rng import RowRng
from taskmask.data.sequences.base import Examples, Source, labelled_rows
from taskmask.data.value_checks import check_numbers
from taskmask.errors import DataError
from taskmask.metrics.classification import classification_limits, classification_metrics
from taskmask.metrics.regression import LIMITS, regression_metrics
from taskmask.modules.heads_spec import HeadSpec
from taskmask.registry import register_task
from taskmask.stats.bootstrap import Measure
from taskmask.stats.limits import LOSS
from taskmask.tasks.base import Answers, Task, Totals, losses_of, mean, relabelling
from taskmask.tasks.class_scores import described
from taskmask.tokenizer.text import texts_to_read

if TYPE_CHECKING:
    import torch


@dataclasses.dataclass(frozen=True)
class ClassificationConfig:
    """Which columns hold the label, and the second text of a pair."""

    label: str = opt("label", "column with the labels")
    pair: str = opt("", "column with the second text of a pair; none: one text")


class TextTask(Task):
    """What tasks on whole texts share: their rows, and batches with one target a row."""

    default_masker = None
    measured_in_training = True

    def __init__(self, config: Any, vocab: Any, masker: Any, labels: dict[str, list[str]]):
        super().__init__(config, vocab, masker, labels)
        self.columns = ("tokens", *([config.pair] if config.pair else []), config.label)
        self.fields = ("text", *([config.pair] if config.pair else []))

    def source(self, split: Split, data: DataSettings, dataset: Dataset, labelled: bool = True) -> Source:
        """The stored rows, one row each; longer ones are cut at their end. Those without a label are left out."""
        rows = self.examples(split, data, dataset, labelled)
        if not labelled:
            return rows
        return rows.only(labelled_rows(split, self.config.label), f"have no label in column {self.config.label!r}")

    def examples(self, split: Split, data: DataSettings, dataset: Dataset, labelled: bool) -> Examples:
        """All of them, with their labels where `labelled`."""
        columns: tuple[str, ...] = (self.config.label,) if labelled else ()
        relabel = self._relabelling(split, dataset) if labelled else {}
        return Examples(split, self.vocab, data.length, self.config.pair, columns, relabel)

    def _relabelling(self, split: Split, dataset: Dataset) -> dict[str, np.ndarray]:
        """Raises a DataError unless the column holds what the task predicts; returns what `relabelling` does."""
        raise NotImplementedError

    def make_batch(self, rows: TokenBatch, rng: RowRng) -> Batch:
        """Rows as they are, with the targets of those that have one in the dataset."""
        inputs: dict[str, Any] = {"tokens": rows.tokens}
        if not rows.is_full:
            inputs["keep"] = rows.keep
        if "segments" in rows.columns:
            inputs["segments"] = rows.columns["segments"]
        targets = {}
        if self.config.label in rows.columns:
            targets["label"] = self._target(rows.columns[self.config.label])
        return Batch(inputs, targets, rows.ids, int(rows.lengths.sum()))

    def _target(self, values: np.ndarray) -> np.ndarray:
        return values.astype(np.int64)

    def show(self, batch: Batch, outputs: dict[str, torch.Tensor] | None = None) -> list[str]:
        """Returns a line a row: [what is right] or, with outputs, [what is right > the model's guess], and the text."""
        truth = [self._said(value) for value in np.asarray(batch.targets["label"]).tolist()]
        if outputs is not None:
            guesses = self._guess(outputs["label"]).tolist()
            truth = [f"{right} > {self._said(guess)}" for right, guess in zip(truth, guesses, strict=True)]
        texts = [self.vocab.decode(row) for row in np.asarray(batch.inputs["tokens"])]
        return [f"[{answer}] {text}" for answer, text in zip(truth, texts, strict=True)]

    def _said(self, value: Any) -> str:
        raise NotImplementedError

    def _guess(self, scores: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError

    def scores_of(self, model: Any, records: list[dict[str, Any]], max_length: int) -> tuple[torch.Tensor, list[bool]]:
        """Returns the outputs of the head for records, fp32 [B, C], and which texts had to be cut.

        Raises:
            DataError: a text is empty.
        """
        import torch

        columns = {}
        for name, field in zip(("tokens", self.config.pair), self.fields, strict=False):
            texts = texts_to_read(records, field)
            columns[name] = [np.append(ids, self.vocab.eos) for ids in self.vocab.encode(texts)]
        source = Examples(MemorySplit(columns), self.vocab, max_length, self.config.pair)
        rows = source[np.arange(len(records))]
        batch = self.make_batch(rows, RowRng(0, 0, rows.ids)).map(torch.from_numpy)
        return model(**batch.inputs)["label"].float().cpu(), source.is_cut.tolist()


@register_task("classification", config=ClassificationConfig)
class Classification(TextTask):
    """Says the class of a text, or of a pair of texts.

    A text that is longer than `data.length` is cut at its end (of a pair the longer one), and counted. Rows without a
    label, as `annotate --confident` leaves them, are left out.

    **Source:** Devlin et al. 2019 (BERT), section 4.1.
    """

    default_criterion = "classification"
    best = "accuracy"

    def __init__(self, config: Any, vocab: Any, masker: Any, labels: dict[str, list[str]]):
        super().__init__(config, vocab, masker, labels)
        self.class_names = labels.get(config.label, [])
        self.class_counts = np.zeros(len(self.class_names), np.int64)

    def prepare(self, dataset: Dataset) -> None:
        """Counts the classes of the split train."""
        train = dataset.splits.get("train")
        if train and self.config.label in train.columns and dataset.labels.get(self.config.label) == self.class_names:
            values = train.values(self.config.label)
            self.class_counts = np.bincount(values[values >= 0], minlength=len(self.class_names))

    def _relabelling(self, split: Split, dataset: Dataset) -> dict[str, np.ndarray]:
        where, name = f"{split.folder}, split {split.name}", self.config.label
        column = split.column(name)
        if column.kind != "row" or column.width != 1 or name not in self.labels:
            raise DataError(f"column {name!r} holds no labels of rows", where=where, fix="name another with task.label")
        if len(self.class_names) < 2:
            raise DataError(f"column {name!r} has one label, {self.class_names}", where=where, expected="two or more")
        return relabelling(self, dataset, split, name)

    def heads(self) -> dict[str, HeadSpec]:
        """One head, "label", with a score for each class."""
        return {"label": HeadSpec("row", len(self.class_names))}

    def metrics(self, totals: Totals) -> dict[str, float]:
        """The loss, and accuracy."""
        rows = totals["label_rows"]
        return {**self.joint_loss(totals, label=rows), "accuracy": mean(totals["label_correct"], rows)}

    def answers(self, outputs: dict[str, torch.Tensor], batch: Batch, losses: dict[str, torch.Tensor]) -> Answers:
        """The class and the loss of each row."""
        logits = outputs["label"].float()
        answers = {"ids": np.asarray(batch.ids), "guess": logits.argmax(-1).cpu().numpy()}
        if "label" in batch.targets:
            truth = batch.targets["label"]
            answers |= {"truth": truth.cpu().numpy(), "loss": losses_of(losses, "label", truth).cpu().numpy()}
        return answers

    def measure(self, answers: Answers, source: Source) -> Measure:
        """Loss, accuracy, macro and micro F1, and Matthews' correlation."""
        truth, guess, loss = answers["truth"], answers["guess"], answers["loss"].astype(np.float64)

        def metrics(index: np.ndarray) -> dict[str, float]:
            found = classification_metrics(truth[index], guess[index], len(self.class_names))
            return {"loss": mean(loss[index].sum(), len(index)), **found}

        of_class = np.bincount(truth, minlength=len(self.class_names))
        return Measure(len(truth), metrics, {"loss": LOSS, **classification_limits(of_class)})

    def annotations(self) -> dict[str, Column]:
        """The label, its probability and log-odds, and the probabilities or logits of all classes, or of one."""
        number, size = Column("row", "float32"), len(self.class_names)
        return {
            "label": Column("row", "int32"),
            "confidence": number,
            "log_odds": number,
            "probabilities": Column("row", "float32", size),
            "logits": Column("row", "float32", size),
            **{f"{kind}:{name}": number for kind in ("probability", "log_odds") for name in self.class_names},
        }

    def annotate(self, outputs: dict[str, torch.Tensor], batch: Batch, what: tuple[str, ...]) -> Answers:
        """The values of these annotations, a row each."""
        found = described(outputs["label"].float(), self.class_names, what)
        return {name: values.cpu().numpy() for name, values in found.items()}

    def _said(self, value: Any) -> str:
        return self.class_names[value]

    def _guess(self, scores: torch.Tensor) -> torch.Tensor:
        return scores.argmax(-1)

    def predict(self, model: Any, records: list[dict[str, Any]], top: int, max_length: int) -> list[dict[str, Any]]:
        """Says {"label", "probability", "classes": the `top` likeliest with probabilities, "cut": only if it was}.

        Raises:
            DataError: a text is empty.
        """
        logits, cut = self.scores_of(model, records, max_length)
        classes = logits.topk(min(top, len(self.class_names))).indices  # probabilities near 0 or 1 may be equal
        chances = logits.double().softmax(-1).gather(-1, classes)
        answers: list[dict[str, Any]] = []
        for p, numbers, was_cut in zip(chances.tolist(), classes.tolist(), cut, strict=True):
            ranked = [
                {"label": self.class_names[n], "probability": chance} for n, chance in zip(numbers, p, strict=True)
            ]
            answers.append({**ranked[0], "classes": ranked, **({"cut": True} if was_cut else {})})
        return answers

    def say(self, record: dict[str, Any], answer: dict[str, Any]) -> list[str]:
        """The likeliest classes of a text."""
        shown = "  ".join(f"{found['label']} {found['probability']:.1%}" for found in answer["classes"])
        return ["  ".join(record[field] for field in self.fields), f"  {shown}{'  (text was cut)' * ('cut' in answer)}"]


@dataclasses.dataclass(frozen=True)
class RegressionConfig:
    """Which columns hold the number, and the second text of a pair."""

    label: str = opt("label", "column with the numbers, of taskmask-preprocess --number")
    pair: str = opt("", "column with the second text of a pair; none: one text")


@register_task("regression", config=RegressionConfig)
class Regression(TextTask):
    """Says a number of a text, or of a pair of texts, such as how alike they are.

    Rows without a number (NaN) are left out.

    **Source:** Devlin et al. 2019 (BERT), appendix B.1 (STS-B), by squared error as in its code.
    """

    default_criterion = "regression"

    def _relabelling(self, split: Split, dataset: Dataset) -> dict[str, np.ndarray]:
        column = split.column(self.config.label)
        if column.kind != "row" or column.width != 1 or not column.dtype.startswith("float"):
            raise DataError(
                f"column {self.config.label!r} holds {column.dtype}, no numbers of rows",
                where=f"{split.folder}, split {split.name}",
                fix="prepare the data with taskmask-preprocess --number " + self.config.label,
            )
        check_numbers(split, self.config.label)
        return {}

    def _target(self, values: np.ndarray) -> np.ndarray:
        return values.astype(np.float32)

    def heads(self) -> dict[str, HeadSpec]:
        """One head, "label", with one number."""
        return {"label": HeadSpec("row", 1)}

    def metrics(self, totals: Totals) -> dict[str, float]:
        """The loss: by default the mean squared error."""
        return self.joint_loss(totals)

    def answers(self, outputs: dict[str, torch.Tensor], batch: Batch, losses: dict[str, torch.Tensor]) -> Answers:
        """The number and the loss of each row."""
        answers = {"ids": np.asarray(batch.ids), "guess": outputs["label"].float()[:, 0].cpu().numpy()}
        if "label" in batch.targets:
            truth = batch.targets["label"]
            answers |= {"truth": truth.cpu().numpy(), "loss": losses_of(losses, "label", truth).cpu().numpy()}
        return answers

    def measure(self, answers: Answers, source: Source) -> Measure:
        """Loss, mean squared error, Pearson's and Spearman's correlation; NaN where undefined."""
        truth, guess, loss = (answers[name].astype(np.float64) for name in ("truth", "guess", "loss"))

        def metrics(index: np.ndarray) -> dict[str, float]:
            found = regression_metrics(truth[index], guess[index])
            return {"loss": mean(loss[index].sum(), len(index)), **found}

        return Measure(len(truth), metrics, {"loss": LOSS, **LIMITS})

    def annotations(self) -> dict[str, Column]:
        """The number."""
        return {"number": Column("row", "float32")}

    def annotate(self, outputs: dict[str, torch.Tensor], batch: Batch, what: tuple[str, ...]) -> Answers:
        """The number of each row."""
        return {name: outputs["label"].float()[:, 0].cpu().numpy() for name in what}

    def _said(self, value: Any) -> str:
        return f"{value:.3g}"

    def _guess(self, scores: torch.Tensor) -> torch.Tensor:
        return scores[:, 0]

    def predict(self, model: Any, records: list[dict[str, Any]], top: int, max_length: int) -> list[dict[str, Any]]:
        """Says {"number", "cut": only if the text was}.

        Raises:
            DataError: a text is empty.
        """
        numbers, cut = self.scores_of(model, records, max_length)
        return [
            {"number": number, **({"cut": True} if was_cut else {})}
            for number, was_cut in zip(numbers[:, 0].tolist(), cut, strict=True)
        ]

    def say(self, record: dict[str, Any], answer: dict[str, Any]) -> list[str]:
        """The number of a text."""
        cut = "  (text was cut)" * ("cut" in answer)
        return ["  ".join(record[field] for field in self.fields), f"  {answer['number']:.4g}{cut}"]
