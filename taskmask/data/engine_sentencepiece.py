"""A SentencePiece model as the engine of a vocabulary."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np

from taskmask.data.engine import SPECIALS, VOCABULARY_FILE, Engine, Spans
from taskmask.data.word_cache import is_sum_of_words
from taskmask.data.words import Piece, marked_piece
from taskmask.errors import DataError


class SentencePieceEngine(Engine):
    """A SentencePiece model.

    Args:
        content: of a `.model` file.
        where: what to call it in error messages.

    Raises:
        DataError: the bytes are no SentencePiece model.
    """

    file_name = VOCABULARY_FILE

    def __init__(self, content: bytes, where: str):
        self._processor = _load(content, where)
        size = self._processor.vocab_size()
        self.names = list(self._processor.id_to_piece(list(range(size))))
        self.ids = {name: id for id, name in enumerate(self.names)}
        self.roles = {role: self.ids[role] for role in SPECIALS if role in self.ids}
        self.special_ids = [id for id in range(size) if self._processor.is_control(id)]

    @cached_property
    def is_sum_of_words(self) -> bool:  # type: ignore[override]
        """Whether a memory of words gives the same ids."""
        return is_sum_of_words(self._processor, self.names)

    def piece(self, id: int) -> Piece:
        """What an id stands for."""
        return marked_piece(self.names[id])

    def encode(self, texts: Sequence[str | bytes], num_threads: int) -> list[np.ndarray]:
        """The ids of each text, int32, read-only."""
        return self._processor.encode(list(texts), out_type="numpy", num_threads=num_threads)

    def encode_words(self, words: list[str], num_threads: int) -> list[np.ndarray]:
        """The ids of each word: a text begins with a space that is not in it."""
        return self.encode(words, num_threads)

    def encode_with_offsets(self, texts: list[str], num_threads: int) -> list[Spans]:
        """Ids of each text and the characters that each covers, with the space before it."""
        found = self._processor.encode(texts, out_type="offset_mapping", num_threads=num_threads)
        return [self._spans(entry["ids"], entry["offsets"]) for entry in found]

    def _spans(self, ids: list[int], offsets: list[tuple[int, int]]) -> Spans:
        tokens = np.array(ids, np.int32)
        starts, ends = np.array(offsets, np.int32).reshape(-1, 2).T
        # Of the bytes of a character only the last covers it; the others come before it and are empty.
        covering = np.flatnonzero(~(self._is_byte[tokens] & (starts == ends)))
        following = np.searchsorted(covering, np.arange(len(tokens)))
        filled = np.append(ends[covering], ends[-1:])[following] if len(tokens) else ends
        return tokens, starts, filled

    @cached_property
    def _is_byte(self) -> np.ndarray:
        return np.array([self._processor.is_byte(id) for id in range(len(self.names))])


def _load(content: bytes, where: str) -> Any:
    import sentencepiece

    try:
        processor = sentencepiece.SentencePieceProcessor(model_proto=content) if content else None
        if processor is not None and processor.vocab_size() > 0:
            processor.encode(["a"], out_type="numpy")
            return processor
    except (RuntimeError, OSError, UnicodeDecodeError):
        pass
    raise DataError(
        f"this is no SentencePiece model ({len(content)} bytes), and no tokenizer.json, which starts with {{",
        where=where,
        expected="an undamaged SentencePiece .model file or tokenizer.json",
        fix="copy the file again, or train one with taskmask-preprocess --vocab-size N",
    )
