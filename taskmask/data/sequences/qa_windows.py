"""Rows of a part of a context, alone or behind a question (`<s> question </s> context </s>`), in windows."""

from __future__ import annotations

import numpy as np

from taskmask.data import blocks, padding
from taskmask.data.batch import TokenBatch
from taskmask.data.dataset import Split
from taskmask.data.sequences.base import Source
from taskmask.errors import DataError
from taskmask.tokenizer.tokenizer import Vocabulary

QUESTION, ANSWER = "question", "answer"


class Windows(Source):
    """Every stored row, its question beside each window of its context; or each window alone: `<s> context </s>`.

    A context that does not fit is cut into windows of which each begins so that it shares `stride` tokens with the one
    before it, or half of the window where that is less. Every token of the context is in a window; the last window may
    be shorter. A question longer than `max_question` is cut at its end.

    The rows get the columns "segments", int64 [B, T]; "begin", int64 [B], where in the row the context begins;
    "offset", int64 [B], which of the context's tokens that is; and "answer", int32 [B, 2], first and last token of the
    answer in the context, if `labelled`.

    Args:
        split: the split of a dataset.
        vocab: its vocabulary.
        length: tokens in the longest row, specials included.
        stride: tokens that neighbouring windows share.
        max_question: tokens of the longest question.
        least: tokens of the context that a window must have room for.
        labelled: whether the rows come with their answers.
        question: the column with the questions; "": contexts are read alone, and have no "segments".

    Raises:
        DataError: a window has too little room, or a column is lacking.
    """

    def __init__(
        self,
        split: Split,
        vocab: Vocabulary,
        length: int,
        *,
        stride: int = 128,
        max_question: int = 64,
        least: int = 1,
        labelled: bool = True,
        question: str = QUESTION,
    ):
        wanted = {**({question: "ragged"} if question else {}), **({ANSWER: "row"} if labelled else {})}
        for name, kind in wanted.items():
            if name not in split.columns or split.columns[name].kind != kind:
                raise DataError(
                    f"there is no column {name!r}",
                    where=f"{split.folder}, split {split.name}",
                    expected="questions with answers in a context",
                    fix="prepare jsonl with question, context and answers, or SQuAD's file, with taskmask-preprocess",
                )
        super().__init__(split, vocab, (ANSWER,) if labelled else ())
        self.question = question
        if not question:
            max_question = 0
        around = 2 + (vocab.pair_separators if question else 0)  # <s>, </s> and what stands between the two
        if (room := length - around - max_question) < least:
            raise DataError(
                f"rows of {length} tokens have {max(room, 0)} for the context beside a question of {max_question}",
                where="data.length",
                expected=f"at least {max_question + around + least}, so that an answer of {least} has room",
                fix="raise data.length, or lower task.max_question or task.max_answer",
            )
        sizes = np.diff(split.offsets(question)) - 1 if question else np.zeros(split.rows, np.int64)
        kept = np.minimum(sizes, max_question)
        context = contexts_of(split)
        self.stored, offset, self.sizes = cut_windows(context, length - around - kept, stride)
        self.starts = split.offsets("tokens")[self.stored] + offset
        self.stops = self.starts + self.sizes
        self.offset, self.question_sizes = offset, kept[self.stored]
        self.lengths = around + self.question_sizes + self.sizes
        self._note(int((sizes > kept).sum()), max_question)

    def _note(self, cut: int, max_question: int) -> None:
        where, rows = f"split {self.split.name}", f"of {self.split.rows:,}"
        if cut:
            self.notes.append(f"{where}: {cut:,} {rows} questions are cut to task.max_question {max_question}")
        if self.columns:
            answer = self.split.values(ANSWER)[self.stored]
            inside = (answer[:, 0] >= self.offset) & (answer[:, 1] < self.offset + self.sizes)
            if lost := self.split.rows - len(np.unique(self.stored[inside])):
                self.notes.append(f"{where}: {lost:,} {rows} answers are whole in no window")

    @property
    def used(self) -> tuple[str, ...]:
        """Names of the columns that the rows are made of."""
        return (*super().used, *([self.question] if self.question else []))

    def __getitem__(self, ids: np.ndarray) -> TokenBatch:
        vocab, split = self.vocab, self.split
        if not self.question:
            starts, stops = self.starts[ids], self.stops[ids]
            tokens, lengths = padding.gather(split.values("tokens"), starts, stops, vocab.bos, vocab.eos, vocab.pad)
            return self._rows(tokens, lengths, ids, begin=np.ones_like(lengths), offset=self.offset[ids])
        question = split.offsets(self.question)[self.stored[ids]]
        tokens, lengths, segments = padding.gather_pairs(
            (split.values(self.question), split.values("tokens")),
            (question, self.starts[ids]),
            (question + self.question_sizes[ids], self.stops[ids]),
            vocab.bos,
            vocab.eos,
            vocab.pad,
            vocab.pair_separators,
        )
        begin = 1 + self.question_sizes[ids] + vocab.pair_separators
        return self._rows(tokens, lengths, ids, segments=segments, begin=begin, offset=self.offset[ids])


class Contexts(Source):
    """The stored rows, whole, however long they are: what is known of a row once all its windows are read.

    Args:
        windows: what they are read in.

    Attributes:
        is_odd: bool [N], every other row of each document, but its first.
    """

    def __init__(self, windows: Windows):
        super().__init__(windows.split, windows.vocab)
        self.windows, self.notes = windows, windows.notes
        self.starts = windows.split.offsets("tokens")[:-1]
        self.lengths = contexts_of(windows.split) + 2
        self.stops, self.stored = self.starts + self.lengths - 2, np.arange(windows.split.rows)
        document = windows.split.values("document") if "document" in windows.split.columns else None
        is_first = np.roll(blocks.ends_document(len(self.stored), document), 1)  # the last row always ends one
        self.is_odd = (self.stored - np.maximum.accumulate(np.where(is_first, self.stored, 0))) % 2 == 1

    @property
    def used(self) -> tuple[str, ...]:
        """Names of the columns that the windows are made of."""
        return self.windows.used


def contexts_of(split: Split) -> np.ndarray:
    """Returns the tokens of each stored row, int64 [rows], without the `</s>` that closes it or its document."""
    document = split.values("document") if "document" in split.columns else None
    return np.diff(split.offsets("tokens")) - blocks.ends_document(split.rows, document)


def cut_windows(sizes: np.ndarray, rooms: np.ndarray, stride: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cuts contexts into windows.

    Args:
        sizes: tokens of each context, int [rows].
        rooms: tokens of it that a window has room for, at least 1, int [rows].
        stride: tokens that neighbouring windows share; at most half of the room.

    Returns:
        The context of each window, its first token there, and how many it has, all int64 [windows]. An empty context
        has one window.
    """
    steps = rooms - np.minimum(stride, rooms // 2)
    counts = 1 + -(-np.maximum(sizes - rooms, 0) // steps)
    context = np.repeat(np.arange(len(sizes)), counts)
    number = np.arange(len(context)) - np.repeat(np.cumsum(counts) - counts, counts)
    first = number * steps[context]
    return context, first, np.minimum(rooms[context], sizes[context] - first)
