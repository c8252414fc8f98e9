"""A masking policy as a class with options of its own, for a package that others can install."""

from __future__ import annotations

import dataclasses

import numpy as np

from taskmask import Masker, MaskerConfig, opt, register_masker
from taskmask.config import Problems
from taskmask.data.batch import TokenBatch
from taskmask.data.rng import RowRng
from taskmask.maskers.base import sample_units
from taskmask.tokenizer.tokenizer import Vocabulary


@dataclasses.dataclass(frozen=True)
class FirstLettersConfig(MaskerConfig):
    """Options of first_letters; those of every masker (ratio, never, always) are inherited."""

    letters: str = opt("aeiouAEIOU", "words that begin with one of these letters are masked")

    def __post_init__(self) -> None:
        super().__post_init__()
        problems = Problems()
        problems.check(bool(self.letters), "is empty", where="masker.letters", expected="at least one letter")
        problems.raise_any()


@register_masker("first_letters", config=FirstLettersConfig)
class FirstLetters(Masker):
    """Masks whole words, but only those that begin with one of some letters.

    **Source:** made up, to show a class with options.
    """

    def __init__(self, config: FirstLettersConfig, vocab: Vocabulary):
        super().__init__(config, vocab)
        pieces = vocab.pieces(range(vocab.size))
        self.begins = np.array([piece.lstrip("\u2581")[:1] in set(config.letters) for piece in pieces])  # [V]

    def select(self, batch: TokenBatch, rng: RowRng) -> np.ndarray:
        """Returns bool [B, T]."""
        words = np.maximum(batch.words, 0)  # [B, T], the number of each token's word
        first = np.ones(batch.shape, dtype=bool)  # [B, T], the first piece of each word
        first[:, 1:] = batch.words[:, 1:] != batch.words[:, :-1]
        chosen = np.zeros(batch.shape, dtype=bool)  # [B, T], read as [B, words]
        at = np.nonzero(first & batch.maskable & self.begins[batch.tokens])
        chosen[at[0], words[at]] = True
        wanted = batch.maskable & np.take_along_axis(chosen, words, axis=1)
        return sample_units(batch.words, wanted, self.budget(batch, rng), rng)
