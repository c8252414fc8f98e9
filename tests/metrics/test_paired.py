"""Student's t as scipy has it; differences paired by seed and example; Holm's correction by hand."""

import math

import numpy as np
import pytest
from scipy import stats

from taskmask.stats.bootstrap import Measure, Resampled, intervals, resample
from taskmask.stats.paired import holm, paired_difference
from taskmask.stats.student import t_beyond, t_tail
from taskmask.stats.two_way import TwoWay, two_way


def constant(value, size=1000):
    """A run whose examples are all alike: nothing but the seeds differs."""
    return Resampled(size, {"it": value}, {"it": np.full(50, value)})


def mean_of(values):
    return resample(Measure(len(values), lambda index: {"it": float(np.mean(values[index]))}), 500)


@pytest.mark.parametrize("degrees", [1, 2, 2.7, 4, 9, 49, 1234.5, 5e5])
def test_student_is_that_of_scipy(degrees):
    for t in (-3, -0.1, 0, 0.02, 1, 2.5, 7, 100):
        assert t_tail(t, degrees) == pytest.approx(stats.t.sf(t, degrees), rel=1e-9, abs=1e-280)
    for tail in (1e-60, 1e-9, 0.001, 0.025, 0.3, 0.5, 0.8, 0.999):
        assert t_beyond(tail, degrees) == pytest.approx(stats.t.isf(tail, degrees), rel=1e-9, abs=1e-9)


def test_student_at_its_ends():
    assert t_tail(2, 1e9) == pytest.approx(stats.norm.sf(2)) and t_beyond(0.025, 1e9) == pytest.approx(1.9599640)
    assert t_tail(math.inf, 3) == 0 and t_tail(-math.inf, 3) == 1
    assert math.isnan(t_tail(math.nan, 3)) and math.isnan(t_beyond(math.nan, 3))
    for wrong in (0, 0.5, -1):
        with pytest.raises(ValueError, match="degrees of freedom"):
            t_tail(1, wrong)
    for wrong in (0, 1, -0.1):
        with pytest.raises(ValueError, match="probability"):
            t_beyond(wrong, 3)


def test_p_is_where_the_interval_begins_to_hold_nothing():
    random = np.random.default_rng(0)
    for _ in range(50):
        between, common = random.uniform(size=2) ** 4
        found = TwoWay(random.normal() * 3, between, common, int(random.integers(2, 12)), int(random.integers(5, 999)))
        p = found.p_value()
        assert found.bound(p / 2) * found.error == pytest.approx(abs(found.mean)) and 0 < p < 1


def test_p_without_spread_or_without_sense():
    assert TwoWay(0.0, 0.0, 0.0, 3, 10).p_value() == 1 and TwoWay(1.0, 0.0, 0.0, 3, 10).p_value() == 0
    assert TwoWay(0.0, 1.0, 1.0, 3, 10).p_value() == 1
    assert TwoWay(1e9, 1.0, 1.0, 3, 10_000).p_value() < 1e-15
    for found in (TwoWay(math.nan, 1.0, 1.0, 3, 10), TwoWay(1.0, math.nan, 1.0, 3, 10)):
        assert math.isnan(found.p_value()) and all(map(math.isnan, found.interval()))
    assert math.isnan(two_way(np.array([1.0, 2.0]), np.ones((1, 2)), 10).error)  # one resample says nothing
    assert math.isnan(two_way(np.array([1.0, 2.0]), np.ones((9, 2)), 1).error)  # nor does one example


def test_what_runs_have_in_common_counts_once():
    random = np.random.default_rng(1)
    common, own = random.normal(size=(1, 400)), random.normal(size=(4, 400))
    drawn = random.multinomial(400, np.full(400, 1 / 400), size=3000) / 400
    alike = two_way(common.mean(1).repeat(4), drawn @ common.repeat(4, 0).T, 400)
    assert alike.of_runs < 1e-12 and alike.of_examples == pytest.approx(common.var(ddof=1) / 400, rel=0.1)
    apart = two_way(own.mean(1), drawn @ own.T, 400)
    assert apart.of_examples < 0.1 / 400 and apart.of_runs == pytest.approx(own.mean(1).var(ddof=1) / 4)


def test_runs_that_agree_by_chance_are_not_certain():
    random = np.random.default_rng(8)
    small = 0
    for _ in range(400):
        common = random.random(50) < 0.75
        runs = [np.where(random.random((2, 50)) < 0.1, random.random((2, 50)) < 0.75, common) for _ in range(2)]
        apart = runs[1].astype(float) - runs[0]
        drawn = random.multinomial(50, np.full(50, 1 / 50), size=300) / 50 @ apart.T
        small += two_way(apart.mean(1), drawn, 50).p_value() < 0.05
    assert small < 20  # were equal values taken for certain: 40
    equal = two_way(np.array([0.76 - 0.74, 0.82 - 0.80]), np.random.default_rng(9).normal(0.02, 0.05, (500, 2)), 50)
    assert equal.p_value() > 0.2 and equal.interval()[0] < 0 < equal.interval()[1]  # unequal in the last digit alone


