"""Masking spans that a column lists: answers, entities, dates, whatever an earlier stage or a tagger has found."""

from __future__ import annotations

import dataclasses
from typing import Literal

import numpy as np

from taskmask.config import opt
from taskmask.data.batch import TokenBatch
from taskmask.data.rng import RowRng
from taskmask.errors import ConfigError
from taskmask.maskers.base import Masker, MaskerConfig, highest, random_keys, register_masker
from taskmask.maskers.runs import begins, spans_of, token_column
from taskmask.tokenizer.tokenizer import Vocabulary


@dataclasses.dataclass(frozen=True)
class ListedConfig(MaskerConfig):
    """Options of masking listed spans; the ratio matters to `sample` and to rows without a span."""

    column: str = opt("spans", "column with the number of the span of each token, 0 where there is none")
    choose: Literal["sample", "one", "best", "all"] = opt(
        "sample",
        "spans up to the ratio on average, exactly one, the likeliest (top 1, with probability), or all of them, the "
        "last three whatever the ratio",
    )
    probability: str = opt("", "column with the probability of each token's span, to draw by; none = all spans alike")
    fallback: Literal["none", "uniform"] = opt("none", "rows without a span: mask nothing, or uniformly")
    control: bool = opt(False, "mask as many tokens of each row, but drawn uniformly: the fair baseline")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.choose == "best" and not self.probability:
            raise ConfigError(
                "is best, but nothing says which span that is",
                where="masker.choose",
                expected="masker.probability, a column with the probability of each token's span",
                fix="write one with taskmask annotate --column spans=spans chance=chance, or give --masker.choose one",
            )


@register_masker("listed", config=ListedConfig)
class Listed(Masker):
    """Masks the spans of a column, always whole: all of them, one of them, or as many as the ratio allows.

    A span is a run of tokens with the same number, other than 0; a row that is cut within a span has a part of it. With
    `sample` spans are drawn one after the other until the budget is used up; the one that it ends in is taken with the
    probability of the share of it that fits, so that the mean is met where there are spans enough, and missed in no row
    by more than one span. `one` draws a single span; `best` takes the one of the highest probability, of several the
    first. `one`, `best` and `all` pay no heed to the ratio. Spans of probability 0 are taken by `all` only. With
    `control` every row has as many masked tokens in uniform places.

    **Source:** Ye et al. 2021 (arXiv 2104.08840): entities and dates as a heuristic, answers that a trained policy
    predicts, the best (top 1) or one of the five best, drawn anew every epoch; one salient span an example is that of
    Guu et al. 2020 (REALM, arXiv 2002.08909), section 3.4.
    """

    config: ListedConfig

    def __init__(self, config: ListedConfig, vocab: Vocabulary):
        super().__init__(config, vocab)
        self.columns = (config.column, *([config.probability] if config.probability else []))
        if config.choose != "sample":
            self.promises = ("own_budget",)
        if config.choose in ("best", "all") and config.fallback == "none" and not config.control:
            self.promises += ("same_every_epoch",)

    def select(self, batch: TokenBatch, rng: RowRng) -> np.ndarray:
        """Returns bool [B, T]."""
        spans = np.where(batch.maskable, spans_of(token_column(batch, self.config.column, "masker.column")), -1)
        chosen = spans >= 0 if self.config.choose == "all" else self._drawn(spans, batch, rng)
        if self.config.fallback == "uniform":
            budget = np.where((spans >= 0).any(axis=1), 0, self.budget(batch, rng))
            chosen |= highest(random_keys(batch.maskable, "fallback", rng), budget)
        if self.config.control:
            return highest(random_keys(batch.maskable, "control", rng), chosen.sum(axis=1))
        return chosen

    def _drawn(self, spans: np.ndarray, batch: TokenBatch, rng: RowRng) -> np.ndarray:
        """Returns bool [B, T], the spans that come first in an order drawn without replacement."""
        inside, number = spans >= 0, np.maximum(spans, 0)
        waits = -np.log1p(-np.take_along_axis(rng.uniform("listed", batch.shape[1]), number, axis=1))
        if self.config.probability:
            given = token_column(batch, self.config.probability, "masker.probability").astype(np.float64)
            inside &= given > 0
            if self.config.choose == "best":
                best = np.where(inside, given, 0).argmax(axis=1)[:, None]
                return inside & (spans == np.take_along_axis(spans, best, axis=1))
            waits /= np.where(inside, given, 1)
        before = begins(waits, inside)
        if self.config.choose == "one":
            return inside & (before == 0)
        row = np.arange(len(spans))[:, None] * spans.shape[1]
        size = np.bincount((number + row)[inside], minlength=spans.size).reshape(spans.shape)
        end = before + rng.once[:, 1:] * np.take_along_axis(size, number, axis=1)
        return inside & (end < self.budget(batch, rng)[:, None])
