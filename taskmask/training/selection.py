"""Which labels of a model are kept: the sure ones, as many of each class, none of texts that are to be tested."""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections.abc import Sequence

import numpy as np

from taskmask.data.add_column import add_column
from taskmask.data.columns import Dataset, Split
from taskmask.data.vocab import Vocabulary
from taskmask.errors import ConfigError


@dataclasses.dataclass(frozen=True)
class Selection:
    """What to keep of the labels of rows.

    Args:
        above: the least confidence; 0: any.
        balanced: keep as many rows of each class, the most confident ones.
        leave_out: datasets whose splits valid and test must not be learned from.
    """

    above: float = 0.0
    balanced: bool = False
    leave_out: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not 0 <= self.above <= 1:
            raise ConfigError(f"is {self.above}", where="--confident", expected="a share from 0 to 1")


def select(dataset: Dataset, splits: Sequence[str], column: str, confidence: str, chosen: Selection) -> list[str]:
    """Takes the labels of a row column away (-1) that are not to be kept; returns what was done, a line a split.

    Args:
        dataset: the dataset.
        splits: names of the splits.
        column: the column with the labels.
        confidence: the column that says how sure the model is of them.
        chosen: what to keep.
    """
    vocab, tested = dataset.vocabulary(), texts_to_test(chosen.leave_out)
    lines = []
    for name in splits:
        split = dataset.split(name)
        labels, sure = np.array(split.values(column)), np.asarray(split.values(confidence), np.float64)
        known = labels >= 0
        leaked = (
            np.array([text in tested for text in texts_of(split, vocab)], bool)
            if tested
            else np.zeros(len(known), bool)
        )
        kept = known & ~leaked & (sure >= chosen.above)
        if chosen.balanced:
            kept = balance(labels, sure, kept)
        add_column(
            dataset.path, name, column, split.column(column), iter([np.where(kept, labels, -1).astype(labels.dtype)]),
            dataset.labels.get(column), overwrite=True,
        )  # fmt: skip
        names = dataset.labels.get(column, [])
        counts = np.bincount(labels[kept], minlength=len(names))
        shown = ", ".join(f"{label} {count:,}" for label, count in zip(names, counts, strict=True))
        left = f", {int((leaked & known).sum()):,} left out as they are to be tested" if chosen.leave_out else ""
        lines.append(f"{column} of {name}: {int(kept.sum()):,} of {int(known.sum()):,} labels kept{left}: {shown}")
    return lines


def balance(labels: np.ndarray, sure: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """Returns bool [N]: of the rows that are kept as many of each class that occurs, the most confident ones.

    Of equal confidence the first rows come first.

    **Source:** Guo 2020 (arXiv 2011.09031), section 2 (classic self-training: sampled evenly per class).
    """
    classes, counts = np.unique(labels[kept], return_counts=True)
    chosen = np.zeros(len(labels), bool)
    for number in classes:
        rows = np.flatnonzero(kept & (labels == number))
        chosen[rows[np.argsort(-sure[rows], kind="stable")][: counts.min()]] = True
    return chosen


def texts_to_test(datasets: Sequence[str]) -> set[str]:
    """Returns the texts of the splits valid and test of datasets, without case, blanks and punctuation."""
    found: set[str] = set()
    for path in datasets:
        dataset = Dataset.open(path)
        vocab = dataset.vocabulary()
        for name in {"valid", "test"} & dataset.splits.keys():
            found |= set(texts_of(dataset.split(name), vocab))
    return found


def texts_of(split: Split, vocab: Vocabulary) -> list[str]:
    """Returns the text of every stored row, without case, blanks and punctuation."""
    tokens, offsets = split.values("tokens"), split.offsets("tokens").tolist()
    return [
        re.sub(r"[\W_]+", "", vocab.decode(tokens[start:stop]).casefold())
        for start, stop in itertools.pairwise(offsets)
    ]
