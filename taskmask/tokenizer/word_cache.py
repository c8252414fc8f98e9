"""A memory of encoded words: BPE vocabularies, whose engine is slow, become twice as fast or more, and no id changes.

BPE joins pieces by their rank. Where no piece reaches over a space, the joins in a word do not depend on its
neighbours, so the ids of a text are those of its words, and most words have been met before. Unigram vocabularies are
faster than this, and their sums of floats are not exactly those of single words.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any

import numpy as np

from taskmask.tokenizer.word_boundaries import SPACE

_WORDS_A_TEXT = 64
_MOST_IDS = 1 << 20  # remembered before all is forgotten; with their words about 70 MB


class WordCache(dict[bytes, int]):
    """Encodes texts word by word, each new word once: word -> its number, and by number its ids.

    Args:
        encode: gives the ids of each text of a list, int32; of a vocabulary for which `is_sum_of_words` holds.
        pieces: of the vocabulary.
    """

    def __init__(self, encode: Callable[[list[bytes]], list[np.ndarray]], pieces: Sequence[str]):
        super().__init__()
        self._engine = encode
        self._is_start = np.array([piece.startswith(SPACE) for piece in pieces])
        self._forget()

    def _forget(self) -> None:
        self.clear()
        self[b""] = 0
        self._new: list[bytes] = []
        self._ids = np.zeros(0, np.int32)
        self._lengths = np.zeros(1, np.int64)

    def __missing__(self, word: bytes) -> int:
        self._new.append(word)
        number = self[word] = len(self)
        return number

    def encode(self, texts: Sequence[bytes]) -> tuple[np.ndarray, np.ndarray]:
        """Encodes UTF-8 texts that do not hold `SPACE` itself: (ids of all, number of ids of each)."""
        if len(self._ids) > _MOST_IDS:
            self._forget()
        split = [text.split(b" ") for text in texts]
        words = np.fromiter(map(self.__getitem__, chain.from_iterable(split)), np.int64)
        self._learn()
        lengths = self._lengths[words]
        stops = np.append(0, np.cumsum(lengths))
        starts = np.cumsum(self._lengths) - self._lengths
        ids = self._ids[np.repeat(starts[words] - stops[:-1], lengths) + np.arange(stops[-1])]
        last_words = np.cumsum([0, *map(len, split)])
        return ids, np.diff(stops[last_words])

    def _learn(self) -> None:
        """Encodes the new words, many in a text, since a text costs; each has one piece that starts with a space."""
        new, self._new = self._new, []
        texts = [b" ".join(new[at : at + _WORDS_A_TEXT]) for at in range(0, len(new), _WORDS_A_TEXT)]
        ids = np.concatenate([np.zeros(0, np.int32), *self._engine(texts)])
        starts = np.flatnonzero(self._is_start[ids])
        assert len(starts) == len(new)
        self._ids = np.append(self._ids, ids)
        self._lengths = np.append(self._lengths, np.diff(np.append(starts, len(ids))))


def is_sum_of_words(engine: Any, pieces: Sequence[str]) -> bool:
    """Whether the ids of every text are those of its words: BPE, no piece over a space, characters left as they are.

    Args:
        engine: the SentencePieceProcessor.
        pieces: its pieces.
    """
    scores = np.array(engine.get_score(list(range(len(pieces)))))
    if SPACE not in pieces or any(SPACE in piece[1:] or " " in piece for piece in pieces) or (scores % 1).any():
        return False  # the scores of BPE are the ranks of its joins
    characters = "".join(map(chr, [*range(33, 0xD800), *range(0xE000, 0x20000)]))
    if engine.normalize(characters) != SPACE + characters:
        return False
    sample = np.random.default_rng(0).choice([*pieces, "  ", " "], (300, 12))  # to be sure
    texts = ["".join(row).replace(SPACE, " ").encode() for row in sample]

    def encode(texts: list[bytes]) -> list[np.ndarray]:
        found: list[np.ndarray] = engine.encode(texts, out_type="numpy", num_threads=1)
        return found

    return np.array_equal(WordCache(encode, pieces).encode(texts)[0], np.concatenate(encode(texts)))
