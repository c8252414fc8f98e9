"""What `variance` measured, as plain records."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

Interval = tuple[float, float, float]
"""A value, and the ends of its interval."""


@dataclass(frozen=True)
class Figures:
    """The gradient of one policy at all weights or at a group of them; variances are sums over the weights.

    The gradient is the trainer's: of the run's criterion, divided by the targets of the whole batch. A batch of n rows
    has an n-th of `masks` and of `rows`. All are means over rows, or ratios of two, with their intervals over rows.

    Attributes:
        masks: variance that masks cause, times the rows of the batch.
        rows: variance that rows cause, in the same way.
        share: `masks` as a share of both.
        mask_pass: `masks` at the cost of a forward pass (times the passes), as a multiple of the baseline's.
        whole_pass: the variance of the whole gradient, of masks and rows together, in the same way.
        independent: `masks` as a multiple of that of as many independent masks; 1 with one view.
        bias: squared distance of a row's mean gradient from that under the baseline, as a multiple of its `masks`.
    """

    masks: Interval
    rows: Interval
    share: Interval
    mask_pass: Interval
    whole_pass: Interval
    independent: Interval
    bias: Interval


@dataclass(frozen=True)
class PolicyVariance:
    """The gradient of one policy.

    Attributes:
        policy: its name.
        views: rows of the model's batch that one row becomes, so its forward passes.
        targets: targets of an update of one row, such as its masked tokens; of all losses together.
        figures: of all weights.
        by_group: {group of weights: figures of it}.
        by_row: float64 [R], `mask_pass` of each row, against the mean of the baseline.
    """

    policy: str
    views: int
    targets: float
    figures: Figures
    by_group: dict[str, Figures]
    by_row: np.ndarray


@dataclass
class Measured:
    """What was measured at one checkpoint.

    Attributes:
        about: the checkpoint, the rows and the loss.
        step: steps of the checkpoint.
        policies: the first is the baseline.
        distances: float [W], mean Hamming distances of two uniform masks, as shares of the largest.
        correlations: float [3, W], correlation of their gradients, and the ends of its interval.
        theory: float [W], the correlation of gradients which are sums over the masked tokens.
    """

    about: str
    step: int
    policies: list[PolicyVariance]
    distances: np.ndarray
    correlations: np.ndarray
    theory: np.ndarray
