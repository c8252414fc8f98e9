"""Rows of a context with a question about it: what a masking policy is judged by."""

from __future__ import annotations

import numpy as np

from taskmask.data import padding
from taskmask.data.batch import TokenBatch
from taskmask.data.dataset import Split
from taskmask.data.sequences.seq2seq import TextToText
from taskmask.errors import DataError
from taskmask.tokenizer.tokenizer import Vocabulary

QUESTION, QUESTION_LENGTHS = "question_tokens", "question_lengths"


class Episodes(TextToText):
    """The stored rows, contexts, as `TextToText` reads them with the answers as targets, and the questions beside them.

    The rows get the columns "question_tokens", int64 [B, Q], each `<s> question </s>`, and "question_lengths", int64
    [B], besides those of `TextToText`.

    Args:
        split: the split of a dataset.
        vocab: its vocabulary.
        length: tokens in the longest row and in the longest question, specials included.
        question: column with the questions.
        target: column with the answers.
        max_target: tokens of the longest answer, specials included.
    """

    def __init__(self, split: Split, vocab: Vocabulary, length: int, question: str, target: str, max_target: int):
        super().__init__(split, vocab, length, target=target, max_target=max_target)
        column = split.column(question)
        if column.kind != "ragged" or column.dtype == "uint8":
            raise DataError(
                f"column {question!r} holds no texts",
                where=f"{split.folder}, split {split.name}",
                fix=f"prepare the data with taskmask-preprocess --text context {question} --list {target}",
            )
        self.question = question
        offsets = split.offsets(question)
        self.questions = offsets[:-1], np.minimum(offsets[1:] - 1, offsets[:-1] + length - 2)

    @property
    def used(self) -> tuple[str, ...]:
        """Names of the columns that the rows are made of."""
        return (*super().used, self.question)

    def __getitem__(self, ids: np.ndarray) -> TokenBatch:
        rows, vocab = super().__getitem__(ids), self.vocab
        starts, stops = (ends[self.stored[ids]] for ends in self.questions)
        values = self.split.values(self.question)
        tokens, lengths = padding.gather(values, starts, stops, vocab.bos, vocab.eos, vocab.pad)
        rows.columns.update({QUESTION: tokens, QUESTION_LENGTHS: lengths})
        return rows
