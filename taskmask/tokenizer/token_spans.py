"""Which characters of a text each token covers, made whole: every character but a space belongs to a token.

Shapes: T tokens, C characters.
"""

from __future__ import annotations

import numpy as np

from taskmask.tokenizer.backend import Spans

_IS_SPACE = np.array([chr(code).isspace() for code in range(0x3002)])  # no space lies beyond U+3000


def whole_spans(text: str, spans: Spans) -> Spans:
    """Narrows spans to begin and end at characters that are no space, and widens them over what no token covers.

    A character that no token covers (normalizers drop accents, and compose a letter with the mark behind it) belongs
    to the token before it; if there is none, to the first.

    Args:
        text: with a space for each character that the tokenizer takes for one.
        spans: of its tokens, as an engine gives them.

    Returns:
        The same ids, and characters that never decrease, int32 [T]. A token of spaces covers nothing.
    """
    ids, starts, ends = spans
    if not len(ids):
        return spans
    following, preceding = _nearest(text)
    if not preceding[-1]:  # there are only spaces
        return ids, np.zeros_like(starts), np.zeros_like(ends)
    starts = np.minimum(following[starts], ends)
    ends = np.maximum(preceding[ends], starts)
    if _is_whole(starts, ends, following):
        return ids, starts, ends
    covering = np.flatnonzero(starts < ends)
    if not len(covering):  # all the characters were dropped
        covering, ends[0] = np.zeros(1, np.int64), preceding[-1]
    firsts = np.minimum.accumulate(starts[covering][::-1])[::-1]
    stops = np.maximum.accumulate(ends[covering])
    firsts[firsts == firsts[0]] = following[0]
    after = np.searchsorted(firsts, stops, side="left")  # the first token that begins behind this one
    limits = np.append(firsts, len(text))[np.minimum(after, len(firsts))]
    stops = np.maximum(stops, preceding[limits])
    starts, ends = starts.copy(), ends.copy()
    starts[covering], ends[covering] = firsts, np.maximum(stops, firsts)
    return ids, *_in_order(starts, ends)


def _is_whole(starts: np.ndarray, ends: np.ndarray, following: np.ndarray) -> bool:
    """Whether the spans are in order, and nothing but spaces is before, between and behind them."""
    in_order = (starts[1:] >= starts[:-1]) & (ends[1:] >= ends[:-1]) & (following[ends[:-1]] >= starts[1:])
    return bool(starts[0] <= following[0] and following[ends[-1]] == len(following) - 1 and in_order.all())


def _nearest(text: str) -> tuple[np.ndarray, np.ndarray]:
    """For each place between characters: where the next one that is no space begins, and where the last one ended.

    Returns:
        int32, int32 [C + 1]; C and 0 if there is none.
    """
    codes = np.frombuffer(text.encode("utf-32-le", errors="surrogatepass"), np.uint32)
    is_space = _IS_SPACE.take(codes, mode="clip")
    following = np.arange(len(text) + 1, dtype=np.int32)
    preceding = following.copy()
    following[:-1][is_space], preceding[1:][is_space] = len(text), 0
    following, preceding = np.minimum.accumulate(following[::-1])[::-1], np.maximum.accumulate(preceding)
    return following, preceding


def _in_order(starts: np.ndarray, ends: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Moves spans that cover nothing to where they do not break the order."""
    is_empty = starts == ends
    starts, ends = np.minimum.accumulate(starts[::-1])[::-1], np.maximum.accumulate(ends)
    following = np.append(starts[1:], ends[-1])
    starts = np.where(is_empty, np.maximum(starts, np.minimum(ends, following)), starts)
    return starts.astype(np.int32), ends.astype(np.int32)
