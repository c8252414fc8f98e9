"""How well classes are told: accuracy, F1 and Matthews' correlation, from counts alone."""

from __future__ import annotations

import math

import numpy as np

from taskmask.stats.limits import SHARE, Limits


def classification_metrics(
    truth: np.ndarray, guess: np.ndarray, num_classes: int, weights: np.ndarray | None = None
) -> dict[str, float]:
    """Metrics of one class an example, as scikit-learn defines them.

    Args:
        truth: int [examples], from 0.
        guess: int [examples].
        num_classes: classes there are.
        weights: weight of each example, not negative; an example of weight 0 does not occur.

    Returns:
        "accuracy"; "macro_f1", the mean F1 of the classes that occur in truth or guess (0 for one never told right);
        "micro_f1", the F1 of the counts of all classes together, which for one class an example is the accuracy;
        "matthews", the correlation of truth and guess over all classes (0 where either has one class only). All are
        NaN without an example.

    Raises:
        ValueError: the lengths differ, or a class is not one of `num_classes`.
    """
    truth, guess = np.asarray(truth), np.asarray(guess)
    if truth.shape != guess.shape or truth.ndim != 1:
        raise ValueError(f"truth has shape {truth.shape}, guess {guess.shape}")
    of_truth = _count(truth, num_classes, weights)
    of_guess = _count(guess, num_classes, weights)
    is_right = truth == guess
    right = _count(truth[is_right], num_classes, None if weights is None else np.asarray(weights)[is_right])
    total, all_right = float(of_truth.sum()), float(right.sum())
    if not total:
        return dict.fromkeys(("accuracy", "macro_f1", "micro_f1", "matthews"), math.nan)
    both = of_truth + of_guess
    occurs = both > 0
    covariance = all_right * total - of_truth @ of_guess
    varies = np.count_nonzero(of_truth) > 1 and np.count_nonzero(of_guess) > 1
    variances = (total**2 - of_truth @ of_truth) * (total**2 - of_guess @ of_guess)
    return {
        "accuracy": all_right / total,
        "macro_f1": float(np.mean(2 * right[occurs] / both[occurs])),
        "micro_f1": 2 * all_right / float(both.sum()),
        "matthews": float(covariance / math.sqrt(variances)) if varies else 0.0,
    }


def classification_limits(of_class: np.ndarray) -> dict[str, Limits]:
    """Between which values the metrics of `classification_metrics` lie.

    Macro F1 and Matthews' correlation rest on the rarest class as much as on any other: on its examples, times the
    number of classes.

    Args:
        of_class: int [classes], examples that are of each class in truth.
    """
    occurs = of_class[of_class > 0]
    rarest = float(occurs.min() * len(occurs)) if occurs.size else 0.0
    return {
        "accuracy": SHARE,
        "macro_f1": Limits(0, 1, rarest),
        "micro_f1": SHARE,
        "matthews": Limits(-1, 1, rarest),
    }


def _count(classes: np.ndarray, num_classes: int, weights: np.ndarray | None) -> np.ndarray:
    """The weight of each class, float64 [num_classes]: sums of whole numbers stay exact in it."""
    counts = np.bincount(classes, weights, num_classes) if classes.size else np.zeros(num_classes)
    if len(counts) > num_classes:
        raise ValueError(f"class {len(counts) - 1} is not one of {num_classes}")
    return counts.astype(np.float64)
