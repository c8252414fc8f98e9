"""Answers to questions, compared as SQuAD does.

The definition is SQuAD's, made for English: words are what blanks separate, and only English articles and ASCII
punctuation are left out. In a script written without blanks, such as Chinese, a whole phrase counts as one word, so
there F1 is hardly finer than exact match and not comparable with figures counted by character.

Source: Rajpurkar et al., "SQuAD: 100,000+ Questions for Machine Comprehension of Text", section 6.1 (and, for questions
without an answer, "Know What You Don't Know", section 2).
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence

_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ARTICLES = re.compile(r"\b(?:a|an|the)\b")


def normalise(text: str) -> str:
    """A text in lower case, without punctuation and articles, words separated by one blank."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def exact_match(guess: str, accepted: Sequence[str]) -> float:
    """1.0 if the normalised guess is an accepted answer, else 0.0; where none is accepted, an empty guess is right."""
    wanted = normalise(guess)
    return float(any(normalise(answer) == wanted for answer in accepted or [""]))


def token_f1(guess: str, accepted: Sequence[str]) -> float:
    """F1 of the words the normalised guess shares with an accepted answer, the best over those accepted.

    A text that normalises to nothing equals only another one that does.
    """
    words = normalise(guess).split()
    return max(_overlap(words, normalise(answer).split()) for answer in accepted or [""])


def _overlap(guess: list[str], answer: list[str]) -> float:
    if not guess or not answer:
        return float(guess == answer)
    return 2 * (Counter(guess) & Counter(answer)).total() / (len(guess) + len(answer))
