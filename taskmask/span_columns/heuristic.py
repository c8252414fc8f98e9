"""A heuristic for salient spans in English: names by their capitals, numbers and dates. It is no tagger.

Shapes: W words of a stretch, V vocabulary.
"""

from __future__ import annotations

import string

import numpy as np

from taskmask.masking.sentences import BEHIND, closing_pieces
from taskmask.span_columns.words import Stretch, Words, keys_of_texts, words_of
from taskmask.tokenizer.tokenizer import Vocabulary
from taskmask.tokenizer.word_boundaries import SPACE

MONTHS = "January February March April May June July August September October November December"
SHORT = "Mr Mrs Ms Dr St Prof Gen Col Lt Sgt Capt Rev Sen Gov Jr Sr"  # what follows their full stop goes on
SHORT += " " + " ".join(string.ascii_uppercase)
FUNCTION_WORDS = """
A About After Against All Also Although Among An And Another Any Are As At Because Before Between Both But By Can
Could Did Do Does During Each Every For From Had Has Have He Her Here His How However I If In Into Is It Its Many
Most My Neither No Nor Not Of On One Or Other Our Over She Should Since So Some Such Than That The Their Then There
These They This Those Though Through Thus To Under Until Was We Were What When Where Whether Which While Who Why
Will With Within Without Would Yet You Your
"""
_JOINERS = frozenset("-–'’.,/&:")
_TRANSPARENT = frozenset(BEHIND + "“‘«([{")


class Salient:
    """Finds names, numbers and dates in English rows.

    A span is a run of words with a capital ("New York"), words such as "The" and "He" left out; a number ("1,000,000",
    "1990s"); or numbers and a month ("12 March 1998", "March 12, 1998"). Parts may be joined by punctuation without a
    space ("Jean-Paul", "U.S", "10:30"), and initials and titles by their full stop ("J. R. R. Tolkien", "Mr. Smith"). A
    single word with a capital at the start of a sentence is none, since any word has one there. A vocabulary without
    capitals leaves numbers and dates.

    Args:
        vocab: of the rows.

    **Source:** dates and names in place of the tagger and the date expression of Guu et al. 2020 (REALM, arXiv
    2002.08909), section 3.4.
    """

    def __init__(self, vocab: Vocabulary):
        self.vocab = vocab
        texts = [piece.replace(SPACE, "") for piece in vocab.pieces(np.arange(vocab.size))]
        self.is_capital = np.array([text[:1].isupper() for text in texts])
        self.is_digit = np.array([text[:1].isdigit() for text in texts])
        self.joins = np.array([text in _JOINERS for text in texts])
        self.is_stop, self.is_comma = (np.array([text == sign for text in texts]) for sign in ".,")
        self.transparent = np.array([bool(text) and _TRANSPARENT.issuperset(text) for text in texts])
        self.closes = closing_pieces(vocab)[0] | np.array([text in (":", ";") for text in texts])
        self.is_spaced = np.array([piece.startswith(SPACE) for piece in vocab.pieces(np.arange(vocab.size))])
        self.months, self.short, self.function = (self._keys(words) for words in (MONTHS, SHORT, FUNCTION_WORDS))

    def _keys(self, words: str) -> np.ndarray:
        keys, counts = keys_of_texts([[word] for word in words.split()], self.vocab)
        return keys[counts == 1]

    def __call__(self, stretch: Stretch) -> tuple[np.ndarray, np.ndarray]:
        """Returns int64, int64: the first token of each span in the rows, and one past its last."""
        words = words_of(stretch.tokens, stretch.offsets, self.vocab)
        if not len(words):
            return words.firsts, words.stops
        number = self.is_digit[words.pieces]
        name = self.is_capital[words.pieces] & ~np.isin(words.keys, self.function)
        month = np.isin(words.keys, self.months)
        linked = self._linked(words, stretch.tokens, name, number, month)
        first = np.flatnonzero(~linked)
        last = np.append(first[1:], len(words)) - 1
        # a month without a capital, of a vocabulary that has none, is one only beside a number
        salient = (name | number)[first] | (month[first] & (last > first))
        salient &= (last > first) | number[first] | ~self._starts_sentence(words)[first]
        return words.firsts[first[salient]], words.stops[last[salient]]

    def _linked(
        self, words: Words, tokens: np.ndarray, name: np.ndarray, number: np.ndarray, month: np.ndarray
    ) -> np.ndarray:
        """Returns bool [W], whether a word goes on with what the word before it began."""
        goes_on = ~words.begins
        linked = goes_on & (name & _before(name) | (month & _before(number)) | (number & _before(month)))
        # signs between two words
        alone = words.stops - words.firsts == 1
        follows = goes_on & _after(goes_on)
        tight = ~self.is_spaced[tokens[words.firsts]] & ~_after(self.is_spaced[tokens[words.firsts]])
        alike = (_before(name) & _after(name)) | (_before(number) & _after(number))
        joint = alone & tight & alike & self.joins[words.pieces]
        joint |= self.is_stop[words.pieces] & _before(self._is_short(words)) & _after(name)
        joint |= self.is_comma[words.pieces] & _before(number & _before(month) & goes_on) & _after(number)
        joint &= follows
        return linked | joint | _before(joint)

    def _is_short(self, words: Words) -> np.ndarray:
        return np.isin(words.keys, self.short) & self.is_capital[words.pieces]

    def _starts_sentence(self, words: Words) -> np.ndarray:
        """Returns bool [W]: begins a row, or follows closing punctuation, perhaps behind quotes and brackets."""
        place = np.arange(len(words))
        row = np.maximum.accumulate(np.where(words.begins, place, 0))
        solid = np.maximum.accumulate(np.where(self.transparent[words.pieces], -1, place))
        before = np.append(-1, solid[:-1])
        closes = self.closes[words.pieces] & ~(self.is_stop[words.pieces] & _before(self._is_short(words)))
        return (before < row) | closes[before]


def _before(values: np.ndarray) -> np.ndarray:
    """Returns bool [W], what stands at the word before each."""
    return np.append(False, values[:-1])


def _after(values: np.ndarray) -> np.ndarray:
    """Returns bool [W], what stands at the word after each."""
    return np.append(values[1:], False)
