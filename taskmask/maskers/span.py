"""Span masking: runs of neighbouring words or tokens."""

from __future__ import annotations

import dataclasses
import math
from typing import Literal

import numpy as np

from taskmask.config import Problems, opt
from taskmask.data.draws import Draw
from taskmask.data.rows import Rows
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
        length = np.arange(1, config.longest + 1)
        if config.lengths == "geometric":
            chances = config.p * (1 - config.p) ** (length - 1.0)
        else:
            chances = np.exp(length * math.log(config.mean) - [math.lgamma(n + 1) for n in length])
        self.cumulative = np.cumsum(chances / chances.sum())
        # The tiling is endless, so a row begins within a span. What is left of it is n units long with probability
        # P(length >= n) / mean length; so every unit of the row is as likely as any other to begin a span.
        left = np.cumsum(chances[::-1])[::-1]
        self.cumulative_first = np.cumsum(left / left.sum())
        self.cumulative[-1] = self.cumulative_first[-1] = 1.0

    def select(self, rows: Rows, draw: Draw) -> np.ndarray:
        """Returns bool [B, T]."""
        return sample_units(self.tile(rows, draw), rows.maskable, self.budget(rows, draw), draw)

    def tile(self, rows: Rows, draw: Draw) -> np.ndarray:
        """Returns int [B, T], the number of the span of each token in a random tiling of the row."""
        num_rows, num_tokens = rows.shape
        drawn = np.searchsorted(self.cumulative, draw.uniform("span length", num_tokens), side="right") + 1
        drawn[:, :1] = np.searchsorted(self.cumulative_first, draw.uniform("first span", 1), side="right") + 1
        ends = np.cumsum(drawn, axis=1)  # [B, T], the unit before which each span ends
        borders = np.zeros((num_rows, num_tokens + 1), dtype=np.int64)
        np.put_along_axis(borders, np.minimum(ends, num_tokens), 1, axis=1)
        span_of_unit = np.cumsum(borders, axis=1)
        units = rows.words if self.config.unit == "word" else np.broadcast_to(np.arange(num_tokens), rows.shape)
        span = np.take_along_axis(span_of_unit, np.maximum(units, 0), axis=1)
        special = rows.vocab.is_special[rows.tokens]
        starts = np.ones(rows.shape, dtype=bool)
        starts[:, 1:] = (span[:, 1:] != span[:, :-1]) | special[:, :-1] | special[:, 1:]
        return np.cumsum(starts, axis=1) - 1
