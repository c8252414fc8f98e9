"""What a policy does to a sample of rows over many draws, counted.

Shapes: B rows, T tokens in the longest row, K views, G groups, N masks: rows x views x draws.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from taskmask.analysis.inspect.groupings import Groups
from taskmask.data.batch import TokenBatch
from taskmask.data.rng import RowRng
from taskmask.maskers.base import Masker
from taskmask.masking.replace import replace_tokens

LONGEST = 12  # longer spans are counted with those of this length


@dataclass(frozen=True)
class Policy:
    """A masker, and what it is called in tables: its name and options.

    Args:
        name: as the user wrote it.
        masker: the masker.
    """

    name: str
    masker: Masker


@dataclass
class Observed:
    """What a policy did.

    Attributes:
        policy: its name.
        asked: the share that its options ask for; None where the policy decides itself how much it masks.
        views: masks of a row.
        ratios: float [N], share of the maskable tokens of a row that were masked; NaN where there are none.
        there: {division: int64 [G]}, tokens that could have been masked.
        chosen: {division: int64 [G]}, those that were.
        spans: int64 [LONGEST + 1], runs of masked tokens by their length.
        replaced: {"mask", "random", "kept"}: masked tokens by what the model saw in their place.
        ratio: share of all maskable tokens that was masked.
    """

    policy: str
    asked: float | None
    views: int
    ratios: np.ndarray = field(default_factory=lambda: np.zeros(0))
    there: dict[str, np.ndarray] = field(default_factory=dict)
    chosen: dict[str, np.ndarray] = field(default_factory=dict)
    spans: np.ndarray = field(default_factory=lambda: np.zeros(LONGEST + 1, np.int64))
    replaced: dict[str, int] = field(default_factory=lambda: {"mask": 0, "random": 0, "kept": 0})
    masked: int = 0
    maskable: int = 0

    @property
    def ratio(self) -> float:
        """Share of all maskable tokens that was masked."""
        return self.masked / max(self.maskable, 1)

    @property
    def empty(self) -> float:
        """Share of the masks of rows with maskable tokens in which nothing was masked."""
        ratios = self.ratios[np.isfinite(self.ratios)]
        return float((ratios == 0).mean()) if len(ratios) else 0.0

    @property
    def spread(self) -> float:
        """Standard deviation of the share over masks."""
        ratios = self.ratios[np.isfinite(self.ratios)]
        return float(ratios.std()) if len(ratios) else 0.0

    @property
    def span(self) -> float:
        """Mean length of a run of masked tokens."""
        return float((self.spans * np.arange(LONGEST + 1)).sum() / max(self.spans.sum(), 1))

    def shares(self, division: str) -> np.ndarray:
        """Returns float [G], the share of each group that was masked; NaN where a group is empty."""
        there = self.there[division]
        return np.where(there > 0, self.chosen[division] / np.maximum(there, 1), np.nan)


def observe(
    policies: Sequence[Policy],
    batches: Sequence[TokenBatch],
    divisions: Sequence[Groups],
    draws: int,
    seed: int,
    shares: tuple[float, float, str] = (0.8, 0.1, "token"),
    advance: Callable[[int], object] = lambda rows: None,
) -> tuple[list[Observed], np.ndarray]:
    """Masks a sample many times.

    Args:
        policies: the policies.
        batches: the sample, a batch each.
        divisions: by what is counted, with the groups of each batch.
        draws: how often each row is masked: epochs 1, 2, ...
        seed: of the draws.
        shares: replacement: the share of `<mask>`, that of random pieces, and per what it is decided.
        advance: called with the rows that are done.

    Returns:
        What each policy did, and float [P, P]: the overlap of each two of the P policies in the same draw (Jaccard:
        tokens that both masked / tokens that either did, the mean over masks); on the diagonal that of a policy with
        itself in the next draw.
    """
    found = [Observed(one.name, _asked(one.masker), one.masker.views) for one in policies]
    ratios: list[list[np.ndarray]] = [[] for _ in policies]
    overlaps = np.zeros((2, len(policies), len(policies)))  # sums, and how many
    for number, rows in enumerate(batches):
        groups = {one.name: (one.index[number], len(one.labels)) for one in divisions}
        before: list[np.ndarray] = []
        for epoch in range(1, draws + 1):
            rng = RowRng(seed, epoch, rows.ids)
            masks = [policy.masker(rows, rng) for policy in policies]
            for one, mask, own in zip(found, masks, ratios, strict=True):
                own.append(_count(one, mask, rows, groups))
                _count_replaced(one, mask, rows, rng, shares)
            _count_overlaps(overlaps, masks, before)
            before = masks
        advance(len(rows.ids))
    for one, own in zip(found, ratios, strict=True):
        one.ratios = np.concatenate(own)
    return found, overlaps[0] / np.maximum(overlaps[1], 1)


def _asked(masker: Masker) -> float | None:
    return None if "own_budget" in masker.promises else masker.config.ratio_at(0.0)


def _count(one: Observed, mask: np.ndarray, batch: TokenBatch, groups: dict[str, tuple[np.ndarray, int]]) -> np.ndarray:
    """Adds a mask [K, B, T] to what was counted; returns float [K*B], the share of each row."""
    everything, chosen = batch.maskable.sum(1), mask.sum(2)
    one.maskable += int(everything.sum()) * len(mask)
    one.masked += int(chosen.sum())
    times = mask.sum(0)
    for name, (index, size) in groups.items():
        inside = index >= 0
        there = np.bincount(index[inside], minlength=size) * len(mask)
        picked = inside & (times > 0)
        hits = np.bincount(index[picked], times[picked], minlength=size).astype(np.int64)
        one.there[name] = one.there.get(name, 0) + there
        one.chosen[name] = one.chosen.get(name, 0) + hits
    one.spans += np.bincount(np.minimum(span_lengths(mask), LONGEST), minlength=LONGEST + 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(everything > 0, chosen / everything, np.nan).reshape(-1)


def span_lengths(mask: np.ndarray) -> np.ndarray:
    """Returns int64, the length of every run of True in the rows of bool [..., T]."""
    flat = np.pad(mask.reshape(-1, mask.shape[-1]), ((0, 0), (1, 1))).reshape(-1)
    edges = np.flatnonzero(flat[1:] != flat[:-1])
    return edges[1::2] - edges[::2]


def _count_replaced(
    one: Observed, mask: np.ndarray, batch: TokenBatch, rng: RowRng, shares: tuple[float, float, str]
) -> None:
    seen = replace_tokens(batch, mask, rng, mask_share=shares[0], random_share=shares[1], per=shares[2])
    chosen = mask.reshape(-1, batch.shape[1])
    new, old = seen[chosen], np.broadcast_to(batch.tokens, mask.shape).reshape(chosen.shape)[chosen]
    hidden, kept = int((new == batch.vocab.mask).sum()), int((new == old).sum())
    one.replaced["mask"] += hidden
    one.replaced["kept"] += kept
    one.replaced["random"] += len(new) - hidden - kept


def _count_overlaps(overlaps: np.ndarray, masks: list[np.ndarray], before: list[np.ndarray]) -> None:
    """Adds the overlaps of the masks of a draw with each other, and with those of the draw before."""
    first = [mask[0] for mask in masks]  # of several views the first stands for all
    for a, one in enumerate(first):
        others = [(b, other) for b, other in enumerate(first) if b != a]
        others += [(a, before[a][0])] if before else []
        for b, other in others:
            either = (one | other).sum(1)
            both = (one & other).sum(1)
            overlaps[:, a, b] += (both[either > 0] / either[either > 0]).sum(), (either > 0).sum()


def rates(policy: Policy, batch: TokenBatch, draws: int, seed: int) -> np.ndarray:
    """Returns float [K, B, T], how often the policy masks each token over many draws, for each of its views."""
    total = np.zeros((policy.masker.views, *batch.shape))
    for epoch in range(1, draws + 1):
        total += policy.masker(batch, RowRng(seed, epoch, batch.ids))
    return total / draws
