"""Fully-explored masking: masks of a row that do not overlap and together cover it."""

from __future__ import annotations

import dataclasses
from typing import Literal

import numpy as np

from taskmask.config import Problems, opt
from taskmask.data.batch import TokenBatch
from taskmask.data.rng import RowRng
from taskmask.errors import ConfigError
from taskmask.maskers.base import Masker, MaskerConfig, build_masker, register_masker
from taskmask.maskers.policy import read_policy, shared_options
from taskmask.maskers.runs import begins
from taskmask.tokenizer.tokenizer import Vocabulary

MOST = 100  # masks of a row
BIASED = "masker.partition contiguous: the gradient is biased, on average another one than that of uniform masks"
LISTS = "give masker.never and masker.always, which hold for all masks of a row"


@dataclasses.dataclass(frozen=True)
class FullyExploredConfig(MaskerConfig):
    """Options of fully-explored masking. Without `masks` the ratio says how many there are: 1 / ratio, rounded."""

    masks: int | None = opt(None, "masks that cover a row (K in the paper); none = 1 / ratio, rounded")
    of: str = opt("uniform", 'masker whose units are dealt out: uniform (tokens), whole_word, "span p=0.3"')
    partition: Literal["random", "contiguous"] = opt(
        "random",
        "units of a mask: drawn at random, or neighbours, which biases the gradient: tokens are always the same ones",
    )
    mode: Literal["together", "in_turn", "sequential"] = opt(
        "together", "the masks of a row: all in one update, one an epoch (no extra compute), or one an update in a row"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        problems = Problems()
        fix = "leave it out: the masks of a row cover it, each a share of 1 / masks"
        problems.check(self.ratio_end is None, f"is {self.ratio_end}", where="masker.ratio_end", fix=fix)
        expected = f"1 to {MOST} masks that cover a row"
        if self.masks is None:
            problems.check(self.ratio * MOST >= 1, f"is {self.ratio}", where="masker.ratio", expected=expected)
        else:
            problems.check(1 <= self.masks <= MOST, f"is {self.masks}", where="masker.masks", expected=expected)
        problems.raise_any()

    @property
    def num_masks(self) -> int:
        """How many masks cover a row."""
        return self.masks or max(2 if self.ratio < 1 else 1, round(1 / self.ratio))


@register_masker("fully_explored", config=FullyExploredConfig)
class FullyExplored(Masker):
    """Deals the units of a row out to K masks, so that each maskable token is in exactly one.

    The units lie in random order around a circle, which is cut at a random place into K arcs of equal length; a unit
    belongs to the arc that it starts in. So every token is in each mask with probability 1 / K, masks of tokens differ
    by one token at most, and those of words or spans by less than one unit. In a row of fewer units than masks some are
    empty, any of them. A contiguous partition of tokens or words is the same in every epoch, which of its masks comes
    first is not. Pieces of `always` are in all masks, those of `never` in none.

    Modes: `together` puts K copies of a row, a mask each, in one update; the token budget of a micro-batch counts them
    all, and the loss is the mean over all of their tokens. `in_turn` takes the next mask of a partition at each epoch,
    and draws a new partition every K epochs. `sequential` takes the same rows in K updates in succession. With the last
    two, validation sees one fixed mask of each row.

    **Source:** Zheng et al. 2020 (arXiv 2010.06040), reconstructed from the abstract. Differs from the paper, whose
    text gives neither the modes nor the units: the partition is random by default, since a fixed one is biased.
    """

    def __init__(self, config: FullyExploredConfig, vocab: Vocabulary):
        super().__init__(config, vocab)
        self.num_masks = config.num_masks
        self.views = self.num_masks if config.mode == "together" else 1
        self.turns = self.num_masks if config.mode == "sequential" else 1
        self.over_epochs = config.mode == "in_turn"
        self.note = BIASED if config.partition == "contiguous" else ""
        chosen = read_policy(config.of, **shared_options(config))
        self.inner = build_masker(chosen.name, chosen.options, vocab)
        if type(self.inner).units is Masker.units:
            expected = "a masker that chooses among units, such as uniform, whole_word or span"
            raise ConfigError(f"is {config.of}", where="masker.of", expected=expected)
        inner = chosen.options
        if (inner.never, inner.always) != (config.never, config.always):
            raise ConfigError(f"{config.of!r} has lists of its own", where="masker.of", fix=LISTS)
        self.columns = self.inner.columns
        asked = self.num_masks * config.ratio  # 1 where a mask is the share that the ratio asks for
        kept = {"whole_words", *(("exact_budget", "budget_within_a_word", "mean_budget") if asked == 1 else ())}
        promised = tuple(name for name in self.inner.promises if name in kept)
        self.promises = (*promised, "own_budget") if asked < 1 else promised

    def select(self, batch: TokenBatch, rng: RowRng) -> np.ndarray:
        """Returns bool [K, B, T], or [1, B, T] of the mask whose turn it is."""
        turn, masks = rng.turn, np.arange(self.num_masks)
        if self.config.mode == "in_turn":
            cycle, turn = divmod(rng.epoch - 1, self.num_masks)
            rng = dataclasses.replace(rng, epoch=cycle)
        of_tokens = self.deal(batch, rng)
        return of_tokens == (masks if self.config.mode == "together" else masks[turn : turn + 1])[:, None, None]

    def deal(self, batch: TokenBatch, rng: RowRng) -> np.ndarray:
        """Returns int64 [B, T], the number of the mask that each token is in; -1 where it is in none."""
        units = self.inner.units(batch, rng)
        assert units is not None  # as was checked
        inside = batch.maskable & (units >= 0)
        total = np.maximum(inside.sum(axis=1), 1)[:, None]
        first = rng.once[:, 1:]
        if self.config.partition == "random":
            keys = np.take_along_axis(rng.small("units", batch.shape[1], "<u4"), np.maximum(units, 0), axis=1)
            arc = self._arcs(begins(keys, inside) - first * total, total)
        else:
            arc = self._arcs(begins(units.astype(np.uint32), inside), total)
            arc = (arc - (first * self.num_masks).astype(np.int64)) % self.num_masks
        return np.where(inside, arc, -1)

    def _arcs(self, place: np.ndarray, total: np.ndarray) -> np.ndarray:
        """Returns int64 [B, T], the arc of places on a circle of `total` [B, 1] tokens."""
        arc = (place % total * self.num_masks / total).astype(np.int64)
        return np.minimum(arc, self.num_masks - 1)  # a place just before 0 is rounded to the end