def test_with_equal_examples_it_is_the_paired_t_test():
    ours, baseline = [0.71, 0.74, 0.70, 0.78], [0.70, 0.71, 0.69, 0.74]
    found = paired_difference(
        {seed: constant(value) for seed, value in enumerate(ours)},
        {seed: constant(value) for seed, value in enumerate(baseline)},
        "it",
    )
    expected = stats.ttest_rel(ours, baseline)
    assert found.p == pytest.approx(expected.pvalue)
    assert (found.low, found.high) == pytest.approx(tuple(expected.confidence_interval()))
    assert found.mean == pytest.approx(np.mean(ours) - np.mean(baseline))
    assert found.pairs == pytest.approx(np.subtract(ours, baseline))


def test_is_paired_by_seed():
    values = {seed: 0.5 + 0.1 * seed for seed in range(4)}
    ours = {seed: constant(value + 0.01 + 0.001 * seed) for seed, value in values.items()}
    baseline = {seed: constant(values[seed]) for seed in (3, 1, 0, 2)}
    assert paired_difference(ours, baseline, "it").p < 0.001
    assert paired_difference(ours, {7: baseline[0], 2: baseline[2], 1: baseline[1]}, "it").seeds == (1, 2)


def test_is_paired_by_example():
    random = np.random.default_rng(3)
    hard = random.normal(size=300)
    baseline = {seed: mean_of(hard + 0.1 * random.normal(size=300)) for seed in range(3)}
    ours = {seed: mean_of(0.1 + hard + 0.1 * random.normal(size=300)) for seed in range(3)}
    found = paired_difference(ours, baseline, "it")
    assert found.p < 0.01 and found.low > 0.05 and found.high < 0.15  # one mean alone is known to 0.06
    mirrored = paired_difference(baseline, ours, "it")
    assert (mirrored.low, mirrored.high, mirrored.p) == pytest.approx((-found.high, -found.low, found.p))


def test_one_pair_none_and_nan():
    values = np.arange(50.0)
    one = paired_difference({1: mean_of(values)}, {1: mean_of(values[::-1].copy()), 2: mean_of(values)}, "it")
    assert one.seeds == (1,) and one.mean == 0 and one.low < 0 < one.high and math.isnan(one.p)
    shift = Measure(50, lambda index: {"it": float(np.mean(values[index] - values[::-1][index]))})
    assert (one.low, one.high) == pytest.approx(intervals(shift, 500)["it"])
    none = paired_difference({1: constant(1.0)}, {2: constant(1.0)}, "it")
    assert math.isnan(none.mean) and math.isnan(none.p) and not none.seeds
    broken = paired_difference({1: constant(math.nan), 2: constant(1.0)}, {1: constant(1.0), 2: constant(1.0)}, "it")
    assert math.isnan(broken.mean) and math.isnan(broken.p) and math.isnan(broken.low)
    with pytest.raises(ValueError, match="same examples"):
        paired_difference({1: constant(1.0)}, {1: constant(1.0, 7)}, "it")


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5]) == [0.5] and holm([]) == []
    assert holm([0.9, 0.8]) == [1, 1]
    found = holm([0.02, math.nan, 0.03])
    assert found[::2] == pytest.approx([0.04, 0.04]) and math.isnan(found[1])


def test_holm_keeps_the_order_and_lies_between_none_and_bonferroni():
    random = np.random.default_rng(4)
    for size in (2, 5, 20):
        p = random.uniform(size=size) ** 3
        adjusted = np.array(holm(p.tolist()))
        assert (np.diff(adjusted[np.argsort(p)]) >= 0).all()
        assert (adjusted >= p).all() and (adjusted <= np.minimum(1, size * p) + 1e-15).all()
        # the definition: reject the smallest while each is below 0.05 / (how many are left)
        steps = np.sort(p) <= 0.05 / (size - np.arange(size))
        assert (adjusted <= 0.05).sum() == (size if steps.all() else np.argmin(steps))


def test_holm_bounds_the_chance_of_one_false_finding():
    random = np.random.default_rng(5)
    false = [min(holm(random.uniform(size=6).tolist())) < 0.05 for _ in range(2000)]
    assert 0.035 < np.mean(false) < 0.065
