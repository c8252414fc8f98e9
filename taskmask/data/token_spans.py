"""Which characters of a text each token covers, made whole: every character but a space belongs to a token.

Shapes: T tokens, C characters.
"""

from __future__ import annotations

import numpy as np

from taskmask.data.engine import Spans


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


def _nearest(text: str) -> tuple[np.ndarray, np.ndarray]:
    """For each place between characters: where the next one that is no space begins, and where the last one ended.

    Returns:
        int32, int32 [C + 1]; C and 0 if there is none.
    """
    places = np.arange(len(text) + 1, dtype=np.int32)
    is_space = np.fromiter(map(str.isspace, text), bool, len(text))
    following = np.minimum.accumulate(np.where(np.append(is_space, False), len(text), places)[::-1])[::-1]
    preceding = np.maximum.accumulate(np.where(np.append(True, is_space), 0, places))
    return following, preceding


def _in_order(starts: np.ndarray, ends: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Moves spans that cover nothing to where they do not break the order."""
    is_empty = starts == ends
    starts, ends = np.minimum.accumulate(starts[::-1])[::-1], np.maximum.accumulate(ends)
    following = np.append(starts[1:], ends[-1])
    starts = np.where(is_empty, np.maximum(starts, np.minimum(ends, following)), starts)
    return starts.astype(np.int32), ends.astype(np.int32)
