"""How certain a mean over runs (seeds) and examples is: its error from both, its interval, its test.

The value of run s is  mean + its luck A_s + what its examples add, one part B common to all runs, one C_s its own. The
variance of the mean of n runs has two parts, each found by itself:

- between runs: the variance of the runs' values (n - 1) / n, which holds A and C; where the values are equal, what the
  examples say of C; n - 1 degrees of freedom;
- between examples, common to the runs: the mean covariance of two runs when the same examples are drawn anew for both,
  which is the variance of B; (examples - 1) degrees of freedom. Taken so, C counts once, not twice.

With one run there is the second part alone, the variance between examples.

With few runs the first is badly known, so the bound is Student's t, not the normal distribution's: that of each part,
weighted with the parts' shares (Cochran's). It is a little too wide where both parts matter; Satterthwaite's degrees of
freedom were tried and are too narrow there with three runs (92 % for 95).

Source: Obuchowski and Rockette, "Hypothesis testing of diagnostic accuracy for multiple readers and multiple tests",
Communications in Statistics 24 (1995): readers are runs, cases are examples. Cochran, "Approximate significance levels
of the Behrens-Fisher test", Biometrics 20 (1964).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from taskmask.stats.student import t_beyond, t_tail

EQUAL = 1e-12  # share of the variance due to their examples below which runs have the same value but for rounding


@dataclass(frozen=True)
class TwoWay:
    """A mean over runs that answered the same examples; of one run, the part between runs is 0.

    Attributes:
        mean: of the runs.
        of_runs: the part of its variance that lies between runs.
        of_examples: the part that lies between examples and is common to the runs.
        runs: how many there are.
        examples: how many there are.
    """

    mean: float
    of_runs: float
    of_examples: float
    runs: int
    examples: int

    @property
    def error(self) -> float:
        """The standard error of the mean."""
        return math.sqrt(self.of_runs + self.of_examples)

    def bound(self, tail: float) -> float:
        """Returns how many standard errors are exceeded with probability `tail`, on one side."""
        if not self.error > 0:
            return 0.0 if self.error == 0 else math.nan
        share = self.of_runs / self.error**2
        of_runs = share * t_beyond(tail, self.runs - 1) if share > 0 else 0.0
        return of_runs + ((1 - share) * t_beyond(tail, self.examples - 1) if share < 1 else 0.0)

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """The interval of the mean, symmetric; both ends are NaN where it is undefined."""
        half = self.bound((1 - level) / 2) * self.error
        return self.mean - half, self.mean + half

    def at_least(self, error: float) -> TwoWay:
        """The same mean with no smaller error than this one; it is due to the runs if nothing says to what."""
        if not self.error < error:
            return self
        if not self.error:
            return replace(self, of_runs=error**2) if self.runs > 1 else replace(self, of_examples=error**2)
        factor = (error / self.error) ** 2
        return replace(self, of_runs=self.of_runs * factor, of_examples=self.of_examples * factor)

    def of_fewer(self, examples: float) -> TwoWay:
        """The same mean, with the error that belongs to it if only `examples` have a part in it; below two it is NaN.

        All the others make the bootstrap's correction of the variance too small, and Student's t too narrow.
        """
        if examples >= self.examples:
            return self
        if examples < 2:
            return replace(self, of_examples=math.nan, examples=int(examples))
        factor = examples / (examples - 1) * (self.examples - 1) / self.examples
        return replace(self, of_examples=self.of_examples * factor, examples=int(examples))

    def p_value(self) -> float:
        """The two-sided p of the mean being 0: 1 minus the level of the widest interval without 0 in it."""
        if not self.error > 0 or math.isnan(self.mean):
            return math.nan if math.isnan(self.error + self.mean) else float(self.mean == 0)
        away = abs(self.mean) / self.error
        if not away:
            return 1.0
        tails = [t_tail(away, self.runs - 1), t_tail(away, self.examples - 1)]
        low, high = (math.log(max(tail, 1e-90)) for tail in sorted(tails))
        above, below = (math.log(max(self.bound(math.exp(end)), 1e-300) / away) for end in (low, high))
        last = 0.0
        # false position on logarithms; an end that stays twice counts half (Illinois)
        for _ in range(100 if above > 0 > below else 0):
            middle = low + above / (above - below) * (high - low)
            here = math.log(self.bound(math.exp(middle)) / away)
            stays = 0.5 if here * last > 0 else 1.0
            if abs(here) < 1e-12 or high - low < 1e-12:
                return 2 * math.exp(middle)
            if here > 0:
                low, above, below = middle, here, below * stays
            else:
                high, above, below = middle, above * stays, here
            last = here
        return 2 * math.exp(low if above <= 0 else high)


def two_way(values: np.ndarray, drawn: np.ndarray, examples: int) -> TwoWay:
    """Returns the mean of runs with its two variances.

    Args:
        values: float [runs], the value of each over all examples.
        drawn: float [resamples, runs], their values on examples drawn with replacement, the same for all runs;
            resamples with a NaN are left out.
        examples: how many there are.
    """
    mean, runs = float(np.mean(values)), len(values)
    usable = drawn[~np.isnan(drawn).any(1)]
    if math.isnan(mean) or len(usable) < 2 or examples < 2:
        return TwoWay(mean, math.nan, math.nan, runs, examples)
    # those of the bootstrap are too small by the factor
    covariances = np.atleast_2d(np.cov(usable, rowvar=False)) * examples / (examples - 1)
    if runs == 1:
        return TwoWay(mean, 0.0, float(covariances[0, 0]), runs, examples)
    between = max(float(covariances.sum() - np.trace(covariances)) / (runs * (runs - 1)), 0.0)
    of_runs, own = float(np.var(values, ddof=1)) / runs, max(float(np.trace(covariances)) / runs - between, 0.0) / runs
    # scores are counts of few examples, so a few runs may agree by chance: then C tells how far apart they could be
    return TwoWay(mean, of_runs if of_runs > EQUAL * own else own, between, runs, examples)
