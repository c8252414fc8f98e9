"""Rows of a text and the text that is to be made of it, with what else is accepted, and what may be chosen among."""

from __future__ import annotations

import itertools

import numpy as np

from taskmask.data import padding
from taskmask.data.batch import TokenBatch
from taskmask.data.dataset import Split
from taskmask.data.sequences.base import Examples, no_labels
from taskmask.errors import DataError
from taskmask.tokenizer.tokenizer import Vocabulary

LABELS, LABEL_LENGTHS = "labels", "label_lengths"
Ranges = tuple[np.ndarray, np.ndarray, np.ndarray]  # flat token ids; first, and one past the last, of each text


class TextToText(Examples):
    """The stored rows as `Examples` reads them, each with a target text, and lists of candidates beside it.

    A column of texts is one of tokens, or of lists of texts as UTF-8: the first of a list is the target, all are
    accepted. Targets longer than `max_target` are cut at their end; candidates, which are scored and not learned, only
    where they are longer than `length`. Rows whose target is empty are left out. All three are counted in `notes`.
    `lengths` are those of the longer of text and target, which is what the budget of a batch must hold.

    The rows get the columns "labels", int64 [B, U], each `<s> target </s>`, and "label_lengths", int64 [B].

    Args:
        split: the split of a dataset.
        vocab: its vocabulary.
        length: tokens in the longest row, specials included.
        target: column with the targets; "" to read texts without them.
        pair: column with the second texts; "" where there is one text.
        choices: column with lists of candidates; "" where there are none.
        max_target: tokens of the longest target, specials included; no more than `length`.
    """

    def __init__(
        self,
        split: Split,
        vocab: Vocabulary,
        length: int,
        *,
        target: str = "",
        pair: str = "",
        choices: str = "",
        max_target: int,
    ):
        super().__init__(split, vocab, length, pair)
        self.target, self.choices, self.max_target = target, choices, min(max_target, length)
        if target:
            values, starts, stops = self._texts(target)
            kept = np.minimum(stops - starts, self.max_target - 2)
            if cut := int((stops - starts > kept).sum()):
                where = f"split {split.name}: {cut:,} of {len(self):,}"
                self.notes.append(f"{where} targets are cut to task.max_length {self.max_target}")
            self.labels = values, starts, starts + kept
            self.lengths = np.maximum(self.lengths, kept + 2)
            self._leave_out(stops == starts)
        if choices:
            lists = [row.split("\n") if row else [] for row in texts_of(split, self._listed(choices))]
            self.first_choice = np.cumsum([0, *map(len, lists)])  # int64 [N + 1], of each row among all
            values, starts, stops = self._encoded([text for row in lists for text in row])
            whole, stops = stops, np.minimum(stops, starts + length - 2)
            if cut := int((whole > stops).sum()):
                self.notes.append(
                    f"split {split.name}: {cut:,} of {len(whole):,} choices are cut to data.length {length}"
                )
            self.candidates = values, starts, stops

    def _leave_out(self, without: np.ndarray) -> None:
        """Leaves out the rows without a target, bool [rows].

        Raises:
            DataError: no row has one.
        """
        if len(without) and without.all():
            raise no_labels(self.split, f"no row has a text in column {self.target!r}")
        self.only(np.flatnonzero(~without), f"have no text in column {self.target!r}")

    @property
    def examples(self) -> np.ndarray:
        """The rows, int64 [N]: each has a target of its own, whatever document it is of."""
        return self.stored

    def _texts(self, name: str) -> Ranges:
        """Where the tokens of a column are; of lists, those of the first text."""
        column = self.split.column(name)
        if column.kind == "ragged" and column.dtype != "uint8":
            offsets = self.split.offsets(name)
            return self.split.values(name), offsets[:-1], offsets[1:] - 1
        return self._encoded([row.partition("\n")[0] for row in texts_of(self.split, self._listed(name))])

    def _listed(self, name: str) -> str:
        """Raises a DataError unless the column holds lists of texts; returns its name."""
        column = self.split.column(name)
        if column.kind != "ragged" or column.dtype != "uint8":
            raise DataError(
                f"column {name!r} is no list of texts",
                where=f"{self.split.folder}, split {self.split.name}",
                fix=f"prepare the data with taskmask-preprocess --list {name}",
            )
        return name

    def _encoded(self, texts: list[str]) -> Ranges:
        values, lengths = self.vocab.encode_flat([text.encode() for text in texts])
        stops = np.cumsum(lengths)
        return values, stops - lengths, stops

    @property
    def used(self) -> tuple[str, ...]:
        """Names of the columns that the rows are made of."""
        return (*super().used, *filter(None, (self.target, self.choices)))

    def __getitem__(self, ids: np.ndarray) -> TokenBatch:
        rows = super().__getitem__(ids)
        if self.target:
            values, starts, stops = self.labels
            stored = self.stored[ids]
            labels, lengths = self._gathered(values, starts[stored], stops[stored])
            rows.columns.update({LABELS: labels, LABEL_LENGTHS: lengths})
        return rows

    def _gathered(self, values: np.ndarray, starts: np.ndarray, stops: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return padding.gather(values, starts, stops, self.vocab.bos, self.vocab.eos, self.vocab.pad)

    def accepted(self, ids: np.ndarray) -> list[list[str]]:
        """Returns all target texts of each of these rows, whole; those of a column of tokens as they are decoded."""
        stored = self.stored[ids]
        if self.split.column(self.target).dtype == "uint8":
            return [text.split("\n") for text in texts_of(self.split, self.target, stored)]
        values, offsets = self.split.values(self.target), self.split.offsets(self.target)
        return [[self.vocab.decode(values[offsets[row] : offsets[row + 1]])] for row in stored]

    def choices_of(self, ids: np.ndarray) -> list[list[str]]:
        """Returns the candidates of each of these rows."""
        return [text.split("\n") if text else [] for text in texts_of(self.split, self.choices, self.stored[ids])]

    def gather_choices(self, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Returns the candidates of these rows: labels int64 [C, U], lengths int64 [C], and which row, int64 [C]."""
        stored = self.stored[ids]
        first, num = self.first_choice[stored], np.diff(self.first_choice)[stored]
        row = np.repeat(np.arange(len(ids)), num)
        number = np.arange(len(row)) + np.repeat(first - (np.cumsum(num) - num), num)
        values, starts, stops = self.candidates
        return *self._gathered(values, starts[number], stops[number]), row


def texts_of(split: Split, column: str, rows: np.ndarray | None = None) -> list[str]:
    """Returns the texts that a ragged column holds as UTF-8, of these rows; None: of all."""
    values, offsets = split.values(column), split.offsets(column)
    if rows is None:
        text = np.asarray(values).tobytes()
        return [text[start:end].decode() for start, end in itertools.pairwise(offsets.tolist())]
    bounds = zip(offsets[rows].tolist(), offsets[rows + 1].tolist(), strict=True)
    return [values[start:end].tobytes().decode() for start, end in bounds]
