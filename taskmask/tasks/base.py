"""What a task is: it turns rows into batches, says which heads the model needs, and names the metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from taskmask.data.draws import Draw
from taskmask.data.rows import Batch, Rows
from taskmask.data.vocab import Vocabulary
from taskmask.maskers.base import Masker
from taskmask.modules.spec import HeadSpec

if TYPE_CHECKING:
    import torch

Totals = dict[str, float]


class Task:
    """One problem to train on. A subclass writes `heads`, `make_batch` and `metrics`.

    Args:
        config: its options.
        vocab: the vocabulary of the dataset.
        masker: the masking policy, None where the task masks nothing.
        labels: {column: names of its labels} of the dataset.

    Attributes:
        default_criterion: criterion where none is named.
        default_masker: masker where none is named; None for a task that masks nothing.
        columns: columns that the dataset must have.
        best: the metric that picks the best checkpoint, and which end of it is good.
    """

    default_criterion: str = ""
    default_masker: str | None = None
    columns: tuple[str, ...] = ("tokens",)
    best: tuple[str, Literal["min", "max"]] = ("loss", "min")

    def __init__(self, config: Any, vocab: Vocabulary, masker: Masker | None, labels: dict[str, list[str]]):
        self.config, self.vocab, self.masker, self.labels = config, vocab, masker, labels

    @property
    def views(self) -> int:
        """Rows of a batch that one row of the dataset becomes."""
        return self.masker.views if self.masker else 1

    def heads(self) -> dict[str, HeadSpec]:
        """Returns the heads that the model needs, by name."""
        raise NotImplementedError(f"{type(self).__name__} must define heads()")

    def make_batch(self, rows: Rows, draw: Draw) -> Batch:
        """Returns the batch of numpy arrays made from `rows`."""
        raise NotImplementedError(f"{type(self).__name__} must define make_batch(rows, draw)")

    def metrics(self, totals: Totals) -> dict[str, float]:
        """Returns the metrics of summed losses and counts, "loss" among them.

        Args:
            totals: {"mlm": sum of a loss, "mlm_count": its targets, ...} over the whole set.
        """
        raise NotImplementedError(f"{type(self).__name__} must define metrics(totals)")

    def show(self, batch: Batch, outputs: dict[str, torch.Tensor] | None = None) -> list[str]:
        """Returns the batch as lines for people to read, with the model's answers if there are any."""
        return []

    def predict(self, model: Any, texts: list[str], top: int, max_length: int) -> list[dict[str, Any]]:
        """Returns what the model says of each text, as JSON types.

        Args:
            model: called like the model, returns its outputs.
            texts: raw texts.
            top: answers to give where there are several.
            max_length: tokens in the longest row the model can take.
        """
        raise NotImplementedError(f"{type(self).__name__} cannot predict from text")
