"""The span corruption of T5."""

from __future__ import annotations

import dataclasses

import numpy as np

from taskmask.config import Problems, opt
from taskmask.data.batch import TokenBatch
from taskmask.data.rng import RowRng
from taskmask.maskers.base import Masker, MaskerConfig, register_masker
from taskmask.maskers.runs import composition, laid_out


@dataclasses.dataclass(frozen=True)
class T5SpanConfig(MaskerConfig):
    """Options of T5's span corruption; the ratio is its noise density."""

    mean: float = opt(3.0, "mean length of a span, in tokens")

    def __post_init__(self) -> None:
        super().__post_init__()
        problems = Problems()
        problems.check(self.mean >= 1, f"is {self.mean}", where="masker.mean", expected="at least 1")
        for name in ("ratio", "ratio_end"):
            expected = "below 1: what is masked alternates with what is not"
            problems.check(getattr(self, name) != 1, "is 1", where=f"masker.{name}", expected=expected)
        problems.raise_any()


@register_masker("t5_span", config=T5SpanConfig)
class T5Span(Masker):
    """Masks spans that alternate with unmasked tokens; the length of the row says how many.

    Of L tokens n = round(ratio L) are masked, at least 1 and at most L - 1, in round(n / mean) spans, at least one, and
    no more than there are tokens on either side. How n is divided among the spans, and L - n among what stands before
    each, is uniform over all ways to do so. A row begins with what is not masked and ends with a span. So 568 tokens
    always become an input of 512 (85 tokens are masked in 28 spans, and `</s>` follows) and a target of 114. A special
    token within a row cuts the span that it stands in. At a ratio of 0 nothing is masked, nor of a row of one token.

    **Source:** Raffel et al. 2020 (T5), section 3.1.4, and `random_spans_noise_mask` of its code. Differs from that
    code: there are never more spans than unmasked tokens, which a ratio above 3/4 would ask for.
    """

    config: T5SpanConfig

    def select(self, batch: TokenBatch, rng: RowRng) -> np.ndarray:
        """Returns bool [B, T]."""
        total, wanted = batch.maskable.sum(axis=1), self.wanted(batch, rng)
        noise = np.minimum(np.maximum(np.rint(wanted).astype(np.int64), 1), total - 1) * ((wanted > 0) & (total > 1))
        spans = np.maximum(np.rint(noise / self.config.mean).astype(np.int64), 1)
        spans = np.minimum(np.minimum(spans, noise), total - noise)
        width = batch.shape[1]
        rest_keys, noise_keys = (rng.small(f"t5 {name}", width, "<u4") for name in ("rest", "noise"))
        laid = laid_out(composition(total - noise, spans, rest_keys), composition(noise, spans, noise_keys), width)
        place = np.maximum(np.cumsum(batch.maskable, axis=1) - 1, 0)  # among the maskable tokens
        return np.take_along_axis(laid, place, axis=1) & batch.maskable
