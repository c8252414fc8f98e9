"""Where the sentences of a row end, by its pieces: at closing punctuation, whatever the script.

Shapes: B rows, T tokens, V vocabulary.
"""

from __future__ import annotations

import functools

import numpy as np

from taskmask.data.batch import TokenBatch
from taskmask.tokenizer.tokenizer import Vocabulary
from taskmask.tokenizer.word_boundaries import SPACE

ENDS = ".!?…。！？؟۔।"
BEHIND = "\"'”’»)]」』"


def sentence_numbers(rows: TokenBatch) -> np.ndarray:
    """Returns int32 [B, T], the number of each token's sentence in its row, from 0; -1 at what is no content.

    A sentence ends with a word of closing punctuation, quotation marks and brackets behind it included, where a word
    follows: so "3.5" is whole, but "Mr. Smith" is not.
    """
    closes, trails = closing_pieces(rows.vocab)
    words = content_words(rows)
    inside = words >= 0
    ends = np.zeros(rows.shape, bool)
    open_end = np.zeros(len(words), bool)
    for place in range(rows.shape[1]):
        token = rows.tokens[:, place]
        open_end = inside[:, place] & (closes[token] | (open_end & trails[token]))
        ends[:, place] = open_end
    follows = np.zeros(rows.shape, bool)
    starts_word = np.ones(rows.shape, bool)
    starts_word[:, 1:] = words[:, 1:] != words[:, :-1]
    follows[:, 1:] = ends[:, :-1] & ~ends[:, 1:] & starts_word[:, 1:] & inside[:, 1:]
    numbers = np.cumsum(follows | (inside & ~np.pad(inside, ((0, 0), (1, 0)))[:, :-1]), axis=1, dtype=np.int32) - 1
    return np.where(inside, numbers, np.int32(-1))


def content_words(rows: TokenBatch) -> np.ndarray:
    """Returns int32 [B, T], the number of each token's word in its row, `<unk>` a word like others; -1 elsewhere."""
    words, is_unknown = rows.words, rows.tokens == rows.vocab.unk
    inside = (words >= 0) | is_unknown
    starts = inside & (is_unknown | (words != np.pad(words, ((0, 0), (1, 0)), constant_values=-1)[:, :-1]))
    return np.where(inside, np.cumsum(starts, axis=1, dtype=np.int32) - 1, np.int32(-1))


@functools.lru_cache(maxsize=4)
def closing_pieces(vocab: Vocabulary) -> tuple[np.ndarray, np.ndarray]:
    """Returns bool [V] twice: pieces that close a sentence, and pieces that may still stand behind them."""
    texts = [piece.replace(SPACE, "") for piece in vocab.pieces(np.arange(vocab.size))]
    closes = [bool(text.rstrip(BEHIND)) and text.rstrip(BEHIND)[-1] in ENDS for text in texts]
    trails = [bool(text) and all(letter in BEHIND + ENDS for letter in text) for text in texts]
    return np.array(closes) & ~vocab.is_special, np.array(trails) & ~vocab.is_special
