"""Cutting the stored token stream into training rows, when a dataset is opened."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from taskmask.errors import ConfigError

MODES = ("sentence", "document", "complete")


@dataclass(frozen=True)
class Blocks:
    """Token ranges [starts, stops) of the flat values of `tokens`; all int64 [N].

    Attributes:
        starts: first token of each block.
        stops: one past its last token; always more than `starts`.
        source: stored row in which each block starts, so that per-row columns can follow.
    """

    starts: np.ndarray
    stops: np.ndarray
    source: np.ndarray


def cut(offsets: np.ndarray, document: np.ndarray | None, length: int, mode: str) -> Blocks:
    """Cuts a split into blocks of at most `length - 2` tokens, the padded row being `<s> block </s>`.

    - "sentence": each stored row on its own; longer ones in pieces.
    - "document": the rows of a document together, in pieces, the last shorter.
    - "complete": the whole stream, across documents with the `</s>` between them; only the last block is shorter.

    The `</s>` that closes a document belongs to no block, except in "complete", where only that at the very end is left
    out. Rows and documents without a token vanish.

    Args:
        offsets: int64 [rows + 1], of `Split.offsets("tokens")`.
        document: document number of each row [rows], or None where each row is a document.
        length: tokens of the longest padded row, `<s>` and `</s>` included; at least 3.
        mode: one of `MODES`.

    Returns:
        The blocks, in the order of the stream.
    """
    if length < 3:
        raise ConfigError(
            f"rows of {length} tokens have no room for text",
            expected="a length of at least 3",
            fix="<s> and </s> take two",
        )
    if mode not in MODES:
        raise ConfigError(f"{mode!r} is no way to cut blocks", expected=f"one of {', '.join(MODES)}")
    offsets = np.asarray(offsets, dtype=np.int64)
    if len(offsets) < 2:
        return Blocks(*(np.zeros(0, np.int64) for _ in range(3)))
    is_last = ends_document(len(offsets) - 1, document)
    if mode == "sentence":
        starts, stops = offsets[:-1], offsets[1:] - is_last
    elif mode == "document":
        last = np.flatnonzero(is_last)
        starts, stops = offsets[np.concatenate(([0], last[:-1] + 1))], offsets[last + 1] - 1
    else:
        starts, stops = offsets[:1], offsets[-1:] - 1
    return _cut_ranges(starts, stops, offsets, length - 2)


def ends_document(rows: int, document: np.ndarray | None) -> np.ndarray:
    """Returns bool [rows], whether a stored row is the last of its document, and so ends with `</s>`.

    Args:
        rows: stored rows.
        document: document number of each row [rows], or None where each row is a document.
    """
    is_last = np.ones(rows, bool)
    if document is not None:
        is_last[:-1] = document[1:] != document[:-1]
    return is_last


def _cut_ranges(starts: np.ndarray, stops: np.ndarray, offsets: np.ndarray, content: int) -> Blocks:
    """Cuts each range into pieces of `content` tokens, the last of each shorter."""
    pieces = -(-(stops - starts) // content)
    first = np.cumsum(pieces) - pieces
    within = np.arange(pieces.sum()) - np.repeat(first, pieces)
    cut_starts = np.repeat(starts, pieces) + within * content
    cut_stops = np.minimum(cut_starts + content, np.repeat(stops, pieces))
    return Blocks(cut_starts, cut_stops, np.searchsorted(offsets, cut_starts, side="right") - 1)
