"""Several policies at once."""

from __future__ import annotations

import dataclasses

import numpy as np

from taskmask import config as settings
from taskmask.config import Assignment, Problems, opt
from taskmask.data.draws import Draw
from taskmask.data.rows import Rows
from taskmask.errors import ConfigError
from taskmask.maskers.base import Masker, MaskerConfig, build_masker, register_masker
from taskmask.registry import MASKERS


@dataclasses.dataclass(frozen=True)
class MixConfig(MaskerConfig):
    """Options of a mixture. Ratio, schedule and lists hold for all parts unless a part has its own."""

    of: tuple[str, ...] = opt(("uniform", "span"), 'maskers to mix, each with its options: uniform "span p=0.3"')
    weights: tuple[float, ...] = opt((), "share of the rows that each of them masks; none = equal shares")

    def __post_init__(self) -> None:
        super().__post_init__()
        problems = Problems()
        problems.check(len(self.of) >= 1, "names no masker", where="masker.of", expected="at least one")
        problems.check(
            len(self.weights) in (0, len(self.of)),
            f"has {len(self.weights)} numbers",
            where="masker.weights",
            expected=f"one for each of the {len(self.of)} maskers, or none",
        )
        problems.check(
            all(w >= 0 for w in self.weights) and (not self.weights or sum(self.weights) > 0),
            f"is {self.weights}",
            where="masker.weights",
            expected="shares of 0 or more that are not all 0",
        )
        problems.raise_any()


@register_masker("mix", config=MixConfig)
class Mix(Masker):
    """Masks each row with one of several maskers, drawn anew every epoch in proportion to their weights.

    **Source:** the mixture of masking schemes per sequence of Joshi et al. 2020 (SpanBERT), section 4.2, ablations.
    """

    def __init__(self, config: MixConfig, vocab):
        super().__init__(config, vocab)
        self.parts = [self._part(text, vocab) for text in config.of]
        weights = np.array(config.weights or [1.0] * len(self.parts))
        self.cumulative = np.cumsum(weights / weights.sum())
        self.columns = tuple(sorted({column for part in self.parts for column in part.columns}))

    def _part(self, text: str, vocab) -> Masker:
        name, *words = text.split()
        shared = {field: getattr(self.config, field) for field in settings.fields_of(MaskerConfig)}
        values = {}
        for word in words:
            key, equals, value = word.partition("=")
            if not equals:
                raise ConfigError(f"{word!r} has no value", where="masker.of", expected=f'"{name} option=value"')
            values[key] = Assignment(key, value.split(",") if "," in value else value, "masker.of")
        problems = Problems()
        entry = MASKERS.get(name)
        options = settings.build(entry.config, values, name, problems, **{**shared, **entry.preset})
        problems.raise_any()
        part = build_masker(name, options, vocab)
        if part.views != 1:
            raise ConfigError(f"{name} makes {part.views} masks of a row", where="masker.of", expected="one mask a row")
        return part

    def select(self, rows: Rows, draw: Draw) -> np.ndarray:
        """Returns bool [B, T]."""
        which = np.searchsorted(self.cumulative, draw.uniform("mix", 1)[:, 0], side="right")
        mask = np.zeros(rows.shape, dtype=bool)
        for number, part in enumerate(self.parts):
            index = np.flatnonzero(np.minimum(which, len(self.parts) - 1) == number)
            if len(index):
                mask[index] = part(rows.take(index), draw.take(index))[0]
        return mask
