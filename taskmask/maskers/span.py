"""Span masking: runs of neighbouring words or tokens."""

from __future__ import annotations

import dataclasses
import math
from typing import Literal

import numpy as np

from taskmask.config import Problems, opt
from taskmask.data.batch import TokenBatch
from taskmask.data.rng import RowRng
from taskmask.maskers.base import Masker, MaskerConfig, register_masker, sample_units


@dataclasses.dataclass(frozen=True)
class SpanConfig(MaskerConfig):
    """Options of span masking."""

    lengths: Literal["geometric", "poisson"] = opt("geometric", "distribution of the length of a span")
    p: float = opt(0.2, "geometric: chance that a span ends after each unit")
    mean: float = opt(3.0, "poisson: lambda, before lengths of 0 and beyond the longest are ruled out")
    longest: int = opt(10, "longest span, in units")
    unit: Literal["word", "token"] = opt("word", "what the length of a span counts")

    def __post_init__(self) -> None:
        super().__post_init__()
        problems = Problems()
        problems.check(0 < self.p <= 1, f"is {self.p}", where="masker.p", expected="above 0, at most 1")
        problems.check(0 < self.mean <= 100, f"is {self.mean}", where="masker.mean", expected="above 0, at most 100")
        problems.check(self.longest >= 1, f"is {self.longest}", where="masker.longest", expected="at least 1")
        problems.raise_any()


@register_masker("span", config=SpanConfig)
class Span(Masker):
    """Masks spans of words or tokens whose lengths follow a truncated geometric or Poisson distribution.

    The row is cut out of an endless tiling with spans of drawn lengths; whole spans are then taken up to the budget,
    each token as likely as any other. No two spans overlap, and none crosses a special token such as the border of a
    document, nor the edge of the row, which cut the spans that they meet. Neighbouring spans may both be taken.

    **Source:** Joshi et al. 2020 (SpanBERT), section 3.1: geometric, p = 0.2, at most 10 words, mean 3.8. Poisson:
    Lewis et al. 2020 (BART), section 2.2, lambda = 3. Differs from SpanBERT: its code draws starts one by one and
    throws overlapping spans away, which thins out long spans.
    """

    def __init__(self, config: SpanConfig, vocab):
        super().__init__(config, vocab)
        if config.lengths == "geometric":
            chances = config.p * (1 - config.p) ** np.arange(config.longest)
        else:
            chances = poisson(config.mean, config.longest)
        self.lengths = length_table(chances)
        # The tiling is endless, so a row begins within a span. What is left of it is n units long with probability
        # P(length >= n) / mean length; so every unit of the row is as likely as any other to begin a span.
        self.first_lengths = length_table(np.cumsum(chances[::-1])[::-1])
        self.mean = float(self.lengths.mean())
        self.promises = ("mean_budget", "whole_words") if config.unit == "word" else ("mean_budget",)

    def select(self, batch: TokenBatch, rng: RowRng) -> np.ndarray:
        """Returns bool [B, T]."""
        return sample_units(self.units(batch, rng), batch.maskable, self.budget(batch, rng), rng)

    def units(self, batch: TokenBatch, rng: RowRng) -> np.ndarray:
        """Returns int32 [B, T], the number of the span of each token in a random tiling of the row."""
        units = batch.words
        if self.config.unit == "token":
            units = np.where(units < 0, np.int32(-1), np.arange(units.shape[1], dtype=np.int32))
        begins = self._begins(len(units), int(units.max(initial=0)) + 1, rng)
        first = np.arange(len(units)) * begins.shape[1] + 1
        starts = begins.reshape(-1).take(units + first[:, None])
        flat_units, flat_starts = units.reshape(-1), starts.reshape(-1)
        flat_starts[1:] |= flat_units[:-1] < 0  # after a special token
        flat_starts[1:] &= flat_units[1:] != flat_units[:-1]  # at the first token of a unit
        starts[:, 0] = True
        numbers = np.cumsum(starts, axis=1, dtype=np.int32)
        numbers -= 1
        return numbers

    def _begins(self, num_rows: int, num_units: int, rng: RowRng) -> np.ndarray:
        """Returns bool [B, U + 2], whether a span begins before unit 0, at unit 0, ..., at unit U - 1, after it.

        The first column, where special tokens look, is True, the last means nothing.
        """
        num = min(num_units, int(1.5 * num_units / self.mean) + 8)  # spans that mostly are enough to fill a row
        ends = self._ends(num, rng)
        if ends[:, -1].min(initial=num_units) < num_units:
            ends = self._ends(num_units, rng)
        begins = np.zeros((num_rows, num_units + 2), dtype=bool)
        first = np.arange(num_rows) * begins.shape[1] + 1
        begins.reshape(-1)[np.minimum(ends, num_units) + first[:, None]] = True
        begins[:, 0] = True
        return begins

    def _ends(self, num: int, rng: RowRng) -> np.ndarray:
        """Returns int [B, num], the unit before which each span of the tiling ends."""
        random = rng.small("span length", num, "<u2")
        lengths = self.lengths.take(random)
        lengths[:, 0] = self.first_lengths.take(random[:, 0])
        return np.cumsum(lengths, axis=1)


def poisson(mean: float, longest: int) -> np.ndarray:
    """Returns float64 [longest], what the chances of the lengths 1, 2, ... under a Poisson law are in proportion to."""
    length = np.arange(1, longest + 1)
    return np.exp(length * math.log(mean) - [math.lgamma(n + 1) for n in length])


def length_table(chances: np.ndarray) -> np.ndarray:
    """Returns int32 [65536], the length that a random uint16 stands for; chances are off by less than 2**-16."""
    cumulative = np.cumsum(chances / chances.sum())
    lengths = np.searchsorted(cumulative[:-1], (np.arange(1 << 16) + 0.5) / (1 << 16)) + 1
    return lengths.astype(np.int32)
