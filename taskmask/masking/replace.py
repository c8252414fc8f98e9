"""CORRUPT: from chosen positions to the tokens that the model sees. Plain functions, the same for every masker.

Shapes: B rows, T tokens, K views.
"""

from __future__ import annotations

import dataclasses
import functools

import numpy as np

from taskmask.data.batch import TokenBatch
from taskmask.data.compact import compact
from taskmask.data.rng import RowRng
from taskmask.errors import DataError
from taskmask.masking.sentences import sentence_numbers
from taskmask.tokenizer.tokenizer import Vocabulary

_HALF, _LOWER_HALF = np.uint64(32), np.uint64(0xFFFFFFFF)


def units(rows: TokenBatch, mask: np.ndarray, per: str) -> np.ndarray:
    """Returns int [B, T], equal numbers at positions of one row that are replaced in the same way.

    Args:
        mask: bool [B, T], the chosen positions.
        per: "token", "word", or "span": a run of neighbouring chosen positions.
    """
    num_tokens = rows.tokens.shape[1]
    if per == "token":
        return np.broadcast_to(np.arange(num_tokens), mask.shape)
    if per == "word":
        return np.maximum(rows.words, 0)
    return np.maximum(np.cumsum(run_starts(mask), axis=1) - 1, 0)


def run_starts(mask: np.ndarray) -> np.ndarray:
    """Returns bool [..., T], the first token of each run of neighbouring chosen tokens: of each span."""
    starts = mask.copy()
    starts[..., 1:] &= ~mask[..., :-1]
    return starts


def replace_tokens(
    rows: TokenBatch,
    mask: np.ndarray,
    rng: RowRng,
    *,
    mask_share: float = 0.8,
    random_share: float = 0.1,
    per: str = "token",
) -> np.ndarray:
    """Replaces the chosen tokens: by `<mask>`, by a random piece, or by themselves, decided once per unit.

    Args:
        rows: the rows, tokens [B, T].
        mask: bool [K, B, T], the chosen positions of each view.
        rng: the rows' random numbers.
        mask_share: share of units that become `<mask>`.
        random_share: share whose tokens become random pieces, drawn uniformly from all that are not special.
        per: the unit that shares one decision: "token", "word" or "span".

    Returns:
        int64 [K*B, T], view by view. Positions that were not chosen are unchanged.

    **Source:** Devlin et al. 2019, section 3.1 (80/10/10 per token); Joshi et al. 2020, section 3.1 (per span).
    """
    ordinary = _ordinary_pieces(rows.vocab)
    mask_below, random_below = (np.uint64(round(share * 2**32)) for share in (mask_share, mask_share + random_share))
    num_tokens = rows.tokens.shape[1]
    out = np.empty(mask.shape, dtype=np.int64)
    out[:] = rows.tokens
    for view, chosen in enumerate(mask):
        stream, index = f"replace.{rng.turn + view}", np.flatnonzero(chosen)
        number = rng.bits_at(stream, num_tokens, index)
        roll = number >> _HALF
        if per != "token":
            unit = index // num_tokens * num_tokens + units(rows, chosen, per).reshape(-1).take(index)
            roll = rng.bits_at(stream, num_tokens, unit) >> _HALF
        random = ordinary.take((number & _LOWER_HALF) * np.uint64(len(ordinary)) >> _HALF)
        old = rows.tokens.reshape(-1).take(index)
        new = np.where(roll < mask_below, rows.vocab.mask, np.where(roll < random_below, random, old))
        out[view].reshape(-1)[index] = new
    return out.reshape(-1, num_tokens)  # [K*B, T]


@functools.lru_cache(maxsize=4)
def _ordinary_pieces(vocab: Vocabulary) -> np.ndarray:
    """Returns int64, the ids of all pieces that are not special."""
    return np.flatnonzero(~vocab.is_special)


