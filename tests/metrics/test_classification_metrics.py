"""Accuracy, F1 and Matthews' correlation are those of scikit-learn."""

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taskmask.metrics.classification import classification_metrics

NAMES = ("accuracy", "macro_f1", "micro_f1", "matthews")


@pytest.mark.filterwarnings("ignore:A single label was found")
@settings(max_examples=60, deadline=None)
@given(
    rows=st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5), st.floats(0.125, 9)), min_size=1, max_size=60),
    is_weighted=st.booleans(),
)
def test_as_scikit_learn(rows, is_weighted):
    sklearn = pytest.importorskip("sklearn.metrics")
    truth, guess, weights = (np.array(column) for column in zip(*rows, strict=True))
    weights = weights if is_weighted else None
    options = {"sample_weight": weights}
    expected = {
        "accuracy": sklearn.accuracy_score(truth, guess, **options),
        "macro_f1": sklearn.f1_score(truth, guess, average="macro", zero_division=0, **options),
        "micro_f1": sklearn.f1_score(truth, guess, average="micro", zero_division=0, **options),
        "matthews": sklearn.matthews_corrcoef(truth, guess, **options),
    }
    assert classification_metrics(truth, guess, 7, weights) == pytest.approx(expected, abs=1e-12)


def test_by_hand():
    found = classification_metrics(np.array([0, 0, 1, 2]), np.array([0, 1, 1, 1]), 5)
    assert found == pytest.approx({"accuracy": 0.5, "macro_f1": (2 / 3 + 1 / 2 + 0) / 3, "micro_f1": 0.5,
                                   "matthews": (2 * 4 - 5) / np.sqrt((16 - 6) * (16 - 10))})  # fmt: skip


def test_weights_are_repetitions():
    truth, guess, times = np.array([0, 1, 2, 1]), np.array([0, 2, 2, 1]), np.array([3, 0, 2, 1])
    repeated = classification_metrics(np.repeat(truth, times), np.repeat(guess, times), 4)
    assert classification_metrics(truth, guess, 4, times) == repeated


@pytest.mark.parametrize("truth, guess", [([1, 1], [1, 1]), ([1, 1], [0, 1]), ([0, 1], [1, 1])])
def test_without_two_classes_the_correlation_is_0(truth, guess):
    found = classification_metrics(np.array(truth), np.array(guess), 2, np.array([0.1, 0.7]))
    assert found["matthews"] == 0


def test_without_examples_and_with_wrong_ones():
    none = np.zeros(0, np.int64)
    assert all(np.isnan(value) for value in classification_metrics(none, none, 3).values())
    assert all(np.isnan(value) for value in classification_metrics(none + 0, none, 3, none).values())
    with pytest.raises(ValueError, match="class 3 is not one of 3"):
        classification_metrics(np.array([3]), np.array([0]), 3)
    with pytest.raises(ValueError, match="negative"):
        classification_metrics(np.array([-1]), np.array([0]), 3)
    with pytest.raises(ValueError, match="shape"):
        classification_metrics(np.array([1, 2]), np.array([0]), 3)


def test_is_fast_enough_to_be_resampled():
    random = np.random.default_rng(0)
    truth, guess = random.integers(150, size=(2, 10_000))
    start = time.perf_counter()
    for _ in range(100):
        classification_metrics(truth, guess, 150)
    assert time.perf_counter() - start < 1  # a tenth is usual
