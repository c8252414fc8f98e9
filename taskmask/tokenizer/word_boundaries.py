"""Which pieces start and end words, and the word number of every token.

The rule, for the pieces of any tokenizer (`Piece`):

- A piece with a space before it starts a word: `▁x` of SentencePiece, `Ġx` of byte-level BPE; for WordPiece, which does
  not write spaces, every piece but `##x`.
- A piece of punctuation or symbols only is a word of its own (BERT splits on punctuation).
- In scripts written without spaces (Han, Hiragana, Katakana, Thai, Lao, Khmer, Myanmar) every piece is a word, `##x`
  too: one whose first character is of such a script starts a word, one whose last is ends it.
- Bytes that are no whole character, `<0xNN>` or pieces of byte-level BPE: continuation bytes stay with what is before
  them. The first bytes of a character (E0 to F4) do what the character does that they and the next pieces spell: a Han
  character or an emoji starts a word, a Hangul syllable goes on with one, a mark stays. If it is not spelled to its
  end, two bytes do what their script does, and of lone bytes E3 to E9 (mostly Han) start a word. C2 to DF never do.
- A combining mark or a joiner always stays with what is before it, and a piece of spaces only with what follows it.
- Specials belong to no word.
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_right
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

SPACE = "▁"  # U+2581, how pieces show a space
_BLANKS = b" \t\n\v\f\r"
_CONTINUATION = bytes(range(0x80, 0xC0))

_STARTS, _ENDS, _JOINS, _SPACE, _OPEN = 1, 2, 4, 8, 32  # _OPEN: the first bytes of a character and nothing else
_MOSTLY_HAN = range(0xE3, 0xEA)

# A piece starts a word if it has one of three traits and the piece before it has the trait's partner, 4 bits above.
_ORDINARY, _MAY_FOLLOW = 8, 4  # partners: _SPECIAL; ends a word. That of _STARTS is to be more than a lone space
_SPECIAL, _LETS_FOLLOW, _LETS_START = _ORDINARY << 4, _MAY_FOLLOW << 4, _STARTS << 4

# What a character does that is spelled in bytes, and the bits of its first ones; filled as characters are met.
_UNKNOWN, _WORD, _LETTER, _MARK = range(4)
_BITS = np.array([0, _STARTS | _MAY_FOLLOW, _MAY_FOLLOW, 0], np.uint8) | np.uint8(_ORDINARY | _LETS_START)
_NUM_CODES = 0x110000
_CLASSES = np.full(_NUM_CODES + 1, _UNKNOWN, np.uint8)  # the last one is of code -1

# First and last code points of the scripts written without spaces, ascending: Thai, Lao, Myanmar, Khmer, Han, Hiragana,
# Katakana and the symbols and radicals used with them. Source: Unicode 16, Blocks.txt and Scripts.txt.
_UNSPACED = (
    (0x0E01, 0x0E7F), (0x0E81, 0x0EFF), (0x1000, 0x109F), (0x1780, 0x17FF), (0x19E0, 0x19FF), (0x2E80, 0x2FDF),
    (0x3005, 0x3007), (0x3021, 0x3029), (0x3031, 0x3035), (0x3041, 0x30FF), (0x31F0, 0x31FF), (0x3400, 0x4DBF),
    (0x4E00, 0x9FFF), (0xA9E0, 0xA9FF), (0xAA60, 0xAA7F), (0xF900, 0xFAFF), (0xFF66, 0xFF9F), (0x1B000, 0x1B16F),
    (0x20000, 0x3FFFF),
)  # fmt: skip
_JOINERS = "\u200c\u200d"  # which stand within words, as in Persian and Hindi
_FIRST = [first for first, _ in _UNSPACED]


class Piece(NamedTuple):
    """What a token stands for, whatever its tokenizer.

    Args:
        text: its UTF-8 bytes without the space before it; perhaps a part of a character.
        spaced: whether a space stands before it, or, where spaces are not written, it starts a word.
    """

    text: bytes
    spaced: bool


def marked_piece(name: str) -> Piece:
    """The piece that SentencePiece writes as `name`: `▁the`, `ing` or the byte `<0xE4>`."""
    if byte := re.fullmatch(r"<0x([0-9A-F]{2})>", name):
        return Piece(bytes([int(byte[1], 16)]), False)
    text = name.replace(SPACE, " ").encode()
    return Piece(text.removeprefix(b" "), text.startswith(b" "))


def shown(piece: Piece) -> str:
    """How a piece is shown: `▁the` with a space before it, `ing` without; bytes that are no character as `<0xE4>`."""
    text = piece.text.decode(errors="surrogateescape").replace(" ", SPACE)
    text = re.sub("[\x00-\x1f\x7f\udc80-\udcff]", lambda found: f"<0x{ord(found[0]) & 0xFF:02X}>", text)
    return SPACE * piece.spaced + text


def is_unspaced(character: str) -> bool:
    """Whether the character belongs to a script written without spaces; False for the empty string."""
    if not character:
        return False
    at = bisect_right(_FIRST, ord(character)) - 1
    return at >= 0 and ord(character) <= _UNSPACED[at][1]


def words_of_text(text: str) -> list[str]:
    """The words of a text in any script, in lower case: what a count of shared words needs.

    Letters, digits and the marks that belong to them are words; all else separates them. In scripts written without
    spaces each character with its marks is a word, since there is no dictionary here.

    Source: Unicode Standard Annex 29, section 4, without its rules for apostrophes and numbers, which separate here.
    """
    words: list[str] = []
    may_join = is_open = False  # whether a letter, and whether a mark, belongs to the word before it
    for character in unicodedata.normalize("NFC", text.lower()):
        kind = unicodedata.category(character)[0]
        if is_open and (kind == "M" or character in _JOINERS):
            words[-1] += character
            continue
        is_open = kind in "LN"
        is_alone = is_unspaced(character)
        if is_open and may_join and not is_alone:
            words[-1] += character
        elif is_open:
            words.append(character)
        may_join = is_open and not is_alone
    return words


class PieceFlags(NamedTuple):
    """The word rule of every piece.

    Args:
        bits: 1 starts a word, 2 ends a word, 4 and up are internal; uint8 [V].
        begun: bits of the code point of a character whose first bytes the piece is, and nothing else; int32 [V].
        missing: bytes of that character that are still to come; 0 of other pieces; int32 [V].
        goes_on: bits of the bytes (at most three) at the start of a piece that go on with a character; int32 [V].
        num_going_on: how many these are; int32 [V].
    """

    bits: np.ndarray
    begun: np.ndarray
    missing: np.ndarray
    goes_on: np.ndarray
    num_going_on: np.ndarray


def piece_flags(pieces: Iterable[Piece], is_special: np.ndarray) -> PieceFlags:
    """The word rule of every piece, of which some are special, bool [V]."""
    listed = list(pieces)
    traits = np.fromiter(map(_traits_of, listed), np.uint8, len(is_special))
    is_space = traits & _SPACE != 0
    flags = traits & (_STARTS | _ENDS | _OPEN) | _ORDINARY
    flags |= np.where(traits & _JOINS == 0, _MAY_FOLLOW, 0).astype(np.uint8)
    flags |= np.where(~is_space, _LETS_START, 0).astype(np.uint8)
    flags |= np.where(~is_space & (traits & _ENDS != 0), _LETS_FOLLOW, 0).astype(np.uint8)
    flags[is_special] = _SPECIAL
    begun, missing, goes_on, num_going_on = np.zeros((4, len(flags)), np.int32)
    for id in np.flatnonzero(flags & _OPEN).tolist():
        begun[id], missing[id] = _begin(listed[id].text)
    for id, piece in enumerate(listed) if missing.any() else ():
        head = piece.text[: len(piece.text) - len(piece.text.lstrip(_CONTINUATION))][:3]
        goes_on[id], num_going_on[id] = _bits_of(head), len(head)
    return PieceFlags(flags, begun, missing, goes_on, num_going_on)


def bits_in_context(tokens: np.ndarray, flags: PieceFlags) -> np.ndarray:
    """The bits of each token; those of the first bytes of a character are of the character. uint8 [B, T].

    Args:
        tokens: int [B, T].
        flags: of the pieces.
    """
    bits = flags.bits.take(tokens)
    flat = bits.reshape(-1)
    is_open = flat & _OPEN
    if is_open.any():
        at = np.flatnonzero(is_open != 0)
        classes = _classes_of(_characters_at(at, tokens, flags))
        flat[at] = np.where(classes == _UNKNOWN, flat[at] & ~np.uint8(_OPEN), _BITS.take(classes))
    return bits


def word_numbers(tokens: np.ndarray, flags: PieceFlags) -> np.ndarray:
    """Word number of each token, from 0 in every row; -1 at specials.

    Args:
        tokens: int [B, T].
        flags: of the pieces.

    Returns:
        int32 [B, T].
    """
    flag = bits_in_context(tokens, flags)
    is_ordinary = flag & _ORDINARY != 0
    starts = np.empty(tokens.shape, bool)
    flat = flag.reshape(-1)
    starts.reshape(-1)[1:] = flat[1:] & (flat[:-1] >> 4) != 0
    starts[:, 0] = is_ordinary[:, 0]  # follows nothing, as if a special were before it
    numbers = np.cumsum(starts, axis=1, dtype=np.int32)
    numbers *= is_ordinary  # 0 at specials
    numbers -= 1
    return numbers


def _characters_at(at: np.ndarray, tokens: np.ndarray, flags: PieceFlags) -> np.ndarray:
    """The code points of characters that begin at places of the flat tokens; -1 where one is not spelled to its end."""
    ids, width = tokens.reshape(-1), tokens.shape[1]
    codes, missing = flags.begun.take(ids[at]), flags.missing.take(ids[at])
    row_ends, place = (at // width + 1) * width, at
    while True:
        place = place + 1
        following = ids.take(place, mode="clip")
        num = np.where((place < row_ends) & (missing > 0), flags.num_going_on.take(following), 0)
        taken = np.minimum(num, missing)
        codes = (codes << 6 * taken) | (flags.goes_on.take(following) >> 6 * (num - taken)) * (taken > 0)
        missing = missing - taken
        if not taken.any():
            return np.where((missing == 0) & (codes < _NUM_CODES), codes, -1)
        row_ends = np.where(taken, row_ends, 0)  # what follows goes on with something else


def _begin(first: bytes) -> tuple[int, int]:
    """(the bits of a code point that its first bytes tell, how many bytes are missing)."""
    length = 3 if first[0] < 0xF0 else 4
    kept = first[0] & (0x7F >> length)
    return kept << 6 * (len(first) - 1) | _bits_of(first[1:]), length - len(first)


def _bits_of(continuation: bytes) -> int:
    """The bits that continuation bytes add to a code point."""
    bits = 0
    for byte in continuation:
        bits = bits << 6 | byte & 0x3F
    return bits


def _classes_of(codes: np.ndarray) -> np.ndarray:
    """What characters do: one of `_UNKNOWN` (code -1) and the indices of `_BITS`."""
    classes = _CLASSES[codes]
    new = codes[(classes == _UNKNOWN) & (codes >= 0)]
    if new.size:
        for code in set(new.tolist()):
            character = chr(code)
            starts = is_unspaced(character) or _is_apart(character)
            _CLASSES[code] = _MARK if _is_attached(character) else _WORD if starts else _LETTER
        classes = _CLASSES[codes]
    return classes


def _traits_of(piece: Piece) -> int:
    rest = piece.text.lstrip(_BLANKS)
    if not rest:
        return _STARTS | _SPACE
    whole = rest.lstrip(_CONTINUATION)
    spaced = piece.spaced or rest != piece.text
    continues = whole != rest and not spaced
    text, unfinished = _split_unfinished(whole)
    own_word = not (unfinished or continues) and all(map(_is_apart, text))
    joins = continues or (not spaced and _is_attached(text[:1]))
    if text:
        starts = spaced or (not joins and (own_word or is_unspaced(text[0])))
        ends = not unfinished and (own_word or is_unspaced(text[-1]))
    else:
        starts, ends = spaced or (not joins and _unfinished_starts(unfinished)), False
    is_open = not spaced and not continues and unfinished == piece.text and 0xE0 <= unfinished[0] <= 0xF4
    return _STARTS * starts | _ENDS * ends | _JOINS * joins | _OPEN * is_open


def _split_unfinished(text: bytes) -> tuple[str, bytes]:
    """(the whole characters, the bytes of the last one if it is cut off)."""
    try:
        return text.decode(), b""
    except UnicodeDecodeError as error:
        if error.end == len(text) and error.reason == "unexpected end of data":
            return text[: error.start].decode(errors="replace"), text[error.start :]
        return ("", text) if len(text) == 1 else (text.decode(errors="replace"), b"")


def _unfinished_starts(lead: bytes) -> bool:
    """Whether the first bytes of a character start a word."""
    if not lead or not 0xE0 <= lead[0] <= 0xF4:
        return False
    if len(lead) == 1:
        return lead[0] in _MOSTLY_HAN
    missing = (3 if lead[0] < 0xF0 else 4) - len(lead)
    amid = (lead + b"\xa0" + b"\x80" * (missing - 1)).decode(errors="replace")  # in the middle of what it may become
    return is_unspaced(amid[0]) or _is_apart(amid[0])


def _is_attached(character: str) -> bool:
    """Whether it is a combining mark or a joiner."""
    return character != "" and (unicodedata.category(character)[0] == "M" or character == "\u200d")


def _is_apart(character: str) -> bool:
    """Whether it is punctuation, a symbol, or a space inside a piece."""
    return unicodedata.category(character)[0] in "PS" or character in " \t\n\v\f\r"
