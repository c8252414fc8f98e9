"""The text infilling of BART."""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from taskmask.config import Problems, opt
from taskmask.data.batch import TokenBatch
from taskmask.data.rng import RowRng
from taskmask.maskers.base import Masker, MaskerConfig, register_masker
from taskmask.maskers.runs import composition, laid_out
from taskmask.maskers.span import length_table, poisson
from taskmask.tokenizer.tokenizer import Vocabulary


@dataclasses.dataclass(frozen=True)
class InfillingConfig(MaskerConfig):
    """Options of text infilling."""

    ratio: float = opt(0.3, "share of the words that is masked, rounded up in each row")
    mean: float = opt(3.0, "lambda of the Poisson law of the lengths in words, before a length of 0 is ruled out")

    def __post_init__(self) -> None:
        super().__post_init__()
        problems = Problems()
        problems.check(0 < self.mean <= 100, f"is {self.mean}", where="masker.mean", expected="above 0, at most 100")
        problems.raise_any()


@register_masker("infilling", config=InfillingConfig, promises=("whole_words",))
class Infilling(Masker):
    """Masks spans of words with lengths of a Poisson law: exactly the share of the words, rounded up.

    Lengths are drawn until they reach the budget, and the last is trimmed to it. The words of a row stand around a
    circle; the spans lie on it at a random turn, with gaps between them that are uniform over all ways to divide the
    words that are left, and of at least one word while there are enough. So every word is as likely as any other, and
    neighbouring spans do not grow together. The edge of the row and special tokens cut a span that they meet.

    Lengths are at least 1 (Poisson, given that it is not 0): a span of no word masks nothing. Text infilling inserts a
    `<mask>` for each of those, which the task `denoising` does.

    **Source:** Lewis et al. 2020 (BART), section 2.2: 30 %, lambda = 3; budget, trimming and word starts are those of
    `DenoisingDataset.add_whole_word_mask` of its code. Differs from that code, whose spans may overlap or touch, so
    that it masks less than the budget.
    """

    config: InfillingConfig

    def __init__(self, config: InfillingConfig, vocab: Vocabulary):
        super().__init__(config, vocab)
        self.table = length_table(poisson(config.mean, 12 + math.ceil(config.mean + 12 * math.sqrt(config.mean))))

    def lengths(self, budget: np.ndarray, rng: RowRng) -> np.ndarray:
        """Returns int64 [B, S], the words of each span, then zeros; in each row they add up to the budget, int [B]."""
        drawn = self.table.take(rng.small("infilling length", max(int(budget.max(initial=1)), 1), "<u2"))
        drawn = drawn.astype(np.int64)
        before = np.cumsum(drawn, axis=1) - drawn
        return np.clip(budget[:, None] - before, 0, drawn)

    def select(self, batch: TokenBatch, rng: RowRng) -> np.ndarray:
        """Returns bool [B, T]."""
        words = np.where(batch.maskable, batch.words, -1)
        is_new = words >= 0
        is_new[:, 1:] &= words[:, 1:] > np.maximum.accumulate(words, axis=1)[:, :-1]
        place, total = np.maximum(np.cumsum(is_new, axis=1) - 1, 0), is_new.sum(axis=1)  # words with a maskable token
        share = self.wanted(batch, rng) / np.maximum(batch.maskable.sum(axis=1), 1)
        budget = np.minimum(
            np.ceil(share * total - 1e-9).astype(np.int64), total
        )  # not rounded up for a rounding error
        lengths = self.lengths(budget, rng)
        spans, rest = (lengths > 0).sum(axis=1), total - budget
        lengths = lengths[:, : max(int(spans.max(initial=1)), 1)]
        touch = (rest < spans)[:, None]  # gaps may then be empty
        keys = rng.small("infilling gap", batch.shape[1], "<u4")
        gaps = composition(rest + spans * touch[:, 0], spans, keys) - (touch & (lengths > 0))
        turn = (rng.once[:, 1:] * total[:, None]).astype(np.int64)
        laid = laid_out(gaps, lengths, batch.shape[1])
        return np.take_along_axis(laid, (place + turn) % np.maximum(total, 1)[:, None], axis=1) & batch.maskable
