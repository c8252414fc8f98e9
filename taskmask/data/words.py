"""Which pieces start and end words, and the word number of every token.

The rule, for SentencePiece pieces (▁ is a space):

- `▁x` starts a word.
- A piece of punctuation or symbols only is a word of its own (BERT splits on punctuation).
- In scripts written without spaces (Han, Hiragana, Katakana, Thai, Lao, Khmer, Myanmar) every piece is a word: one
  whose first character is of such a script starts a word, one whose last is ends it.
- Byte pieces `<0xNN>`: ASCII bytes are their character, lead bytes E0 to F4 start a word (mostly Han and emoji), C2 to
  DF and continuation bytes do not.
- A combining mark or a joiner always stays with what is before it, and a lone `▁` with what follows it.
- Specials belong to no word.
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_right

import numpy as np

_STARTS, _ENDS, _JOINS, _SPACE = 1, 2, 4, 8

# A piece starts a word if it has one of three traits and the piece before it has the trait's partner, 4 bits above.
_ORDINARY, _MAY_FOLLOW = 8, 4  # partners: _SPECIAL; ends a word. That of _STARTS is to be more than a lone space
_SPECIAL, _LETS_FOLLOW, _LETS_START = _ORDINARY << 4, _MAY_FOLLOW << 4, _STARTS << 4

# First and last code points of the scripts written without spaces, ascending.
_UNSPACED = (
    (0x0E01, 0x0E7F), (0x0E81, 0x0EFF), (0x1000, 0x109F), (0x1780, 0x17FF), (0x19E0, 0x19FF), (0x2E80, 0x2FDF),
    (0x3005, 0x3007), (0x3021, 0x3029), (0x3031, 0x3035), (0x3041, 0x30FF), (0x31F0, 0x31FF), (0x3400, 0x4DBF),
    (0x4E00, 0x9FFF), (0xA9E0, 0xA9FF), (0xAA60, 0xAA7F), (0xF900, 0xFAFF), (0xFF66, 0xFF9F), (0x1B000, 0x1B16F),
    (0x20000, 0x3FFFF),
)  # fmt: skip
_FIRST = [first for first, _ in _UNSPACED]


def is_unspaced(character: str) -> bool:
    """Whether the character belongs to a script written without spaces; False for the empty string."""
    if not character:
        return False
    at = bisect_right(_FIRST, ord(character)) - 1
    return at >= 0 and ord(character) <= _UNSPACED[at][1]


def piece_flags(pieces: list[str], is_special: np.ndarray) -> np.ndarray:
    """The word rule of every piece as bits: 1 starts a word, 2 ends a word, 4 and up are internal. uint8 [V]."""
    traits = np.fromiter((_traits_of(piece) for piece in pieces), np.uint8, len(pieces))
    is_space = traits & _SPACE != 0
    flags = traits & (_STARTS | _ENDS) | _ORDINARY
    flags |= np.where(traits & _JOINS == 0, _MAY_FOLLOW, 0).astype(np.uint8)
    flags |= np.where(~is_space, _LETS_START, 0).astype(np.uint8)
    flags |= np.where(~is_space & (traits & _ENDS != 0), _LETS_FOLLOW, 0).astype(np.uint8)
    flags[is_special] = _SPECIAL
    return flags


def word_numbers(tokens: np.ndarray, flags: np.ndarray) -> np.ndarray:
    """Word number of each token, from 0 in every row; -1 at specials.

    Args:
        tokens: int [B, T].
        flags: uint8 [V], of `piece_flags`.

    Returns:
        int32 [B, T].
    """
    flag = flags.take(tokens)
    is_ordinary = flag & _ORDINARY != 0
    starts = np.empty(tokens.shape, bool)
    flat = flag.reshape(-1)
    starts.reshape(-1)[1:] = flat[1:] & (flat[:-1] >> 4) != 0
    starts[:, 0] = is_ordinary[:, 0]  # follows nothing, as if a special were before it
    numbers = np.cumsum(starts, axis=1, dtype=np.int32)
    numbers *= is_ordinary  # 0 at specials
    numbers -= 1
    return numbers


def _traits_of(piece: str) -> int:
    if byte := re.fullmatch(r"<0x([0-9A-F]{2})>", piece):
        value = int(byte[1], 16)
        if value < 0x80:
            return _traits_of(chr(value))
        return _STARTS if 0xE0 <= value <= 0xF4 else _JOINS if value < 0xC0 else 0
    text = piece.lstrip("▁")
    if not text:
        return _STARTS | _SPACE
    own_word = all(_is_punctuation(character) for character in text)
    joins = text == piece and (unicodedata.category(text[0])[0] == "M" or text[0] == "\u200d")
    starts = text != piece or (not joins and (own_word or is_unspaced(text[0])))
    ends = own_word or is_unspaced(text[-1])
    return _STARTS * starts | _ENDS * ends | _JOINS * joins


def _is_punctuation(character: str) -> bool:
    return unicodedata.category(character)[0] in "PS"
