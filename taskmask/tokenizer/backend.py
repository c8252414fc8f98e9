"""What a tokenizer must be able to do to make a `Vocabulary`."""

from __future__ import annotations

import abc
from collections.abc import Sequence

import numpy as np

from taskmask.tokenizer.word_boundaries import Piece

PAD, BOS, EOS, UNK, MASK = SPECIALS = ("<pad>", "<s>", "</s>", "<unk>", "<mask>")
VOCABULARY_FILE, TOKENIZER_FILE = "vocab.model", "tokenizer.json"
CHECKSUM = ".sha256"
"""End of the name of the file beside a run's vocabulary that holds its checksum, as the program sha256sum has it."""
ANCHOR = "\U0010fffd"  # private use: part of no piece, so nothing merges across it

Spans = tuple[np.ndarray, np.ndarray, np.ndarray]  # ids, first characters, one past the last characters: int32


class Engine(abc.ABC):
    """A tokenizer: text to ids, and what each id stands for. `Vocabulary` adds the rest.

    Attributes:
        file_name: of its content in a dataset.
        names: each piece as it is shown: `▁the` with a space before it, `ing` without.
        ids: the pieces as its own file writes them -> id.
        roles: those of `SPECIALS` that it has -> id.
        special_ids: ids that stand for no text; may lack those of the roles.
        ends: ids that its own post-processor puts before and after a text.
        pair_separators: number of `</s>` between the two texts of a pair.
        joins_pairs: whether it puts `<s> A </s> B </s>` itself, with this number of `</s>` between them.
        types_pairs: whether the second text and its `</s>` have type id 1, and all else 0.
        writes_spaces: whether a piece knows if a space stands before it; if not, `Piece.spaced` says it starts a word.
        is_sum_of_words: whether the ids of every text are those of its words, and a memory of words is worth it.
    """

    file_name: str
    names: list[str]
    ids: dict[str, int]
    roles: dict[str, int]
    special_ids: list[int]
    ends: tuple[list[int], list[int]] = ([], [])
    pair_separators: int = 1
    joins_pairs: bool = False
    types_pairs: bool = False
    writes_spaces: bool = True
    is_sum_of_words: bool = False

    @abc.abstractmethod
    def piece(self, id: int) -> Piece:
        """What an id stands for."""

    @abc.abstractmethod
    def encode(self, texts: Sequence[str | bytes], num_threads: int) -> list[np.ndarray]:
        """The ids of each text, int32, no specials added."""

    @abc.abstractmethod
    def encode_words(self, words: list[str], num_threads: int) -> list[np.ndarray]:
        """The ids of each word as if it stood after a space, int32."""

    @abc.abstractmethod
    def encode_with_offsets(self, texts: list[str], num_threads: int) -> list[Spans]:
        """Ids of each text and the characters that each covers; perhaps with the space before."""

    def takes_space(self, id: int) -> bool:
        """Whether a special takes the white space before it with it."""
        return True

    def as_read(self, text: str) -> str:
        """The text, character for character, with a space for each character that the tokenizer takes for one."""
        return text

    def encode_inside(self, text: str) -> np.ndarray:
        """Encodes what follows something directly: no space before it that is not in the text. int32."""
        anchor, anchored, plain = self.encode([ANCHOR, ANCHOR + text, text], 1)
        return anchored[len(anchor) :] if np.array_equal(anchored[: len(anchor)], anchor) else plain