@dataclasses.dataclass(frozen=True)
class Gaps:
    """The gaps that a row has where its spans are taken out: one a run of chosen tokens, or inserted without any.

    Args:
        rows: the rows, tokens [B, T].
        mask: bool [K, B, T], the chosen tokens of each view.
        inserted: bool [K, B, T], True where a gap without a token lies before this one; None: nowhere.
        sentinels: int64, the marks of the gaps of a row in their order; none: `<mask>` marks each.
    """

    rows: TokenBatch
    mask: np.ndarray
    inserted: np.ndarray | None = None
    sentinels: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(0, np.int64))

    @functools.cached_property
    def chosen(self) -> np.ndarray:
        """Bool [K*B, T], the tokens in gaps."""
        return self.mask.reshape(-1, self.mask.shape[-1])

    @functools.cached_property
    def marks(self) -> np.ndarray:
        """Bool [K*B, T], True where a gap begins: at its first token, or before the token that it is inserted at."""
        found = run_starts(self.mask) if self.inserted is None else run_starts(self.mask) | self.inserted
        return found.reshape(self.chosen.shape)

    def values(self, marks: np.ndarray) -> np.ndarray:
        """Returns int64 [K*B, 2 T]: before each token the mark that stands there, if `marks`, bool [K*B, T], says so.

        Raises:
            DataError: a row has more marks than there are sentinels.
        """
        out = np.full((*marks.shape, 2), self.rows.vocab.mask)
        out.reshape(-1, *self.rows.shape, 2)[..., 1] = self.rows.tokens
        if len(self.sentinels):
            number = np.cumsum(marks, axis=1)
            if (most := int(number.max(initial=0))) > len(self.sentinels):
                raise DataError(
                    f"a row needs {most} sentinels",
                    where="task.sentinels",
                    expected=f"at most {len(self.sentinels)}, which the vocabulary has",
                    fix="choose fewer or longer spans, lower data.length, or leave out task.sentinels",
                )
            out[..., 0] = self.sentinels.take(np.maximum(number - 1, 0))
        return out.reshape(len(marks), -1)  # [K*B, T, 2] -> [K*B, 2 T]


def collapse_spans(gaps: Gaps) -> tuple[np.ndarray, np.ndarray]:
    """Takes the spans out: each gap becomes one mark, whatever was in it.

    Returns:
        tokens int64 [K*B, S], view by view, and lengths int64 [K*B].

    **Source:** Lewis et al. 2020 (BART), section 2.2, text infilling; Raffel et al. 2020 (T5), section 3.1.4.
    """
    kept = np.stack([gaps.marks, np.tile(gaps.rows.keep, (len(gaps.mask), 1)) & ~gaps.chosen], axis=-1)
    kept = kept.reshape(len(kept), -1)
    return compact(gaps.values(gaps.marks), kept, gaps.rows.vocab.pad), kept.sum(axis=1)


def insert_gaps(rows: TokenBatch, mask: np.ndarray, share: float, rng: RowRng) -> np.ndarray:
    """Chooses where gaps without a token are inserted: before words that touch no chosen token.

    A row never becomes longer than it was: it gets no more of them than its spans have tokens beyond the first.

    Args:
        rows: the rows, tokens [B, T].
        mask: bool [K, B, T], the chosen tokens of each view.
        share: mean number of insertions for each span; BART: 0.0524, a twentieth of its spans having length 0.
        rng: the rows' random numbers.

    Returns:
        bool [K, B, T], True at the tokens before which there is one.

    **Source:** Lewis et al. 2020 (BART), section 2.2: spans of length 0, P(0) = 0.0498 of Poisson(3).
    """
    words = rows.words
    starts_word = (words >= 0) & (words != np.pad(words, ((0, 0), (1, 0)), constant_values=-1)[:, :-1])
    inserted = np.zeros_like(mask)
    for view, chosen in enumerate(mask):
        touches = chosen | np.pad(chosen, ((0, 0), (1, 0)))[:, :-1]
        keys = np.where(starts_word & ~touches, rng.uniform(f"insert.{rng.turn + view}", mask.shape[2]), np.inf)
        spans = run_starts(chosen).sum(axis=1)
        num = np.floor(share * spans + rng.uniform(f"insertions.{rng.turn + view}", 1)[:, 0]).astype(np.int64)
        num = np.minimum(num, np.minimum(chosen.sum(axis=1) - spans, np.isfinite(keys).sum(axis=1)))
        limit = np.take_along_axis(np.sort(keys, axis=1), np.maximum(num - 1, 0)[:, None], axis=1)
        inserted[view] = (keys <= limit) & (num > 0)[:, None]
    return inserted


def permute_sentences(rows: TokenBatch, rng: RowRng) -> TokenBatch:
    """Returns the rows with the sentences of each document in random order; token-aligned columns follow.

    **Source:** Lewis et al. 2020 (BART), section 2.2, sentence permutation.
    """
    numbers = sentence_numbers(rows)
    special = numbers < 0
    keys = np.take_along_axis(rng.uniform("permute", rows.shape[1]), np.maximum(numbers, 0), axis=1)
    keys = np.cumsum(special, axis=1) + np.where(special, 0.0, keys)  # specials stay, the rest stays between them
    order = np.argsort(keys, axis=1, kind="stable")
    columns = {
        name: np.take_along_axis(values, order, axis=1) if values.shape == rows.shape else values
        for name, values in rows.columns.items()
    }
    return dataclasses.replace(rows, tokens=np.take_along_axis(rows.tokens, order, axis=1), columns=columns)
