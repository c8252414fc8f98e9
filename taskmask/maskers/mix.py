"""Several policies at once."""

from __future__ import annotations

import dataclasses

import numpy as np

from taskmask.config import Problems, opt
from taskmask.data.batch import TokenBatch
from taskmask.data.rng import RowRng
from taskmask.errors import ConfigError
from taskmask.maskers.base import Masker, MaskerConfig, build_masker, register_masker
from taskmask.maskers.policy import read_policy, shared_options
from taskmask.tokenizer.tokenizer import Vocabulary


@dataclasses.dataclass(frozen=True)
class MixConfig(MaskerConfig):
    """Options of a mixture. Ratio and schedule hold for every part that has none of its own, the lists for all."""

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

    def __init__(self, config: MixConfig, vocab: Vocabulary):
        super().__init__(config, vocab)
        self.parts = []
        for text in config.of:
            try:
                self.parts.append(self._part(text, vocab))
            except ConfigError as error:
                raise ConfigError(str(error), where=f"masker.of {text!r}") from None
        # By names alone, so that `scored` and its control mask the same rows; a mixture within a mixture has its parts
        # in its name, and draws anew.
        names = (getattr(part, "stream", text.split()[0]) for part, text in zip(self.parts, config.of, strict=True))
        self.stream = f"mix {tuple(names)}"
        weights = np.array(config.weights or [1.0] * len(self.parts))
        self.cumulative = np.cumsum(weights / weights.sum())
        self.columns = tuple(sorted({column for part in self.parts for column in part.columns}))
        shared = set.intersection(*(set(part.promises) for part in self.parts))
        if any(shared_options(part.config) != shared_options(config) for part in self.parts):
            shared -= {"exact_budget", "budget_within_a_word", "mean_budget"}  # promises about the share of a part
        if any("own_budget" in part.promises for part in self.parts):
            shared |= {"own_budget"}  # of some rows is then of all of them
        self.promises = tuple(sorted(shared))

    def _part(self, text: str, vocab: Vocabulary) -> Masker:
        chosen = read_policy(text, **shared_options(self.config))
        part = build_masker(chosen.name, chosen.options, vocab)
        masks = part.views * part.turns
        if masks != 1 or part.over_epochs:
            what = f"makes {masks} masks of a row" if masks != 1 else "makes masks that belong together over epochs"
            raise ConfigError(what, expected="one mask a row, drawn anew at every epoch")
        return part

    def select(self, batch: TokenBatch, rng: RowRng) -> np.ndarray:
        """Returns bool [B, T]."""
        which = np.searchsorted(self.cumulative, rng.uniform(self.stream, 1)[:, 0], side="right")
        mask = np.zeros(batch.shape, dtype=bool)
        for number, part in enumerate(self.parts):
            index = np.flatnonzero(np.minimum(which, len(self.parts) - 1) == number)
            if len(index):
                mask[index] = part(batch.take(index), rng.take(index))[0]
        return mask
