"""How near numbers come: mean squared error, and correlation of values and of ranks."""

from __future__ import annotations

import math

import numpy as np

from taskmask.stats.limits import CORRELATION, LOSS

LIMITS = {"mse": LOSS, "pearson": CORRELATION, "spearman": CORRELATION}


def regression_metrics(truth: np.ndarray, guess: np.ndarray) -> dict[str, float]:
    """Metrics of one number an example, as scipy defines them.

    Args:
        truth: float [examples].
        guess: float [examples].

    Returns:
        "mse", the mean squared error; "pearson", the correlation of the numbers; "spearman", that of their ranks, equal
        numbers sharing the mean of theirs. Correlations are NaN where truth or guess does not vary, all are NaN without
        an example.

    Raises:
        ValueError: the lengths differ.
    """
    truth, guess = np.asarray(truth, np.float64), np.asarray(guess, np.float64)
    if truth.shape != guess.shape or truth.ndim != 1:
        raise ValueError(f"truth has shape {truth.shape}, guess {guess.shape}")
    if not truth.size:
        return dict.fromkeys(("mse", "pearson", "spearman"), math.nan)
    return {
        "mse": float(np.mean((truth - guess) ** 2)),
        "pearson": _correlation(truth, guess),
        "spearman": _correlation(_ranks(truth), _ranks(guess)),
    }


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    if not (np.isfinite(a).all() and np.isfinite(b).all() and np.ptp(a) and np.ptp(b)):
        return math.nan
    return float(np.clip(_direction(a) @ _direction(b), -1, 1))


def _direction(values: np.ndarray) -> np.ndarray:
    """The centred values as a vector of length 1."""
    centred = values - values.mean()
    centred /= np.abs(centred).max()  # squares of very large or small numbers would not fit
    return centred / math.sqrt(centred @ centred)


def _ranks(values: np.ndarray) -> np.ndarray:
    """Ranks from 1, the mean rank where values are equal; NaN if any value is."""
    if np.isnan(values).any():
        return np.full(values.shape, math.nan)
    _, which, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[which]
