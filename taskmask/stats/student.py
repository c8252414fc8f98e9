"""Student's t distribution from its definition, for the few values that intervals and tests need.

Source: Abramowitz and Stegun, "Handbook of Mathematical Functions", 26.7.1.
"""

from __future__ import annotations

import math
from statistics import NormalDist

from taskmask.stats.beta import incomplete_beta

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
    return 0.5 * incomplete_beta(degrees / (degrees + t * t), degrees / 2, 0.5)


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
