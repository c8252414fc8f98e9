"""The beta distribution, for the few values that intervals need.

Source: DLMF 8.17.22 for the continued fraction, with Lentz's method (Press et al., "Numerical Recipes", section 6.4);
Abramowitz and Stegun, "Handbook of Mathematical Functions", 26.5.22, for where to begin.
"""

from __future__ import annotations

import math
from statistics import NormalDist

LARGE = 1e6  # parameters from which 26.5.22 is right to seven digits, and the continued fraction is slow


def incomplete_beta(x: float, a: float, b: float) -> float:
    """Returns the probability that a beta variable is below `x`, which is in [0, 1]; a and b are positive."""
    if x in (0, 1):
        return float(x)
    if x > (a + 1) / (a + b + 2):  # where the fraction converges slowly
        return 1 - incomplete_beta(1 - x, b, a)
    log_front = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    numerator, denominator, value = 1.0, 1 / (1 - (a + b) * x / (a + 1)), 1 / (1 - (a + b) * x / (a + 1))
    for n in range(1, 10_000):
        even = n * (b - n) * x / ((a + 2 * n - 1) * (a + 2 * n))
        odd = -(a + n) * (a + b + n) * x / ((a + 2 * n) * (a + 2 * n + 1))
        for term in (even, odd):
            numerator, denominator = 1 + term / numerator, 1 / (1 + term * denominator)
            value *= numerator * denominator
        if abs(numerator * denominator - 1) < 1e-15:
            break
    return math.exp(log_front) * value / a


def beta_quantile(p: float, a: float, b: float) -> float:
    """Returns the value below which a beta variable is with probability `p`: the inverse of `incomplete_beta`.

    Newton's method for the logarithm of the probability as a function of log(x / (1 - x)). That function rises and is
    concave, so that the method converges.

    Args:
        p: probability, between 0 and 1.
        a: first parameter, positive.
        b: second parameter, 1 or more.
    """
    if not (0 < p < 1 and a > 0 and b >= 1):
        raise ValueError(f"probability {p}, parameters {a} and {b}; expected 0 < p < 1, a > 0, b >= 1")
    log_beta = math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)
    # for a small `a` the power law near 0, which is below the right value
    place = (math.log(p * a) + log_beta) / a if a <= 1 else _near(p, a, b)
    if place < -690:  # no float is as small
        return 0.0
    for _ in range(100 if min(a, b) < LARGE else 0):
        x = 1 / (1 + math.exp(-place))
        below = incomplete_beta(x, a, b)
        log_density = a * math.log(x) - b * (place + math.log1p(math.exp(-place))) - log_beta
        step = math.log(below / p) * below / math.exp(log_density)
        place -= step
        if abs(step) < 1e-12:
            break
    return 1 / (1 + math.exp(-place))


def _near(p: float, a: float, b: float) -> float:
    """Returns log(x / (1 - x)) of about the quantile, for parameters of 1 or more."""
    normal = NormalDist().inv_cdf(p)
    curve, mean = (normal**2 - 3) / 6, 2 / (1 / (2 * a - 1) + 1 / (2 * b - 1))
    shape = (curve + 5 / 6 - 2 / (3 * mean)) * (1 / (2 * b - 1) - 1 / (2 * a - 1))
    return math.log(a / b) - 2 * (-normal * math.sqrt(mean + curve) / mean - shape)
