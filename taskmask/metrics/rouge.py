"""ROUGE: how much of a reference a text repeats, in words, pairs of words, and words in their order.

Made for English: letters are ASCII's, in lower case, everything else separates words. No stemming. In other scripts all
texts are empty, and their scores 0.

Source: Lin 2004, "ROUGE: A Package for Automatic Evaluation of Summaries", sections 2 and 3; tokenisation and F1 are
those of google-research's `rouge_score` with use_stemmer=False.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Sequence

KINDS = ("rouge1", "rouge2", "rougeL")
_BETWEEN_WORDS = re.compile(r"[^a-z0-9]+")


def rouge(guess: str, accepted: Sequence[str]) -> tuple[float, float, float]:
    """F1 of ROUGE-1, ROUGE-2 and ROUGE-L of a text, each the best over the references, at least one."""
    words = words_of(guess)
    scores = [_scores(words, words_of(reference)) for reference in accepted]
    return max(s[0] for s in scores), max(s[1] for s in scores), max(s[2] for s in scores)


def words_of(text: str) -> list[str]:
    """The words of a text, as ROUGE counts them."""
    return _BETWEEN_WORDS.sub(" ", text.lower()).split()


def _scores(guess: list[str], reference: list[str]) -> tuple[float, float, float]:
    pairs = list(itertools.pairwise(guess)), list(itertools.pairwise(reference))
    return (
        _f1((Counter(guess) & Counter(reference)).total(), len(guess), len(reference)),
        _f1((Counter(pairs[0]) & Counter(pairs[1])).total(), len(pairs[0]), len(pairs[1])),
        _f1(longest_common_subsequence(guess, reference), len(guess), len(reference)),
    )


def _f1(shared: int, of_guess: int, of_reference: int) -> float:
    return 2 * shared / (of_guess + of_reference) if shared else 0.0


def longest_common_subsequence(a: Sequence[str], b: Sequence[str]) -> int:
    """Length of the longest common subsequence; a row of the table is a whole number, a bit a word of `a`.

    Source: Hyyrö 2004, "Bit-parallel LCS-length computation revisited", section 3.
    """
    places: dict[str, int] = {}
    for place, word in enumerate(a):
        places[word] = places.get(word, 0) | 1 << place
    everywhere = (1 << len(a)) - 1
    row = everywhere
    for word in b:
        matches = row & places.get(word, 0)
        row = ((row + matches) | (row - matches)) & everywhere
    return len(a) - row.bit_count()
