"""The words of a dataset, a stretch of rows after the other, with a number that stands for each: what words in a row,
lists of words and n-grams are compared by.

Shapes: N tokens of a stretch, W words of it, V vocabulary.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from taskmask.data.dataset import Split
from taskmask.data.rng import hash_integers
from taskmask.tokenizer.tokenizer import Vocabulary
from taskmask.tokenizer.word_boundaries import SPACE

STRETCH = 1 << 20  # tokens, more where a row is longer
_BASE = 0x9E3779B97F4A7C15  # odd, so that no power of it is 0


@dataclass(frozen=True)
class Stretch:
    """Some rows of a split.

    Attributes:
        first_row: number of the first of them.
        start: the place of its first token in the split.
        tokens: int64 [N], `</s>` included.
        offsets: int64 [rows + 1], where each row begins and the last one ends.
    """

    first_row: int
    start: int
    tokens: np.ndarray
    offsets: np.ndarray


def stretches(split: Split, size: int = STRETCH) -> Iterator[Stretch]:
    """Yields all rows of a split, about `size` tokens at a time."""
    offsets, row = split.offsets("tokens"), 0
    while row < split.rows:
        stop = max(row + 1, int(np.searchsorted(offsets, offsets[row] + size, side="right")) - 1)
        start, end = int(offsets[row]), int(offsets[stop])
        yield Stretch(row, start, split.tokens(start, end).astype(np.int64), offsets[row : stop + 1] - start)
        row = stop


@dataclass(frozen=True)
class Words:
    """The words of a stretch; special tokens are in none.

    Attributes:
        keys: uint64 [W], the same for words of the same pieces, whether or not a space stands before them.
        firsts: int64 [W], the first token of each.
        stops: int64 [W], one past its last.
        begins: bool [W]: the first of its row, or after a special token.
        pieces: int64 [W], the first piece of each that is not only a space.
        is_text: bool [W]: it has a letter or a digit, so it is not punctuation.
    """

    keys: np.ndarray
    firsts: np.ndarray
    stops: np.ndarray
    begins: np.ndarray
    pieces: np.ndarray
    is_text: np.ndarray

    def __len__(self) -> int:
        return len(self.keys)


@functools.lru_cache(maxsize=4)
def _tables(vocab: Vocabulary) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns uint64 [V], a random number of the text of each piece, 0 where it is blank; bool [V], it is blank; bool
    [V], it has a letter or a digit."""
    texts = [piece.replace(SPACE, "") for piece in vocab.pieces(np.arange(vocab.size))]
    ids: dict[str, int] = {}
    same = np.array([ids.setdefault(text, len(ids)) for text in texts], np.int64)
    blank = np.array([not text for text in texts])
    has_text = np.array([any(map(str.isalnum, text)) for text in texts])
    return np.where(blank, np.uint64(0), hash_integers(same)), blank, has_text


def words_of(tokens: np.ndarray, offsets: np.ndarray, vocab: Vocabulary) -> Words:
    """Finds the words of rows.

    Args:
        tokens: int [N], the rows one after the other.
        offsets: int [rows + 1], where they begin and end; no word goes on from one to the next.
        vocab: says where words start.
    """
    numbers, blank, has_text = _tables(vocab)
    word = vocab.word_numbers(tokens[None])[0] if len(tokens) else np.zeros(0, np.int32)
    inside = word >= 0
    starts = inside.copy()
    starts[1:] &= word[1:] != word[:-1]
    rows = offsets[:-1][offsets[:-1] < len(tokens)]
    starts[rows] = inside[rows]
    firsts = np.flatnonzero(starts)
    if not len(firsts):
        none = np.zeros(0, np.int64)
        return Words(none.astype(np.uint64), none, none, none.astype(bool), none, none.astype(bool))
    place = np.flatnonzero(inside)
    here, at = tokens[place], np.searchsorted(place, firsts)
    stops = np.append(place[at[1:] - 1], place[-1]) + 1
    filled = ~blank[here]
    number = np.cumsum(filled) - filled  # of the tokens that are not blank
    within = number - np.repeat(number[at], np.diff(np.append(at, len(place))))
    powers = np.cumprod(np.full(int(within.max()) + 2, _BASE, np.uint64))
    keys = np.add.reduceat(numbers[here] * powers[within], at)
    leading = np.minimum(firsts + blank[tokens[firsts]], stops - 1)
    is_row = np.zeros(len(tokens), bool)
    is_row[rows] = True
    begins = is_row[firsts]
    begins[0] = True
    begins[1:] |= firsts[1:] != stops[:-1]
    return Words(keys, firsts, stops, begins, tokens[leading], np.logical_or.reduceat(has_text[here], at))


def ngrams(words: Words, longest: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Returns for each n from 1 to `longest` (uint64 [W], the key of the n words from there on; bool [W], whether there
    are n words of text there, side by side in a row)."""
    keys, valid = words.keys, words.is_text
    joined = valid & ~words.begins
    found = [(keys, valid)]
    for n in range(2, longest + 1):
        last = np.zeros(len(words), np.uint64)
        follows = np.zeros(len(words), bool)
        last[: 1 - n], follows[: 1 - n] = words.keys[n - 1 :], joined[n - 1 :]
        keys, valid = joint(keys, last), valid & follows
        found.append((keys, valid))
    return found


def joint(before: np.ndarray, word: np.ndarray) -> np.ndarray:
    """Returns uint64, the keys of n-grams: those of their first n - 1 words, and of the last."""
    return hash_integers(before, word)


def keys_of_texts(texts: Sequence[Sequence[str]], vocab: Vocabulary) -> tuple[np.ndarray, np.ndarray]:
    """Encodes texts that are given as words, and returns their keys.

    Returns:
        (uint64, the key of all words of each text as one n-gram; int64, how many words of text the vocabulary makes of
        it, 0 where it is not only words of text).
    """
    arrays = [ids for ids, _ in vocab.encode_words(texts)]
    sizes = np.array([len(ids) for ids in arrays], np.int64)
    tokens = np.concatenate([np.zeros(0, np.int64), *arrays])
    offsets = np.append(0, np.cumsum(sizes))
    words = words_of(tokens, offsets, vocab)
    row = np.searchsorted(offsets, words.firsts, side="right") - 1
    counts = np.bincount(row, minlength=len(texts))
    counts[np.bincount(row, ~words.is_text, minlength=len(texts)) > 0] = 0
    first = np.searchsorted(row, np.arange(len(texts)))
    keys = np.zeros(len(texts), np.uint64)
    for n, (found, _) in enumerate(ngrams(words, int(counts.max(initial=1))), 1):
        some = counts == n
        keys[some] = found[first[some]]
    return keys, counts
