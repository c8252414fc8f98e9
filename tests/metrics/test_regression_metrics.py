"""Correlations are those of scipy."""

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taskmask.metrics.regression import regression_metrics

numbers = st.one_of(st.integers(-3, 3).map(float), st.floats(-1e6, 1e6, width=32))


@settings(max_examples=80, deadline=None)
@given(st.lists(st.tuples(numbers, numbers), min_size=2, max_size=40))
def test_as_scipy(pairs):
    stats = pytest.importorskip("scipy.stats")
    truth, guess = np.array(pairs).T
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of constant input
        expected = {
            "mse": np.square(truth - guess).mean(),
            "pearson": stats.pearsonr(truth, guess).statistic,
            "spearman": stats.spearmanr(truth, guess).statistic,
        }
    assert regression_metrics(truth, guess) == pytest.approx(expected, rel=1e-6, abs=1e-6, nan_ok=True)


def test_by_hand_with_ties():
    found = regression_metrics(np.array([1, 2, 2, 3]), np.array([10, 30, 20, 1000]))
    assert found["spearman"] == pytest.approx(4.5 / np.sqrt(4.5 * 5))
    assert found["mse"] == pytest.approx((81 + 28**2 + 18**2 + 997**2) / 4)


@pytest.mark.parametrize("truth, guess", [([1], [2]), ([1, 1, 1], [1, 2, 3]), ([1, 2, 3], [4, 4, 4]),
                                          ([1, np.nan, 3], [1, 2, 3])])  # fmt: skip
def test_undefined_correlations_are_nan(truth, guess):
    found = regression_metrics(np.array(truth), np.array(guess))
    assert np.isnan(found["pearson"]) and np.isnan(found["spearman"])


def test_extremes():
    values = np.array([1.0, 2, 4])
    for scale in (1e-300, 1e300):
        with np.errstate(over="ignore"):  # of the squared error
            found = regression_metrics(values * scale, values)
        assert found["pearson"] == pytest.approx(1) and found["spearman"] == pytest.approx(1)
    assert np.isnan(regression_metrics(np.array([0, 1, np.inf]), values)["pearson"])
    assert regression_metrics(np.array([0, 1, np.inf]), values)["spearman"] == pytest.approx(1)
    assert all(np.isnan(value) for value in regression_metrics(np.zeros(0), np.zeros(0)).values())
    with pytest.raises(ValueError, match="shape"):
        regression_metrics(values, values[:2])
