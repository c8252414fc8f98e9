"""How certain a metric is: intervals of the percentile bootstrap over examples, and over runs and examples.

The interval over runs is honest about both the choice of the test examples and the luck of training, but with the few
runs one usually has it is somewhat too narrow: five runs drawn with replacement spread less than five new ones.

Source: Efron and Tibshirani, "An Introduction to the Bootstrap", sections 13.3 and 8.3.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Measure:
    """What was answered, ready to be measured on any choice of examples.

    Attributes:
        size: number of examples.
        metrics: indices of examples, int [any], with repetition -> name of each metric and its value.
    """

    size: int
    metrics: Callable[[np.ndarray], dict[str, float]]

    def value(self) -> dict[str, float]:
        """The metrics of all examples."""
        return self.metrics(np.arange(self.size))


@dataclass(frozen=True)
class OverRuns:
    """A metric over several runs (seeds).

    Attributes:
        mean: of the runs.
        deviation: standard deviation of the runs (n - 1); NaN for one run.
        low: lower end of the interval of the mean.
        high: its upper end.
        runs: the metric of each run.
    """

    mean: float
    deviation: float
    low: float
    high: float
    runs: tuple[float, ...]


def intervals(
    measure: Measure, resamples: int = 1000, level: float = 0.95, seed: int = 0
) -> dict[str, tuple[float, float]]:
    """The percentile bootstrap interval of each metric over examples.

    Args:
        measure: what was answered.
        resamples: how often examples are drawn anew, as many as there are, with replacement.
        level: share of the resamples inside the interval.
        seed: of the drawing; the same gives the same intervals.

    Returns:
        metric -> (low, high). Resamples in which a metric is NaN are left out; both are NaN if it is over all examples.
    """
    random = _random(seed, resamples, level)
    drawn = [measure.metrics(_draw(random, measure.size)) for _ in range(resamples)] if measure.size else []
    return {name: _ends([metrics[name] for metrics in drawn], level, value) for name, value in measure.value().items()}


def seed_intervals(
    measures: Sequence[Measure], resamples: int = 1000, level: float = 0.95, seed: int = 0
) -> dict[str, OverRuns]:
    """Metrics over runs that answered the same examples, with intervals over runs and examples at once.

    Each resample draws runs with replacement and one resample of the examples, common to them, and takes the mean. With
    one run the interval is that of `intervals`.

    Args:
        measures: one a run.
        resamples: how often is drawn.
        level: share of the resamples inside the interval.
        seed: of the drawing.

    Raises:
        ValueError: there is no run, or runs answered different numbers of examples.
    """
    sizes = {measure.size for measure in measures}
    if len(sizes) != 1:
        raise ValueError(f"runs answered {sorted(sizes)} examples; expected one or more runs with the same examples")
    values = [measure.value() for measure in measures]
    if len(measures) == 1:
        found = intervals(measures[0], resamples, level, seed)
        return {name: OverRuns(value, math.nan, *found[name], (value,)) for name, value in values[0].items()}
    random = _random(seed, resamples, level)
    drawn = [_draw_runs(random, measures) for _ in range(resamples)] if measures[0].size else []
    result = {}
    for name in values[0]:
        runs = [metrics[name] for metrics in values]
        mean = float(np.mean(runs))
        ends = _ends([metrics[name] for metrics in drawn], level, mean)
        result[name] = OverRuns(mean, float(np.std(runs, ddof=1)), *ends, tuple(runs))
    return result


def _draw_runs(random: np.random.Generator, measures: Sequence[Measure]) -> dict[str, float]:
    """The mean metrics of one resample; a run drawn twice is measured once."""
    runs, times = np.unique(_draw(random, len(measures)), return_counts=True)
    examples = _draw(random, measures[0].size)
    of_run = [measures[run].metrics(examples) for run in runs]
    return {name: float(np.average([metrics[name] for metrics in of_run], weights=times)) for name in of_run[0]}


def _draw(random: np.random.Generator, size: int) -> np.ndarray:
    return random.integers(size, size=size)


def _ends(drawn: list[float], level: float, value: float) -> tuple[float, float]:
    usable = [number for number in drawn if not math.isnan(number)]
    if math.isnan(value) or not usable:
        return math.nan, math.nan
    low, high = np.quantile(usable, [(1 - level) / 2, (1 + level) / 2]).tolist()
    return low, high


def _random(seed: int, resamples: int, level: float) -> np.random.Generator:
    if resamples < 1 or not 0 < level < 1:
        raise ValueError(f"{resamples} resamples at level {level}; expected one or more, at a level between 0 and 1")
    return np.random.Generator(np.random.PCG64(seed))
