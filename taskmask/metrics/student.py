"""Student's t distribution from its definition, for the few values that intervals and tests need.

Source: Abramowitz and Stegun, "Handbook of Mathematical Functions", 26.7.1; the incomplete beta function by its
continued fraction, DLMF 8.17.22, with Lentz's method (Press et al., "Numerical Recipes", section 6.4).
"""

from __future__ import annotations

import math
from statistics import NormalDist

NORMAL_FROM = 1e6  # degrees of freedom from which t and the normal distribution agree to six digits and more


def t_tail(t: float, degrees: float) -> float:
    """Returns the probability that Student's t exceeds `t`.

    Args:
        t: any number, infinite ones too; NaN gives NaN.
        degrees: degrees of freedom, 1 or more, whole or not.
    """
    if math.isnan(t) or math.isnan(degrees):
        return math.nan
    if degrees < 1:
        raise ValueError(f"{degrees} degrees of freedom; expected 1 or more")
    if t < 0:
        return 1 - t_tail(-t, degrees)
    if degrees >= NORMAL_FROM:
        return 0.5 * math.erfc(t / math.sqrt(2))
    return 0.5 * _incomplete_beta(degrees / (degrees + t * t), degrees / 2, 0.5)


def t_beyond(tail: float, degrees: float) -> float:
    """Returns the t that is exceeded with probability `tail`, which is 1e-100 or more: the inverse of `t_tail`.

    Newton's method from the normal distribution's value; on logarithms, as a far tail is a straight line there.
    """
    if math.isnan(tail) or math.isnan(degrees):
        return math.nan
    if not 1e-100 <= tail < 1:
        raise ValueError(f"probability {tail}; expected one from 1e-100 to 1")
    if tail > 0.5:
        return -t_beyond(1 - tail, degrees)
    t = -NormalDist().inv_cdf(tail) if tail < 0.5 else 0.0
    if tail == 0.5 or degrees >= NORMAL_FROM:
        return t
    scale = math.lgamma((degrees + 1) / 2) - math.lgamma(degrees / 2) - math.log(degrees * math.pi) / 2
    for _ in range(100):
        density = math.exp(scale - (degrees + 1) / 2 * math.log1p(t * t / degrees))
        beyond = t_tail(t, degrees)
        step = math.log(beyond / tail) * beyond / (t * density)
        t *= math.exp(step)
        if abs(step) < 1e-13:
            break
    return t


def _incomplete_beta(x: float, a: float, b: float) -> float:
    """The regularised incomplete beta function, x in [0, 1]."""
    if x in (0, 1):
        return float(x)
    if x > (a + 1) / (a + b + 2):  # where the fraction converges slowly
        return 1 - _incomplete_beta(1 - x, b, a)
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
