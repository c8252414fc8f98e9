"""A SentencePiece model as the engine of a vocabulary."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np

from taskmask.errors import DataError
from taskmask.tokenizer.backend import SPECIALS, VOCABULARY_FILE, Engine, Spans
from taskmask.tokenizer.text import TO_SPACE, to_spaces
from taskmask.tokenizer.word_boundaries import SPACE, Piece, marked_piece
from taskmask.tokenizer.word_cache import is_sum_of_words

_MARK = SPACE.encode()


class SentencePieceEngine(Engine):
    """A SentencePiece model.

    Control characters and `▁` in a text are spaces: the model writes a space as `▁`, so it cannot tell the two apart.

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
        raw = [text for text in texts if isinstance(text, bytes)]
        clean = len(raw) == len(texts) and not holds_other_spaces(raw)
        read = list(texts) if clean else [self._as_read(text) for text in texts]
        return self._processor.encode(read, out_type="numpy", num_threads=num_threads)

    def as_read(self, text: str) -> str:
        """The text with a space for each control character and each `▁`."""
        return to_spaces(text).replace(SPACE, " ")

    def _as_read(self, text: str | bytes) -> str | bytes:
        return self.as_read(text) if isinstance(text, str) else text.translate(TO_SPACE).replace(_MARK, b" ")

    def encode_words(self, words: list[str], num_threads: int) -> list[np.ndarray]:
        """The ids of each word: a text begins with a space that is not in it."""
        return self.encode(words, num_threads)

    def encode_with_offsets(self, texts: list[str], num_threads: int) -> list[Spans]:
        """Ids of each text and the characters that each covers, with the space before it."""
        read = [self.as_read(text) for text in texts]
        found = self._processor.encode(read, out_type="offset_mapping", num_threads=num_threads)
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


def holds_other_spaces(texts: Sequence[bytes]) -> bool:
    """Whether a text holds what a SentencePiece model takes for a space and is none: a control character or `▁`."""
    codes = np.frombuffer(b"".join(texts), np.uint8)
    if ((codes < 0x20) | (codes == 0x7F)).any():
        return True
    marks = np.flatnonzero(codes[:-2] == _MARK[0])
    return bool(((codes[marks + 1] == _MARK[1]) & (codes[marks + 2] == _MARK[2])).any())


def _load(content: bytes, where: str) -> Any:
    import sentencepiece

    try:
        processor = sentencepiece.SentencePieceProcessor(model_proto=content) if content else None
        if processor is not None and processor.vocab_size() > 0:
            processor.encode(["a"], out_type="numpy", num_threads=1)
            processor.id_to_piece(list(range(processor.vocab_size())))  # those that are no UTF-8 cannot be read
            return processor
    except (RuntimeError, OSError, UnicodeDecodeError):
        pass
    raise DataError(
        f"this is no SentencePiece model ({len(content)} bytes), and no tokenizer.json, which starts with {{",
        where=where,
        expected="an undamaged SentencePiece .model file or tokenizer.json",
        fix="copy the file again, or train one with taskmask-preprocess --vocab-size N",
    )
