"""Masking by a score of each token, which an earlier stage has written into the dataset."""

from __future__ import annotations

import dataclasses
from typing import Literal

import numpy as np

from taskmask.config import opt
from taskmask.data.batch import TokenBatch
from taskmask.data.rng import RowRng
from taskmask.maskers.base import Masker, MaskerConfig, highest, random_keys, register_masker, sample_tokens
from taskmask.maskers.runs import token_column
from taskmask.tokenizer.tokenizer import Vocabulary


@dataclasses.dataclass(frozen=True)
class ScoredConfig(MaskerConfig):
    """Options of masking by scores; the ratio is the most that is masked of a row."""

    column: str = opt(
        "score",
        "column with a number for each token; the highest are masked: a probability, or the log-odds, which have fewer "
        "ties; of word_importance's score the lowest matter",
    )
    choose: Literal["top", "sample"] = opt("top", "the highest scores, or drawn in proportion to the scores above 0")
    above: float | None = opt(None, "only tokens with a score above this are candidates; none = all")
    fallback: Literal["none", "uniform"] = opt("none", "rows without a candidate: mask nothing, or uniformly")
    control: bool = opt(False, "mask as many tokens of each row, but drawn uniformly: the fair baseline")


@register_masker("scored", config=ScoredConfig)
class Scored(Masker):
    """Masks the tokens with the highest scores of a column, or draws them by their scores, up to the budget.

    Tokens that have no score (NaN) are no candidates. Of equal scores any may be chosen. With `control` every row has
    as many masked tokens, in uniform places, so that two trainings differ in nothing but the choice.

    **Source:** Gu et al. 2020 (arXiv 2004.09733), section 3.3: the tokens that the masking model finds important, at
    most 15 % of a sequence (`above` is its decision, 0.5 for a probability); the control is that of the authors' code
    (`--with_rand`). Differs from that code: nothing is masked where the budget of a short row is rounded down to 0.
    """

    config: ScoredConfig

    def __init__(self, config: ScoredConfig, vocab: Vocabulary):
        super().__init__(config, vocab)
        self.columns = (config.column,)

    def scores(self, batch: TokenBatch) -> np.ndarray:
        """Returns the column, float64 [B, T]; -inf where a token has no score.

        Raises:
            ConfigError: the column has values of rows.
        """
        values = token_column(batch, self.config.column, "masker.column").astype(np.float64)
        return np.where(np.isnan(values), -np.inf, values)

    def select(self, batch: TokenBatch, rng: RowRng) -> np.ndarray:
        """Returns bool [B, T]."""
        chosen = self._by_score(batch, rng)
        if not self.config.control:
            return chosen
        return highest(random_keys(batch.maskable, "control", rng), chosen.sum(axis=1))

    def _by_score(self, batch: TokenBatch, rng: RowRng) -> np.ndarray:
        budget, scores = self.budget(batch, rng), self.scores(batch)
        is_drawn = self.config.choose == "sample"
        lowest = -np.inf if self.config.above is None else self.config.above
        candidates = batch.maskable & (scores > (max(lowest, 0.0) if is_drawn else lowest))
        if is_drawn:
            chosen = sample_tokens(np.where(candidates, scores, 0.0), budget, rng.uniform("scored", batch.shape[1]))
        else:
            chosen = highest_at_random(scores, candidates, budget, rng)
        if self.config.fallback == "uniform":
            lost = ~candidates.any(axis=1)
            chosen |= highest(random_keys(batch.maskable, "fallback", rng), np.where(lost, budget, 0))
        return chosen


def highest_at_random(scores: np.ndarray, candidates: np.ndarray, budget: np.ndarray, rng: RowRng) -> np.ndarray:
    """Returns bool [B, T], the `budget` [B] candidates of each row with the highest scores; of equal ones any."""
    random = rng.small("scored", scores.shape[1], "<u4")
    order = np.lexsort((random, scores, candidates), axis=1)  # the best candidates last
    place = np.empty_like(order)
    np.put_along_axis(place, order, np.arange(scores.shape[1])[None, ::-1] + np.zeros_like(order), axis=1)
    return candidates & (place < budget[:, None])
