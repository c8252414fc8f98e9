"""Differences between two ways of training, paired by seed and by example, and many of them at once.

Source: `two_way` for the interval and the test, `limits` for the least error of a difference; Holm, "A simple
sequentially rejective multiple test procedure", Scandinavian Journal of Statistics 6 (1979).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from taskmask.stats.bootstrap import Resampled, check_same_examples
from taskmask.stats.limits import UNLIMITED, interval_within, smallest_error
from taskmask.stats.two_way import TwoWay, two_way


@dataclass(frozen=True)
class Difference:
    """A metric less that of a baseline.

    Attributes:
        mean: over the pairs; NaN without one.
        low: lower end of the interval of the mean over seeds and examples; with one pair over examples alone.
        high: its upper end.
        p: two-sided, of there being no difference; NaN with less than two pairs.
        seeds: of the pairs, rising.
        pairs: the difference of each.
    """

    mean: float
    low: float
    high: float
    p: float
    seeds: tuple[int, ...]
    pairs: tuple[float, ...]


def paired_difference(
    ours: Mapping[int, Resampled], baseline: Mapping[int, Resampled], metric: str, level: float = 0.95
) -> Difference:
    """Compares runs with those of the baseline that have the same seed, on the same examples.

    Args:
        ours: {seed: run}; runs without a partner are left out.
        baseline: {seed: run}, which were drawn the same examples.
        metric: the one that is compared.
        level: of the interval.

    Raises:
        ValueError: runs answered different numbers of examples.
    """
    seeds = tuple(sorted(ours.keys() & baseline.keys()))
    if not seeds:
        return Difference(math.nan, math.nan, math.nan, math.nan, (), ())
    check_same_examples([run for seed in seeds for run in (ours[seed], baseline[seed])])
    values = np.array([ours[seed].value[metric] - baseline[seed].value[metric] for seed in seeds])
    drawn = np.stack([ours[seed].drawn[metric] - baseline[seed].drawn[metric] for seed in seeds], 1)
    limits, pairs = ours[seeds[0]].limits_of(metric), tuple(values.tolist())
    found = two_way(values, drawn, ours[seeds[0]].size)
    if math.isinf(limits.high):
        found = found.of_fewer(limits.examples)
    if math.isfinite(limits.low):
        sides = [_of_one_run([runs[seed] for seed in seeds], metric) for runs in (ours, baseline)]
        found = found.at_least(smallest_error(sides, limits) * _left_by_averaging(found, drawn))
    width = limits.high - limits.low
    low, high = np.clip(interval_within(found, UNLIMITED, level), -width, width).tolist()
    return Difference(found.mean, low, high, found.p_value() if len(seeds) > 1 else math.nan, seeds, pairs)


def _left_by_averaging(found: TwoWay, drawn: np.ndarray) -> float:
    """The error between examples that the mean of pairs has, as a share of the error that one pair has.

    What the pairs have in common stays whole, and what each has for itself becomes less by the root of their number.
    """
    of_one = float(np.nanvar(drawn, 0, ddof=1).mean()) if found.of_examples > 0 else 0.0
    common = min(found.of_examples / of_one, 1.0) if of_one > 0 else 0.0
    return math.sqrt(common + (1 - common) / found.runs)


def _of_one_run(runs: Sequence[Resampled], metric: str) -> TwoWay:
    """The mean of runs, with the error between examples that one of them has on average."""
    each = [two_way(np.array([run.value[metric]]), run.drawn[metric][:, None], run.size) for run in runs]
    mean, error = np.mean([[one.mean, one.of_examples] for one in each], 0).tolist()
    return TwoWay(mean, 0.0, error, 1, runs[0].size)


def holm(p_values: Sequence[float]) -> list[float]:
    """Returns p values that are adjusted for all of them having been looked at.

    Where one below 0.05 is called a finding, the chance of a single false finding among all is at most 5 %. NaN stands
    for a comparison that was not made: it stays, and does not count.
    """
    order = sorted((place for place, p in enumerate(p_values) if not math.isnan(p)), key=p_values.__getitem__)
    adjusted, highest = list(p_values), 0.0
    for rank, place in enumerate(order):
        highest = max(highest, min(1.0, (len(order) - rank) * p_values[place]))
        adjusted[place] = highest
    return adjusted
