"""TARGET: from chosen positions to what the model must say there. Plain functions, the same for every masker."""

from __future__ import annotations

import dataclasses

import numpy as np

from taskmask.data.compact import compact
from taskmask.masking.replace import Gaps


def labels_in_place(tokens: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the flat positions of the chosen tokens in a batch of K*B rows, and the tokens that stood there.

    Args:
        tokens: int64 [B, T], before corruption.
        mask: bool [K, B, T].

    Returns:
        positions int64 [P] into the K*B*T tokens, and labels int64 [P].
    """
    positions = np.flatnonzero(mask)
    places = positions % tokens.size if len(mask) > 1 else positions  # every view holds the same B*T tokens
    labels = tokens.reshape(-1).take(places)
    return positions, labels


def full_sentence(tokens: np.ndarray, lengths: np.ndarray, views: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the whole rows as they were, once for each view: labels int64 [K*B, T] and lengths int64 [K*B]."""
    return np.tile(tokens, (views, 1)), np.tile(lengths, views)


def masked_spans(gaps: Gaps) -> tuple[np.ndarray, np.ndarray]:
    """Returns what was taken out: `<s> span <mask> span ... </s>`, with sentinels `<s> 1 span 2 span ... 3 </s>`.

    Marks separate the spans; sentinels stand before each, and one more before `</s>` where the row ends with text that
    stays, unless the labels became longer than the row. A row without a gap is `<s> </s>`.

    Returns:
        labels int64 [K*B, U], and lengths int64 [K*B].

    **Source:** Raffel et al. 2020 (T5), section 3.1.4 and its code, `nonnoise_span_to_unique_sentinel`. Differs from
    the paper: rows begin with `<s>`.
    """
    rows, views = gaps.rows, len(gaps.mask)
    last = np.tile(rows.lengths - 1, views)  # where </s> stands
    line = np.arange(len(last))
    tokens = gaps.chosen.copy()
    tokens[:, :1] = True
    tokens[line, last] = True
    marks = gaps.marks.copy()
    if len(gaps.sentinels):
        has_room = gaps.chosen.sum(axis=1) + marks.sum(axis=1) < last - 1
        marks[line, last] |= has_room & gaps.marks.any(axis=1) & ~gaps.chosen[line, np.maximum(last - 1, 0)]
        shown = marks
    else:
        shown = marks & (np.cumsum(marks, axis=1) > 1)
    kept = np.stack([shown, tokens], axis=-1).reshape(len(tokens), -1)
    return compact(gaps.values(marks), kept, rows.vocab.pad), kept.sum(axis=1)


def with_room(gaps: Gaps) -> Gaps:
    """Returns the gaps such that no labels of `masked_spans` are longer than their row, where sentinels mark them.

    They would be, by one token, where every token that stays has a mark, and the last token is in a gap: it stays, too.
    """
    last = np.tile(gaps.rows.lengths - 2, len(gaps.mask))  # the last token before </s>
    crowded = gaps.chosen.sum(axis=1) + gaps.marks.sum(axis=1) > last
    if not crowded.any():
        return gaps
    chosen = gaps.chosen.copy()
    chosen[crowded, last[crowded]] = False
    return dataclasses.replace(gaps, mask=chosen.reshape(gaps.mask.shape))


def put_back(tokens: np.ndarray, spans: np.ndarray, marks: np.ndarray, leading: bool) -> np.ndarray:
    """Returns the tokens of a row, int64 [T], with its spans where their marks stand; marks beyond the spans stay.

    Args:
        tokens: int64 [S], with marks, as of `collapse_spans`.
        spans: int64 [U], as of `masked_spans`, without `<s>` and `</s>`.
        marks: ids that are marks.
        leading: a mark stands before each span, the first one too.
    """
    parts = np.split(spans, np.flatnonzero(np.isin(spans, marks)))
    parts = [*([] if leading else parts[:1]), *(part[1:] for part in parts[1:])]
    places = np.flatnonzero(np.isin(tokens, marks))[: len(parts)]
    around = np.split(tokens, places)
    filled = [part[1:] for part in around[1:]]
    return np.concatenate([around[0], *(piece for pair in zip(parts, filled, strict=False) for piece in pair)])


def shift_right(labels: np.ndarray, lengths: np.ndarray, start: int, pad: int) -> np.ndarray:
    """Returns int64 [N, T], what the decoder reads: `start`, then all labels but each row's last, then padding."""
    shifted = np.roll(labels, 1, axis=1)
    shifted[:, :1] = start
    return np.where(np.arange(labels.shape[1]) < lengths[:, None], shifted, pad)
