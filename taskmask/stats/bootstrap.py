"""How certain a metric is: its standard error by the bootstrap over examples, and its interval within its limits.

Source: Efron and Tibshirani, "An Introduction to the Bootstrap", section 6.2, for the error; `two_way` for that of
several runs; `limits` for the interval.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from taskmask.stats.limits import UNLIMITED, Limits, interval_within
from taskmask.stats.two_way import two_way


@dataclass(frozen=True)
class Measure:
    """What was answered, ready to be measured on any choice of examples.

    Attributes:
        size: number of examples.
        metrics: indices of examples, int [any], with repetition -> name of each metric and its value.
        limits: {metric: between which values it lies}; the others have none.
        notes: what people should know of the metrics, a sentence each.
    """

    size: int
    metrics: Callable[[np.ndarray], dict[str, float]]
    limits: Mapping[str, Limits] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

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
        limits: {metric: between which values it lies}; the others have none.
    """

    size: int
    value: dict[str, float]
    drawn: dict[str, np.ndarray]
    limits: Mapping[str, Limits] = field(default_factory=dict)

    def limits_of(self, metric: str) -> Limits:
        """Returns the limits of a metric."""
        return self.limits.get(metric, UNLIMITED)


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
    drawn = {name: np.array([one[name] for one in found], float) for name in value}
    return Resampled(measure.size, value, drawn, measure.limits)


def intervals(
    measure: Measure, resamples: int = 1000, level: float = 0.95, seed: int = 0
) -> dict[str, tuple[float, float]]:
    """The interval of each metric over examples.

    Args:
        measure: what was answered.
        resamples: how often examples are drawn anew, as many as there are, with replacement.
        level: how often such intervals hold the truth.
        seed: of the drawing; the same gives the same intervals.

    Returns:
        metric -> (low, high), as of `interval_within`. Resamples in which a metric is NaN are left out.
    """
    return {name: (found.low, found.high) for name, found in seed_intervals([measure], resamples, level, seed).items()}


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

    The interval is over new runs and new examples, with one run over new examples alone; it is within the limits of the
    metric. From two runs on it holds the truth about as often as it says.
    """
    values = np.array([run.value[metric] for run in runs])
    found = two_way(values, np.stack([run.drawn[metric] for run in runs], 1), runs[0].size)
    deviation = float(np.std(values, ddof=1)) if len(runs) > 1 else math.nan
    ends = interval_within(found, runs[0].limits_of(metric), level)
    return OverRuns(found.mean, deviation, *ends, tuple(values.tolist()))


def check_same_examples(measures: Sequence[Measure] | Sequence[Resampled]) -> None:
    """Raises a ValueError where runs answered different numbers of examples, or there are none."""
    sizes = {measure.size for measure in measures}
    if len(sizes) != 1:
        raise ValueError(f"runs answered {sorted(sizes)} examples; expected one or more runs with the same examples")


def _check_level(level: float) -> None:
    if not 0 < level < 1:
        raise ValueError(f"an interval at level {level}; expected one between 0 and 1")
