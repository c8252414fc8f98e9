"""Columns of spans: which tokens of a dataset stand in a span that somebody has found."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from taskmask.data.add_column import ColumnsWriter
from taskmask.data.dataset import Column, Split
from taskmask.span_columns.words import Stretch, stretches
from taskmask.tokenizer.tokenizer import Vocabulary

SPANS = Column("aligned", "uint16", of="tokens")
MOST = (1 << 16) - 1
Spans = tuple[Stretch, np.ndarray, np.ndarray]  # first token of each in the rows, ascending, and one past its last
EXAMPLES = 8


@dataclass
class Found:
    """What was written of a split.

    Attributes:
        rows: stored rows.
        rows_with: those with a span.
        tokens: stored tokens.
        inside: those in a span.
        spans: how many there are.
        examples: the text of some.
    """

    rows: int = 0
    rows_with: int = 0
    tokens: int = 0
    inside: int = 0
    spans: int = 0
    examples: list[str] = field(default_factory=list)


def found_by(find: Callable[[Stretch], tuple[np.ndarray, np.ndarray]], split: Split) -> Iterator[Spans]:
    """Yields the spans of all rows, as `find` finds them."""
    for stretch in stretches(split):
        yield stretch, *find(stretch)


def write_spans(
    writer: ColumnsWriter,
    split: str,
    name: str,
    spans: Callable[[Split], Iterable[Spans]],
    advance: Callable[[int], Any] = lambda tokens: None,
) -> Found:
    """Writes spans into a dataset as a column: 0 outside, else the number of the span.

    Numbers run on from row to row (1 to 65535, then from 1 again), so that neighbours differ, in rows that are read
    together too.

    Args:
        writer: holds the new column.
        split: name of the split.
        name: of the new column.
        spans: gives the spans of the split, whose rows it goes through in order; they do not overlap.
        advance: is told of the tokens that are done.
    """
    found, vocab = Found(), writer.dataset.vocabulary()

    def values() -> Iterator[np.ndarray]:
        for stretch, firsts, stops in spans(writer.dataset.split(split)):
            numbers = (found.spans + np.arange(len(firsts))) % MOST + 1
            sizes = stops - firsts
            out = np.zeros(len(stretch.tokens), np.uint16)
            within = np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)
            out[np.repeat(firsts, sizes) + within] = np.repeat(numbers, sizes)
            _add(found, stretch, firsts, stops, vocab)
            yield out
            advance(len(out))

    writer.write(split, name, SPANS, values())
    return found


def _add(found: Found, stretch: Stretch, firsts: np.ndarray, stops: np.ndarray, vocab: Vocabulary) -> None:
    """Counts the spans of some rows."""
    found.rows += len(stretch.offsets) - 1
    found.rows_with += len(np.unique(np.searchsorted(stretch.offsets, firsts, side="right")))
    found.tokens += len(stretch.tokens)
    found.inside += int((stops - firsts).sum())
    found.spans += len(firsts)
    step = max(len(firsts) // EXAMPLES, 1)
    for first, stop in zip(firsts[::step].tolist(), stops[::step].tolist(), strict=True):
        text = vocab.decode(stretch.tokens[first:stop])
        if len(found.examples) < EXAMPLES and text not in found.examples:
            found.examples.append(text)
