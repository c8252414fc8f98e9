"""Moments of the gradient that the trainer takes, from sums of gradients and counts of targets of single rows.

The trainer divides the summed gradients of all rows of a batch by the count of all targets, for each loss of the
criterion, and adds the losses with their weights. With S the sum and c the count of a row, w the weight of a loss, g
the mean gradient of a target over all rows, and E c the mean count of a row, a batch of n rows has the gradient

    sum S / sum c  =  g + 1/n sum (S - c g) / E c    to first order in 1/n, for each loss, times w.

So a row adds Z = sum over the losses of w (S - c g) / E c; the variance of the batch's gradient is that of Z over n. A
row without targets adds 0. Masks cause the variance of Z between the draws of one row, rows that of its mean.

Shapes: R rows, D draws of the masks of a row, N views of a draw (its passes), L losses, G groups of weights, F forms,
n numbers of a sketch.

**Source:** the variance of a ratio of means, Cochran 1977 ("Sampling Techniques"), sections 2.11 and 6.4; for several
masks of one row Zheng et al. 2020 (arXiv 2010.06040).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from taskmask.stats.student import t_beyond

UPDATE, APART = 0, -1
"""Forms of `forms_of`: the variance of an update, and that of as many masks that are drawn independently."""


def forms_of(views: int) -> np.ndarray:
    """Returns float64 [F, N, N]: the sum over all pairs of views, and that over each with itself, if they differ."""
    return np.stack([np.ones((views, views)), np.eye(views)][: min(views, 2)])


def distance_forms(masks: int, views: int) -> np.ndarray:
    """Returns float64 [masks, N, N]: for each distance between two masks the mean over all pairs that far apart.

    Args:
        masks: views that are masked; they come first.
        views: all views, N. The others, such as the text as it is, are in no pair.
    """
    far = abs(np.arange(masks)[:, None] - np.arange(masks))
    each = (far == np.arange(masks)[:, None, None]).astype(np.float64)
    rest = views - masks
    return np.pad(each / each.sum(axis=(1, 2), keepdims=True), ((0, 0), (0, rest), (0, rest)))


@dataclass
class Sums:
    """Moments of the summed gradients S and the counts c of one policy, over the draws of each row.

    Covariances are unbiased; a form adds those of pairs of views up, with its weights.

    Attributes:
        policy: its name.
        views: views of a draw.
        draws: draws of the masks of each row.
        weights: float64 [L], those of the losses.
        forms: float64 [F, N, N], symmetric.
        covariances: float64 [G, R, F, L, L], of S with S.
        count_covariances: float64 [R, F, L, L], of c with c.
        cross: of each group float32 [R, F, L, L, n], of c with S, as sketches.
        means: of each group float32 [R, L, n], means of S of an update, as sketches.
        counts: float64 [R, L], means of c of an update.
    """

    policy: str
    views: int
    draws: int
    weights: np.ndarray
    forms: np.ndarray
    covariances: np.ndarray
    count_covariances: np.ndarray
    cross: list[np.ndarray]
    means: list[np.ndarray]
    counts: np.ndarray

    @classmethod
    def of(
        cls,
        policy: str,
        views: int,
        draws: int,
        weights: np.ndarray,
        forms: np.ndarray,
        rows: int,
        short: Sequence[int],
    ) -> Sums:
        """Makes room for the moments of rows; `short` are the lengths of the sketches of the groups."""
        pairs = (rows, len(forms), len(weights), len(weights))
        return cls(
            policy,
            views,
            draws,
            weights,
            forms,
            np.zeros((len(short), *pairs)),
            np.zeros(pairs),
            [np.zeros((*pairs, n), np.float32) for n in short],
            [np.zeros((rows, len(weights), n), np.float32) for n in short],
            np.zeros((rows, len(weights))),
        )

    def add(
        self,
        row: int,
        products: np.ndarray,
        counts: np.ndarray,
        sketched: Callable[[np.ndarray], Sequence[np.ndarray] | None],
    ) -> None:
        """Fills in a row.

        Args:
            row: its place.
            products: float [G, D, N, L, D, N, L], inner products of the summed gradients.
            counts: float [D, N, L], their targets.
            sketched: returns a sum of the gradients with weights, float [D, N, L], as a sketch for each group; None
                if all weights are 0.
        """
        draws = len(counts)
        of_draws = (np.eye(draws) - 1 / draws) / (draws - 1)
        pairs = np.einsum("de,fvw->fdvew", of_draws, self.forms)
        self.covariances[:, row] = np.einsum("fdvew,gdvkewl->gfkl", pairs, products)
        away = np.einsum("fvw,dvk->fkdw", self.forms, (counts - counts.mean(axis=0)) / (draws - 1))
        self.count_covariances[row] = np.einsum("fkdw,dwl->fkl", away, counts)
        self.counts[row] = counts.sum(axis=1).mean(axis=0)
        for loss in range(len(self.weights)):
            only = np.zeros(counts.shape)
            only[..., loss] = 1 / draws
            _put(self.means, (row, loss), sketched(only))
            for form, other in np.ndindex(away.shape[:2]):
                only[..., loss] = away[form, other]
                _put(self.cross, (row, form, other, loss), sketched(only))


def _put(groups: Sequence[np.ndarray], at: tuple[int, ...], sketches: Sequence[np.ndarray] | None) -> None:
    for group, sketch in zip(groups, sketches or (), strict=sketches is not None):
        group[at] = sketch


@dataclass
class Added:
    """What each row adds to the gradient of a batch: Z of the module's page, of one policy.

    Attributes:
        policy: its name.
        views: views of a draw.
        draws: draws of the masks of each row.
        targets: targets of an update of one row, of all losses together.
        variances: float64 [G, F, R], variances that masks cause.
        lengths: float64 [G, R], squared lengths of the means over draws, with the noise of the masks.
        means: of each group float64 [R, n], these means, and the gradient of all rows added, as sketches.
    """

    policy: str
    views: int
    draws: int
    targets: float
    variances: np.ndarray
    lengths: np.ndarray
    means: list[np.ndarray]

    @classmethod
    def of(cls, sums: Sums) -> Added:
        """Takes c g off the sums of each row, and divides by the mean count.

        In products, g comes from the other rows, and |g|^2 from pairs of rows, so that no noise of g is squared.
        """
        counts, total = sums.counts, sums.counts.sum(axis=0)
        mean = total / len(counts)
        scale = sums.weights / np.where(mean > 0, mean, 1.0)
        variances, lengths, means = [], [], []
        for covariances, cross, of_rows in zip(sums.covariances, sums.cross, sums.means, strict=True):
            rows = of_rows.astype(np.float64)
            whole = rows.sum(axis=0)
            g, others = _divided(whole, total[:, None]), _divided(whole - rows, (total - counts)[..., None])
            squares = np.einsum("kn,ln->kl", whole, whole) - np.einsum("rkn,rln->kl", rows, rows)
            squares = _divided(squares, np.outer(total, total) - counts.T @ counts)
            with_g = np.einsum("rkn,rfkln->rfkl", others, cross, optimize=True)
            own_with_g = np.einsum("rk,rkn,rln->rkl", counts, others, rows, optimize=True)
            of_masks = covariances - with_g - with_g.swapaxes(-1, -2) + squares * sums.count_covariances
            of_means = np.einsum("rkn,rln->rkl", rows, rows) - own_with_g - own_with_g.swapaxes(-1, -2)
            of_means += squares * counts[:, :, None] * counts[:, None]
            variances.append(np.einsum("k,l,rfkl->fr", scale, scale, of_masks))
            lengths.append(np.einsum("k,l,rkl->r", scale, scale, of_means))
            means.append(np.einsum("k,rkn->rn", scale, rows - counts[..., None] * g) + sums.weights @ g)
        targets = float(mean.sum())
        return cls(sums.policy, sums.views, sums.draws, targets, np.stack(variances), np.stack(lengths), means)

    def masks(self, groups: slice = slice(None), form: int = UPDATE) -> np.ndarray:
        """Returns float64 [R], the variance that masks cause in each row, over some groups of weights."""
        return self.variances[groups, form].sum(axis=0)

    def rows(self, groups: slice = slice(None)) -> np.ndarray:
        """Returns float64 [R], the part of each row in the variance that rows cause, without that of masks."""
        return self.lengths[groups].sum(axis=0) - self.masks(groups) / self.draws

    def distance(self, other: Added, groups: slice = slice(None)) -> np.ndarray:
        """Returns float64 [R], the squared distance of each row's mean from that under another policy."""
        found = -self.masks(groups) / self.draws - other.masks(groups) / other.draws
        for own, its in zip(self.means[groups], other.means[groups], strict=True):
            found += np.sum((own - its) ** 2, axis=1)
        return found


def _divided(values: np.ndarray, by: np.ndarray) -> np.ndarray:
    """Returns the quotients; 0 where there is nothing to divide by."""
    return np.divide(values, by, out=np.zeros(np.broadcast_shapes(values.shape, by.shape)), where=by > 0)


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
