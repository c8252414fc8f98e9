"""ROUGE: how much of a reference a text repeats, in words, pairs of words, and words in their order.

Made for English: words are made of the letters and digits of ASCII, in lower case, and everything else separates them.
No stemming. So `Straße` is two words, `stra` and `e`, and a text in another script has no word. A caller may give
another rule for words.

A score is undefined, not 0, if no reference has what it counts: a word, for ROUGE-2 a pair of words. So a copy of the
reference never scores 0. Google-research's `rouge_score` gives 0 there.

Source: Lin 2004, "ROUGE: A Package for Automatic Evaluation of Summaries", sections 2 and 3; words and F1 are those of
google-research's `rouge_score` with use_stemmer=False.
"""

from __future__ import annotations

import itertools
import math
import re
from collections import Counter
from collections.abc import Callable, Sequence

KINDS = ("rouge1", "rouge2", "rougeL")
COUNTED = {"rouge1": "word", "rouge2": "pair of words", "rougeL": "word"}
_BETWEEN_WORDS = re.compile(r"[^a-z0-9]+")


def latin_words(text: str) -> list[str]:
    """The words of a text, as ROUGE counts them."""
    return _BETWEEN_WORDS.sub(" ", text.lower()).split()


def rouge(
    guess: str, accepted: Sequence[str], words_of: Callable[[str], list[str]] = latin_words
) -> tuple[float, float, float]:
    """F1 of ROUGE-1, ROUGE-2 and ROUGE-L of a text, each the best over the references.

    Args:
        guess: the text.
        accepted: the references, at least one.
        words_of: gives the words of a text.

    Returns:
        NaN for each score of which no reference has what it counts. If some have, one of the others counts only if the
        guess is the same text, and then 1.
    """
    words = words_of(guess)
    of_references = [words_of(reference) for reference in accepted]
    scores = [_scores(words, reference) for reference in of_references]
    is_copy = [reference.split() == guess.split() for reference in accepted]
    one, two, longest = (
        _best([score[kind] for score in scores], [len(words) >= least for words in of_references], is_copy)
        for kind, least in enumerate((1, 2, 1))
    )
    return one, two, longest


def _best(scores: list[float], is_defined: list[bool], is_copy: list[bool]) -> float:
    """The best score over references; NaN if it is defined for none."""
    if not any(is_defined):
        return math.nan
    return max(
        score if defined else float(copy) for score, defined, copy in zip(scores, is_defined, is_copy, strict=True)
    )


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
