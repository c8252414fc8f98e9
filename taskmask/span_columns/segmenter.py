"""Dividing rows into collocations and words.

Shapes: W words of a stretch.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from taskmask.data.rng import hash_integers
from taskmask.span_columns.collocations import LONGEST
from taskmask.span_columns.words import Stretch, keys_of_texts, ngrams, words_of
from taskmask.tokenizer.tokenizer import Vocabulary


class Segmenter:
    """Finds the collocations of a list in rows.

    Of two that overlap the longer one counts where it holds the other, else one of them at random; where a collocation
    has lost its place, shorter ones may take it. What is random depends on the place in the split alone.

    Args:
        texts: the collocations.
        vocab: of the rows.

    Attributes:
        num_unfit: collocations that the vocabulary does not read as 2 to `LONGEST` words, which are never found.

    **Source:** Levine et al. 2021 (PMI-Masking, arXiv 2010.01825), section 4.
    """

    def __init__(self, texts: Sequence[str], vocab: Vocabulary):
        self.vocab = vocab
        keys, counts = keys_of_texts([text.split() for text in texts], vocab)
        self.keys = {n: np.unique(keys[counts == n]) for n in range(2, LONGEST + 1)}
        self.num_unfit = int(((counts < 2) | (counts > LONGEST)).sum())

    def __call__(self, stretch: Stretch) -> tuple[np.ndarray, np.ndarray]:
        """Returns int64, int64: the first token of each collocation in the rows, and one past its last."""
        words = words_of(stretch.tokens, stretch.offsets, self.vocab)
        known = {
            n: valid & np.isin(keys, self.keys[n])
            for n, (keys, valid) in enumerate(ngrams(words, LONGEST), 1)
            if n in self.keys
        }
        sizes = divide(known, hash_integers(stretch.start + words.firsts))
        first = np.flatnonzero(sizes)
        return words.firsts[first], words.stops[first + sizes[first] - 1]


def divide(known: dict[int, np.ndarray], priority: np.ndarray) -> np.ndarray:
    """Chooses among overlapping n-grams.

    Args:
        known: {n: bool [W], whether an n-gram of the list begins at each word}.
        priority: [W], random numbers.

    Returns:
        int64 [W], the words of the n-gram that was chosen there, 0 where there is none.
    """
    num, longest = len(priority), max(known)
    chosen, taken = np.zeros(num, np.int64), np.zeros(num, np.int64)
    while True:
        before = np.append(0, np.cumsum(taken))
        sizes = np.zeros(num, np.int64)
        for n in sorted(known):
            at = np.flatnonzero(known[n])
            sizes[at[before[at + n] == before[at]]] = n  # the longest comes last
        ends = np.arange(num) + sizes
        for shift in range(1, min(longest, num)):
            sizes[shift:][(sizes[:-shift] > shift) & (ends[:-shift] >= ends[shift:])] = 0  # lies in a longer one
        wins = sizes > 0
        if not wins.any():
            return chosen
        for shift in range(1, min(longest, num)):
            overlap = (sizes[:-shift] > shift) & (sizes[shift:] > 0)
            is_higher = priority[:-shift] > priority[shift:]
            wins[:-shift] &= ~overlap | is_higher
            wins[shift:] &= ~overlap | ~is_higher
        first = np.flatnonzero(wins)
        chosen[first] = sizes[first]
        for shift in range(longest):
            taken[first[sizes[first] > shift] + shift] = 1
