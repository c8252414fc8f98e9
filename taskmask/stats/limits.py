"""Intervals of a metric that has limits, such as 0 and 1: inside them, never of zero width, fair near them.

The standard error of a metric says how many right-or-wrong examples would be as uncertain: its effective number of
examples. The interval is the exact one of Clopper and Pearson for that number. For n right-or-wrong examples the
effective number is n, and the interval holds the truth at least as often as it says. If all are right, it is the rule
of three: of n right answers to n questions it goes down to (level / 2) ** (1 / n), about 1 - 3.7 / n at 95 %.

Near a limit few examples make all the difference, and the error, which knows only examples that were seen, is too
small: so the effective number is at most the number of examples, times half the effective number of examples that
tell the metric from its limit if those are more than two.

Source: Korn and Graubard, "Confidence intervals for proportions with small expected number of positive counts estimated
from survey data", Survey Methodology 24 (1998); Clopper and Pearson, "The use of confidence or fiducial limits
illustrated in the case of the binomial", Biometrika 26 (1934). Metrics without an upper limit: an interval of the
logarithm, Meeker and Escobar, "Statistical Methods for Reliability Data" (1998). The bound of the effective number was
found by simulation.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from taskmask.stats.beta import beta_quantile
from taskmask.stats.student import t_beyond
from taskmask.stats.two_way import TwoWay

NOTHING = 1e-9  # of the distance to a limit: an error below it is that of rounding


@dataclass(frozen=True)
class Limits:
    """Between which values a metric lies.

    Args:
        low: its lowest value.
        high: its highest value; infinite for a loss.
        examples: how many examples it rests on, if fewer than were answered: for the F1 of a rare label, the examples
            that have it; for a loss, the examples that have targets.
        is_smooth: whether no single example matters much: a correlation of numbers, in contrast to a share of examples.
    """

    low: float = -math.inf
    high: float = math.inf
    examples: float = math.inf
    is_smooth: bool = False


SHARE = Limits(0.0, 1.0)
CORRELATION = Limits(-1.0, 1.0, is_smooth=True)
LOSS = Limits(low=0.0)
UNLIMITED = Limits()


def interval_within(found: TwoWay, limits: Limits, level: float = 0.95) -> tuple[float, float]:
    """The interval of the mean of runs; both ends are NaN if it is undefined.

    Without limits it is that of `TwoWay`, and undefined if nothing differs between examples or runs. The same holds for
    a loss below its lower limit: the limit is that of the criteria here, and others may have losses below 0.

    Args:
        found: the mean and its error.
        limits: of the metric.
        level: how often such intervals hold the truth.

    Raises:
        ValueError: the mean is outside two limits by more than rounding.
    """
    mean, tail = found.mean, (1 - level) / 2
    if math.isnan(mean):
        return math.nan, math.nan
    if math.isinf(limits.high) and mean < limits.low - 1e-6:  # a criterion of the user's own, such as a log-density
        limits, found = UNLIMITED, found.of_fewer(limits.examples)
    if not limits.low - 1e-6 <= mean <= limits.high + 1e-6:
        raise ValueError(f"a metric is {mean}; expected one from {limits.low} to {limits.high}, the limits it declares")
    if math.isinf(limits.low):
        return found.interval(level) if found.error > 0 else (math.nan, math.nan)
    if math.isinf(limits.high):
        return _above(found.of_fewer(limits.examples), limits.low, tail)
    width = limits.high - limits.low
    share = min(max((mean - limits.low) / width, 0.0), 1.0)
    number = effective_examples(found, limits, tail)
    if math.isnan(number):
        return math.nan, math.nan
    right, wrong = share * number, (1 - share) * number
    below = beta_quantile(tail, right, wrong + 1) if right > 0 else 0.0
    above = 1 - (beta_quantile(tail, wrong, right + 1) if wrong > 0 else 0.0)
    # the ends hold the mean; rounding must not part them
    return min(limits.low + width * below, mean), max(limits.low + width * above, mean)


def effective_examples(found: TwoWay, limits: Limits, tail: float = 0.025) -> float:
    """Returns how many right-or-wrong examples would tell a metric with two limits as surely.

    NaN if the error is undefined, although there are two examples or more.

    Args:
        found: the metric and its error.
        limits: of the metric.
        tail: probability beyond each end of the interval; few runs make the number smaller, by their Student's t.
    """
    examples, width = found.examples, limits.high - limits.low
    known = max(min(limits.examples, examples), 1.0)
    share = min(max((found.mean - limits.low) / width, 0.0), 1.0)
    if examples < 2 or share in (0, 1):  # at a limit resamples differ only if they have no example of some class
        return known
    error = found.error / width * found.bound(tail)
    if math.isnan(error):
        return math.nan
    if error > NOTHING:
        variance = share * (1 - share) * examples / (examples - 1) / error**2
        number = variance * t_beyond(tail, math.inf) ** 2
        # right-or-wrong scores have the variance that belongs to their mean: no t is due to their number
        number = max(number, min(variance * t_beyond(tail, examples - 1) ** 2, examples))
    else:
        number = known**2
    if limits.is_smooth and error > NOTHING:
        return number
    few = number * min(share, 1 - share)  # effective examples that tell it from its limit
    return min(number, known * max(1.0, few / 2))


def smallest_error(sides: Sequence[TwoWay], limits: Limits) -> float:
    """Returns the least error between examples that the difference of two runs can have.

    Both may be right on all examples, and an error of 0 would be no sign of certainty. With two limits the error is at
    least that of four effective examples on which only one side is right: fewer say too little for Student's t. Without
    an upper limit there is a least error only if the sides are alike on every example.

    Args:
        sides: the metric of each side, of one run, with its error between examples.
        limits: of the metric; the lower one is finite.
    """
    if math.isinf(limits.high):
        is_alike = len({(side.mean, side.of_examples) for side in sides}) == 1
        return max(side.mean - limits.low for side in sides) / sides[0].examples if is_alike else 0.0
    number = min(effective_examples(side, limits) for side in sides)
    return 2 * (limits.high - limits.low) / number


def _above(found: TwoWay, low: float, tail: float) -> tuple[float, float]:
    """The interval of a metric that has a lower limit alone: that of its logarithm, symmetric.

    If all examples are at the limit, nothing is known of how large others can be: the upper end is infinite.
    """
    distance = found.mean - low
    if math.isnan(found.error):
        return math.nan, math.nan
    if distance <= 0:
        return low, math.inf
    relative, bound = found.error / distance, found.bound(tail)
    if relative <= NOTHING:
        relative, bound = 1 / found.examples, t_beyond(tail, found.examples - 1)
    factor = math.exp(min(bound * relative, 700.0))
    return low + distance / factor, low + distance * factor
