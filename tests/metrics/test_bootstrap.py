"""Intervals: they cover as often as they should, are the same each time, and survive what is undefined."""

import math

import numpy as np
import pytest
from scipy import stats

from taskmask.metrics.classification import classification_metrics
from taskmask.stats.bootstrap import Measure, intervals, over_runs, resample, seed_intervals


def mean_of(values):
    return Measure(len(values), lambda index: {"mean": float(np.mean(values[index]))})


def test_covers_the_truth_as_often_as_it_says():
    random = np.random.default_rng(0)
    covered = 0
    for trial in range(200):
        low, high = intervals(mean_of(random.normal(3, 1, 60)), 200, 0.9, seed=trial)["mean"]
        covered += low < 3 < high
    assert 0.82 < covered / 200 < 0.96


def test_is_as_wide_as_theory_says():
    values = np.random.default_rng(1).normal(size=400)
    low, high = intervals(mean_of(values))["mean"]
    assert high - low == pytest.approx(2 * 1.96 * values.std() / 20, rel=0.1)
    assert low < values.mean() < high


def test_the_same_seed_gives_the_same_and_another_another():
    measure = mean_of(np.arange(50.0) ** 2)
    assert intervals(measure, 50) == intervals(measure, 50) != intervals(measure, 50, seed=1)
    assert seed_intervals([measure] * 2, 50) == seed_intervals([measure] * 2, 50)


def test_undefined_resamples_are_left_out():
    values = np.array([0.0, 0.5, 1.0])
    measure = Measure(3, lambda index: {"a": float(np.ptp(values[index])) or math.nan, "b": math.nan})
    found = intervals(measure, 50)
    assert found["a"][0] < 1 < found["a"][1] and all(map(math.isnan, found["b"]))
    over = seed_intervals([measure, measure], 50)
    assert over["a"].mean == 1 and math.isfinite(over["a"].low) and math.isnan(over["b"].low)


def test_no_example():
    empty = Measure(0, lambda index: classification_metrics(index, index, 3))
    assert all(math.isnan(end) for ends in intervals(empty).values() for end in ends)
    assert math.isnan(seed_intervals([empty, empty])["accuracy"].low)


def test_over_runs():
    random = np.random.default_rng(2)
    base = random.normal(size=300)
    runs = [mean_of(base + shift) for shift in (0.0, 0.5, 1.0, 1.5)]
    found = seed_intervals(runs, 2000)["mean"]
    assert found.runs == tuple(run.value()["mean"] for run in runs)
    assert found.mean == pytest.approx(np.mean(found.runs))
    assert found.deviation == pytest.approx(np.std(found.runs, ddof=1))
    between, common = np.var(found.runs, ddof=1) / 4, base.var(ddof=1) / 300
    bound = (between * stats.t.isf(0.025, 3) + common * stats.t.isf(0.025, 299)) / (between + common)
    assert found.high - found.low == pytest.approx(2 * bound * math.sqrt(between + common), rel=0.01)
    assert found.high + found.low == pytest.approx(2 * found.mean)


def test_many_examples_leave_the_interval_of_the_runs():
    runs = [Measure(10**6, lambda index, value=value: {"it": value}) for value in (0.1, 0.4, 0.5)]
    found = over_runs([resample(run, 2) for run in runs], "it", 0.9)
    expected = stats.t.interval(0.9, 2, np.mean(found.runs), stats.sem(found.runs))
    assert (found.low, found.high) == pytest.approx(expected)


def test_one_run_falls_back_to_examples():
    measure = mean_of(np.arange(30.0))
    found = seed_intervals([measure], 60)["mean"]
    assert (found.low, found.high) == intervals(measure, 60)["mean"]
    assert found.mean == measure.value()["mean"] and math.isnan(found.deviation)


def test_equal_runs_add_nothing():
    measure = mean_of(np.arange(200.0))
    found, alone = seed_intervals([measure] * 3, 2000)["mean"], intervals(measure, 2000)["mean"]
    assert found.deviation == 0 and found.high - found.low == pytest.approx(alone[1] - alone[0], rel=0.05)


def test_wrong_use():
    measure = mean_of(np.arange(3.0))
    for wrong in ([], [measure, mean_of(np.arange(4.0))]):
        with pytest.raises(ValueError, match="same examples"):
            seed_intervals(wrong)
    for options, what in (({"resamples": 0}, "0 resamples"), ({"level": 1}, "at level 1")):
        with pytest.raises(ValueError, match=what):
            intervals(measure, **options)
        with pytest.raises(ValueError, match=what):
            seed_intervals([measure], **options)
