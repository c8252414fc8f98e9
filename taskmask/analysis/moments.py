"""Unbiased moments of gradients, from the inner products of independent draws.

The gradient g of a row's mean loss depends on the draw of its masks. Two independent draws of one row have the inner
product |E g|^2 on average, a draw with itself E |g|^2; their difference is the variance that masks cause, summed over
all weights, with no mean to be estimated first.

Shapes: D draws of a row, K views of a draw (masks of one update), R rows.

**Source:** Zheng et al. 2020 (arXiv 2010.06040) for masks that share an update; derived anew, as
E |mean of K views - E g|^2 = s^2 / K + (1 - 1 / K) c, with s^2 the variance of a view and c the covariance of two
views of one draw. Masks drawn independently have c = 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from taskmask.metrics.student import t_beyond


@dataclass(frozen=True)
class Moments:
    """Of the gradient of one row, or the mean over rows.

    Attributes:
        update: variance of an update's gradient, which is the mean of its views, over draws.
        view: variance of the gradient of one view, whichever.
        square: squared length of the mean gradient.
    """

    update: float
    view: float
    square: float


def moments(products: np.ndarray, counts: np.ndarray) -> Moments:
    """Returns the moments of a row.

    Args:
        products: float [D, K, D, K], inner products of the views' gradients, each of the mean over its targets.
        counts: float [D, K], targets of each view; a view without any has a gradient of 0.

    Raises:
        ValueError: fewer than two draws.
    """
    draws = len(counts)
    if draws < 2:
        raise ValueError(f"{draws} draws; expected two or more")
    weights = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    of_draws = np.einsum("dk,dkel,el->de", weights, products, weights)
    apart = ~np.eye(draws, dtype=bool)
    square = float(of_draws[apart].mean())
    across = float(products.transpose(0, 2, 1, 3)[apart].mean())  # any two views of different draws
    own = np.einsum("dkdk->dk", products)
    return Moments(float(of_draws[~apart].mean()) - square, float(own.mean()) - across, square)


def pair_covariances(products: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the covariance of the gradients of each two views of a draw, on average over draws.

    Args:
        products: as in `moments`; every view is, by itself, drawn alike.

    Returns:
        int [P, 2], the pairs of views, each with itself first; float [P], their covariances.
    """
    draws, views = products.shape[:2]
    apart = ~np.eye(draws, dtype=bool)
    square = products.transpose(0, 2, 1, 3)[apart].mean()
    within = products.transpose(0, 2, 1, 3)[~apart].mean(axis=0)
    first, second = np.triu_indices(views)
    order = np.argsort(first != second, kind="stable")
    pairs = np.stack([first, second], axis=1)[order]
    return pairs, within[pairs[:, 0], pairs[:, 1]] - square


def interval(
    numerators: np.ndarray, denominators: np.ndarray | None = None, resamples: int = 1000, level: float = 0.95
) -> tuple[float, float, float]:
    """Returns a mean over rows, or the ratio of two, and the ends of its interval by the bootstrap over rows.

    Both ends are moved away from the value, as far as Student's t and the bias of a variance over R rows ask for:
    percentiles alone are too narrow where rows are few.

    Args:
        numerators: float [R].
        denominators: float [R], of the same rows; None: ones.
        resamples: how often rows are drawn anew.
        level: how often the interval is to hold the true value.

    **Source:** Efron 1979 (bootstrap); Hesterberg 2015 (arXiv 1411.5279), "expanded percentile" intervals.
    Differs from the paper: the ends are moved, instead of the quantiles, which with few rows are those of the extremes.
    """
    denominators = np.ones(len(numerators)) if denominators is None else denominators
    random = np.random.Generator(np.random.PCG64(0))
    index = random.integers(len(numerators), size=(resamples, len(numerators)))
    with np.errstate(divide="ignore", invalid="ignore"):
        value = float(np.mean(numerators) / np.mean(denominators))
        found = numerators[index].mean(axis=1) / denominators[index].mean(axis=1)
    found = found[np.isfinite(found)]
    if not found.size or len(numerators) < 2:
        return value, float("nan"), float("nan")
    low, high = np.quantile(found, [(1 - level) / 2, (1 + level) / 2]).tolist()
    rows, tail = len(numerators), (1 - level) / 2
    wider = t_beyond(tail, rows - 1) / NormalDist().inv_cdf(1 - tail) * (rows / (rows - 1)) ** 0.5
    return value, value - wider * (value - low), value + wider * (high - value)


def variance_of_rows(away: np.ndarray, squares: np.ndarray, observed: np.ndarray) -> np.ndarray:
    """Returns float [R], what each row adds to the variance of the mean gradients of rows, that of their masks apart.

    Their mean is without bias. That of resampled rows is nearly so: to first order it does not depend on the point that
    the distances are taken from.

    Args:
        away: float [R], squared distance of the mean over a row's draws from the mean of these over rows.
        squares: float [R], squared length of each row's mean gradient, without bias.
        observed: float [R], squared length of the mean over its draws.
    """
    rows = len(away)
    if rows < 2:
        return np.full(rows, np.nan)
    return away * rows / (rows - 1) - (observed - squares)
