"""How certain a metric is: intervals of the percentile bootstrap over examples; over runs and examples, Student's t.

Source: Efron and Tibshirani, "An Introduction to the Bootstrap", section 13.3; `two_way` for several runs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from taskmask.metrics.two_way import two_way


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


@dataclass(frozen=True)
class Resampled:
    """A measure with its metrics on examples that were drawn anew, over and over.

    Two measures of the same size, number of resamples and seed were drawn the same examples.

    Attributes:
        size: number of examples.
        value: the metrics of all examples.
        drawn: metric -> its value on each resample, float64 [resamples]; empty without an example.
    """

    size: int
    value: dict[str, float]
    drawn: dict[str, np.ndarray]


def resample(measure: Measure, resamples: int = 1000, seed: int = 0) -> Resampled:
    """Measures all examples, and as many drawn with replacement, `resamples` times.

    Raises:
        ValueError: there is to be no resample.
    """
    if resamples < 1:
        raise ValueError(f"{resamples} resamples; expected one or more")
    random = np.random.Generator(np.random.PCG64(seed))
    value = measure.value()
    times = resamples if measure.size else 0
    found = [measure.metrics(random.integers(measure.size, size=measure.size)) for _ in range(times)]
    return Resampled(measure.size, value, {name: np.array([one[name] for one in found], float) for name in value})


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
    _check_level(level)
    found = resample(measure, resamples, seed)
    return {name: percentiles(drawn, found.value[name], level) for name, drawn in found.drawn.items()}


def percentiles(drawn: np.ndarray, value: float, level: float = 0.95) -> tuple[float, float]:
    """The ends of the percentile interval; NaN where the value is.

    Args:
        drawn: float [resamples]; those that are NaN are left out.
        value: over all examples.
        level: share of the resamples inside the interval.
    """
    usable = drawn[~np.isnan(drawn)]
    if math.isnan(value) or not usable.size:
        return math.nan, math.nan
    low, high = np.quantile(usable, [(1 - level) / 2, (1 + level) / 2]).tolist()
    return low, high


def seed_intervals(
    measures: Sequence[Measure], resamples: int = 1000, level: float = 0.95, seed: int = 0
) -> dict[str, OverRuns]:
    """Metrics over runs that answered the same examples, with intervals over runs and examples at once.

    Args:
        measures: one a run.
        resamples: how often examples are drawn anew, the same for all runs.
        level: how often such intervals hold the truth.
        seed: of the drawing.

    Raises:
        ValueError: there is no run, or runs answered different numbers of examples.
    """
    _check_level(level)
    check_same_examples(measures)
    found = [resample(measure, resamples, seed) for measure in measures]
    return {name: over_runs(found, name, level) for name in found[0].value}


def over_runs(runs: Sequence[Resampled], metric: str, level: float = 0.95) -> OverRuns:
    """One metric over runs that were drawn the same examples.

    The interval is that of `two_way`: over new runs and new examples; from two runs on it holds the truth about as
    often as it says. It is symmetric, so near a limit of the metric, such as 1, it may pass it. With one run it is
    that of `intervals`, over examples alone.
    """
    values = np.array([run.value[metric] for run in runs])
    mean = float(np.mean(values))
    if len(runs) == 1:
        return OverRuns(mean, math.nan, *percentiles(runs[0].drawn[metric], mean, level), (mean,))
    ends = two_way(values, np.stack([run.drawn[metric] for run in runs], 1), runs[0].size).interval(level)
    return OverRuns(mean, float(np.std(values, ddof=1)), *ends, tuple(values.tolist()))


def check_same_examples(measures: Sequence[Measure] | Sequence[Resampled]) -> None:
    """Raises a ValueError where runs answered different numbers of examples, or there are none."""
    sizes = {measure.size for measure in measures}
    if len(sizes) != 1:
        raise ValueError(f"runs answered {sorted(sizes)} examples; expected one or more runs with the same examples")


def _check_level(level: float) -> None:
    if not 0 < level < 1:
        raise ValueError(f"an interval at level {level}; expected one between 0 and 1")
