"""Rows of words or tokens that carry labels: what their units are, and where each begins."""

from __future__ import annotations

import numpy as np

from taskmask.data.batch import TokenBatch
from taskmask.data.dataset import Split
from taskmask.data.sequences.base import RowSource
from taskmask.tokenizer.tokenizer import Vocabulary

WORD, FIRST = "word", "first"  # the stored column, and the one that is made of it


class Units(RowSource):
    """Each stored row on its own, in pieces where it is too long, so that every token stands in one row.

    A unit is a word where the split has the column "word" (the number of the given word of each token), else a token.
    The rows get a column "first", bool [B, T]: True at the first token of each unit. A row that begins within a word
    has no first token of it.

    Args:
        split: the split of a dataset.
        vocab: its vocabulary.
        length: tokens in the longest row, `<s>` and `</s>` included.
        columns: columns to gather besides the tokens.
        relabel: as for `Source`.
    """

    def __init__(
        self,
        split: Split,
        vocab: Vocabulary,
        length: int,
        columns: tuple[str, ...] = (),
        relabel: dict[str, np.ndarray] | None = None,
    ):
        self.has_words = WORD in split.columns
        super().__init__(split, vocab, length, "sentence", (*columns, *([WORD] if self.has_words else [])), relabel)
        self.first_of = np.asarray(split.offsets("tokens"))[self.stored]  # the first token of each row's stored row
        if cut := len(np.unique(self.stored[self.starts > self.first_of])):
            rows = f"{cut:,} of {split.rows:,} rows"
            self.notes.append(f"split {split.name}: {rows} are longer than data.length {length}, and read in pieces")

    def __getitem__(self, ids: np.ndarray) -> TokenBatch:
        rows = super().__getitem__(ids)
        rows.columns[FIRST] = content_of(rows)
        if self.has_words:
            word, starts = rows.columns[WORD], self.starts[ids]
            before = self.split.values(WORD)[np.maximum(starts - 1, 0)]
            goes_on = word[:, 1:] == word[:, :-1]
            goes_on[:, 0] = (starts > self.first_of[ids]) & (word[:, 1] == before)
            rows.columns[FIRST][:, 1:] &= ~goes_on
        return rows


def content_of(batch: TokenBatch) -> np.ndarray:
    """Bool [B, T]: True at what stands between `<s>` and the last `</s>` of each row, an `<unk>` too."""
    place = np.arange(batch.shape[1])[None, :]
    return (place > 0) & (place < batch.lengths[:, None] - 1)


def first_tokens(split: Split) -> np.ndarray:
    """Bool [tokens]: as the column "first" of `Units`, over all stored tokens; what closes a row is no unit."""
    if WORD not in split.columns:
        return np.ones(split.num_tokens, bool)
    word = split.values(WORD)
    first = np.ones(len(word), bool)
    first[1:] = word[1:] != word[:-1]
    starts = split.offsets("tokens")[:-1]
    first[starts[starts < len(first)]] = True
    return first & (word >= 0)
