"""Intervals within limits: exact values, laws that hold for every metric, and how often they hold the truth."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from taskmask.metrics.classification import classification_limits, classification_metrics
from taskmask.metrics.entities import entity_limits, f1_of
from taskmask.metrics.regression import LIMITS, regression_metrics
from taskmask.stats.beta import beta_quantile, incomplete_beta
from taskmask.stats.bootstrap import Measure, Resampled, intervals, over_runs, resample, seed_intervals
from taskmask.stats.limits import CORRELATION, LOSS, SHARE, UNLIMITED, Limits, interval_within
from taskmask.stats.paired import paired_difference
from taskmask.stats.two_way import TwoWay, two_way


def share(values, limits=SHARE):
    """The mean of scores of examples, as a metric with limits."""
    scores = np.asarray(values, float)
    return Measure(len(scores), lambda index: {"it": float(scores[index].mean())}, {"it": limits})


def exact(scores):
    """Runs as `resample` would give them with endless resamples: draws with the exact means and covariances.

    Args:
        scores: float [runs, examples].
    """
    runs, examples = scores.shape
    covariances = np.atleast_2d(np.cov(scores, bias=True)) / examples
    values, axes = np.linalg.eigh(covariances)
    half = axes * np.sqrt(np.maximum(values, 0) * (2 * runs - 1) / 2)  # two draws along each axis
    drawn = scores.mean(1) + np.concatenate([half.T, -half.T])
    return {n: Resampled(examples, {"it": scores[n].mean()}, {"it": drawn[:, n]}, {"it": SHARE}) for n in range(runs)}


@pytest.mark.parametrize("a", [0.03, 0.4, 1, 1.7, 12.5, 800, 3e4])
@pytest.mark.parametrize("b", [1, 1.2, 7, 333.3, 2e5])
def test_the_beta_distribution_is_that_of_scipy(a, b):
    for p in (0.001, 0.025, 0.5, 0.975):
        assert beta_quantile(p, a, b) == pytest.approx(stats.beta.ppf(p, a, b), rel=1e-7, abs=1e-250)
    for x in (0.0, 1e-5, 0.3, 0.97, 1.0):
        assert incomplete_beta(x, a, b) == pytest.approx(stats.beta.cdf(x, a, b), rel=1e-8, abs=1e-250)


def test_the_beta_distribution_at_its_ends():
    assert beta_quantile(0.025, 2e6, 5e7) == pytest.approx(stats.beta.ppf(0.025, 2e6, 5e7), rel=1e-9)
    assert beta_quantile(0.025, 1e-4, 3) == 0
    for wrong in ((0, 1, 1), (0.5, 0, 1), (0.5, 1, 0.5)):
        with pytest.raises(ValueError, match="expected 0 < p < 1"):
            beta_quantile(*wrong)


@pytest.mark.parametrize("size", [1, 2, 20, 200])
def test_none_and_all_of_n_are_the_rule_of_three(size):
    """The exact interval of 0 of n is 0 to 1 - 0.025 ** (1 / n): Clopper and Pearson 1934."""
    beyond = 1 - 0.025 ** (1 / size)
    assert intervals(share(np.zeros(size)), 20)["it"] == pytest.approx((0, beyond))
    assert intervals(share(np.ones(size)), 20)["it"] == pytest.approx((1 - beyond, 1))
    over = seed_intervals([share(np.ones(size))] * 3, 20)["it"]
    assert (over.low, over.high) == pytest.approx((1 - beyond, 1))


@pytest.mark.parametrize("right, size", [(1, 20), (16, 20), (47, 50), (198, 200), (436, 872)])
def test_of_right_or_wrong_examples_it_is_that_of_clopper_and_pearson(right, size):
    (run,) = exact((np.arange(size) < right).astype(float)[None]).values()
    found = over_runs([run], "it")
    expected = stats.binomtest(right, size).proportion_ci(0.95, "exact")
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))


def test_the_bootstrap_comes_near_to_it():
    low, high = intervals(share(np.arange(200) < 198))["it"]
    assert (low, high) == pytest.approx(stats.binomtest(198, 200).proportion_ci(0.95, "exact"), abs=0.003)


@pytest.mark.parametrize("size", [200, 1000])
def test_far_from_the_limits_it_is_as_wide_as_the_normal_one(size):
    random = np.random.default_rng(size)
    for scores in (np.arange(size) % 2, random.beta(2, 3, size), 0.3 + 0.05 * random.normal(size=size)):
        low, high = intervals(share(scores))["it"]
        assert high - low == pytest.approx(2 * 1.96 * np.std(scores) / math.sqrt(size), rel=0.07)
    found = seed_intervals([share(random.random(size) < 0.7) for _ in range(5)])["it"]
    runs = [resample(share(random.random(size) < 0.7)) for _ in range(5)]
    found = over_runs(runs, "it")
    plain = two_way(np.array(found.runs), np.stack([run.drawn["it"] for run in runs], 1), size).interval()
    assert found.high - found.low == pytest.approx(plain[1] - plain[0], rel=0.05)


def test_two_seeds_stay_inside_the_limits():
    found = seed_intervals([share(np.arange(50) < right) for right in (26, 30)])["it"]
    assert 0 < found.low < 0.4 and 0.75 < found.high < 1


@pytest.mark.parametrize("score", [0.01, 0.5, 0.9])
def test_alike_examples_are_not_certain(score):
    low, high = intervals(share(np.full(40, score)), 20)["it"]
    assert 0 < low < score - 1e-3 and score + 1e-3 < high < 1


def test_one_example():
    expected = stats.beta.ppf([0.025, 0.975], [0.5, 1.5], [1.5, 0.5])
    assert intervals(share([0.5]), 20)["it"] == pytest.approx(tuple(expected))
    assert all(map(math.isnan, intervals(share([2.0], LOSS), 20)["it"]))


def test_a_loss_has_a_lower_limit_alone():
    losses = np.random.default_rng(0).exponential(0.2, 60)
    low, high = intervals(share(losses, LOSS))["it"]
    error = losses.std(ddof=1) / math.sqrt(60) * stats.t.isf(0.025, 59)
    assert (low, high) == pytest.approx((losses.mean() - error, losses.mean() + error), rel=0.1) and low > 0
    two = seed_intervals([share(losses * by + 1, Limits(low=1.0)) for by in (0.5, 2.0)])["it"]
    assert 1 < two.low < 1.1 and two.high > 2
    assert intervals(share(np.zeros(9), LOSS), 20)["it"] == (0, math.inf)  # others may be as large as they like
    alike = intervals(share(np.full(100, 2.0), LOSS), 20)["it"]
    assert alike == pytest.approx((2 / 1.02, 2 * 1.02), rel=1e-3)


def mean_of_some(losses, examples=40):
    """The mean loss of targets that few of the examples have, one each."""
    table = np.zeros((2, examples))
    table[:, : len(losses)] = losses, np.ones(len(losses))

    def metrics(index):
        total, count = table[:, index].sum(1)
        return {"it": total / count if count else math.nan}

    return Measure(examples, metrics, {"it": Limits(0, examples=len(losses))})


@pytest.mark.parametrize("runs", [1, 2])
def test_a_loss_rests_on_the_examples_that_have_targets(runs):
    """Of one the error is unknown, of three Student's t has two degrees of freedom, however many others there are."""
    one = seed_intervals([mean_of_some([8.3])] * runs)["it"]
    assert math.isnan(one.low) and math.isnan(one.high)
    losses = np.array([1.0, 2.0, 4.0])
    found, error = seed_intervals([mean_of_some(losses)] * runs)["it"], losses.std(ddof=1) / math.sqrt(3)
    assert found.high >= losses.mean() * math.exp(stats.t.isf(0.025, 2) * error / losses.mean())
    assert found.low == pytest.approx(losses.mean() ** 2 / found.high)


def test_a_difference_of_losses_rests_on_the_examples_that_have_targets():
    ours, others = ({0: resample(mean_of_some(losses))} for losses in ([1.0, 2.0, 4.0], [1.5, 2.2, 5.5]))
    found, pairs = paired_difference(ours, others, "it"), np.array([0.5, 0.2, 1.5])
    assert found.high - found.mean >= stats.t.isf(0.025, 2) * pairs.std(ddof=1) / math.sqrt(3)
    one = paired_difference({0: resample(mean_of_some([8.3]))}, {0: resample(mean_of_some([7.9]))}, "it")
    assert math.isnan(one.low) and math.isnan(one.high)


def test_no_limits_and_no_spread_are_undefined():
    assert all(map(math.isnan, intervals(share(np.ones(9), UNLIMITED), 20)["it"]))


def test_a_loss_below_zero_has_no_limit():
    """A criterion of the user's own may have such losses, for example minus the logarithm of a density."""
    losses = np.random.default_rng(0).normal(-2.0, 1.0, 60)
    error = losses.std(ddof=1) / math.sqrt(60) * stats.t.isf(0.025, 59)
    expected = (losses.mean() - error, losses.mean() + error)
    assert intervals(share(losses, LOSS))["it"] == pytest.approx(expected, rel=0.05)
    assert all(map(math.isnan, intervals(share(losses, Limits(0, examples=1)))["it"]))


def test_a_metric_outside_of_its_limits():
    with pytest.raises(ValueError, match=r"a metric is 1\.5; expected one from 0\.0 to 1\.0"):
        interval_within(TwoWay(1.5, 0.0, 0.1, 1, 10), SHARE)
    low, high = interval_within(TwoWay(1 + 1e-12, 0.0, 0.0, 1, 10), SHARE)
    assert low == pytest.approx(0.025**0.1) and high == pytest.approx(1)


def test_metrics_of_rare_classes_rest_on_their_examples():
    truth = np.repeat([0, 1], [97, 3])
    limits = classification_limits(np.bincount(truth))
    measure = Measure(100, lambda index: classification_metrics(truth[index], truth[index], 2), limits)
    found = intervals(measure)  # some resamples have one class alone, so that this correlation is 0
    assert found["accuracy"][0] == pytest.approx(0.025**0.01)
    assert found["macro_f1"] == pytest.approx((0.025 ** (1 / 6), 1))  # three examples of each of two classes
    assert found["matthews"] == pytest.approx((2 * 0.025 ** (1 / 6) - 1, 1))
    counts = np.zeros((100, 3), int)
    counts[:4] = 1
    entities = Measure(100, lambda index: f1_of(counts[index]), entity_limits(counts))
    assert [low for low, _ in intervals(entities, 50).values()] == pytest.approx([0.025**0.25] * 3)


def test_correlations():
    random = np.random.default_rng(1)
    truth = random.normal(size=100)
    guess = 0.95 * truth + math.sqrt(1 - 0.95**2) * random.normal(size=100)
    measure = Measure(100, lambda index: regression_metrics(truth[index], guess[index]), LIMITS)
    found = intervals(measure)
    fisher = stats.pearsonr(truth, guess).confidence_interval(0.95)
    assert found["pearson"] == pytest.approx((fisher.low, fisher.high), abs=0.012)
    perfect = Measure(100, lambda index: regression_metrics(truth[index], truth[index]), LIMITS)
    ends = intervals(perfect, 50)
    assert ends["spearman"] == pytest.approx((2 * 0.025**0.01 - 1, 1)) and ends["mse"] == (0, math.inf)


SCORES = st.lists(st.sampled_from([0.0, 0.0, 0.2, 0.8, 1.0, 1.0]), min_size=1, max_size=40)


@settings(max_examples=60, deadline=None)
@given(SCORES, st.integers(1, 3), st.sampled_from([SHARE, CORRELATION, Limits(0, 1, 3), Limits(-2, 5)]))
def test_in_the_limits_around_the_mean_and_not_of_zero_width(scores, runs, limits):
    random = np.random.default_rng(len(scores))
    measures = [share(random.permutation(scores) if run else scores, limits) for run in range(runs)]
    found = seed_intervals(measures, 30)["it"]
    assert limits.low <= found.low <= found.mean <= found.high <= limits.high and found.high - found.low > 1e-3


@settings(max_examples=40, deadline=None)
@given(SCORES.filter(lambda scores: len(scores) > 1), st.integers(2, 6))
def test_more_of_the_same_examples_are_surer(scores, times):
    few, many = (over_runs(list(exact(np.tile(np.array(scores), (1, n))).values()), "it") for n in (1, times))
    assert many.high - many.low < few.high - few.low


@settings(max_examples=40, deadline=None)
@given(SCORES.filter(lambda scores: len(scores) > 1), st.integers(1, 3), st.integers(0, 9))
def test_differences_are_in_their_limits_and_not_of_zero_width(scores, runs, seed):
    random = np.random.default_rng(seed)
    ours, baseline = ({run: resample(share(random.permutation(scores)), 30) for run in range(runs)} for _ in range(2))
    found = paired_difference(ours, baseline, "it")
    assert -1 <= found.low <= found.mean <= found.high <= 1 and found.high - found.low > 1e-4
    mirrored = paired_difference(baseline, ours, "it")
    assert (mirrored.low, mirrored.high) == pytest.approx((-found.high, -found.low))


@pytest.mark.parametrize("seeds", [1, 2, 3, 5, 10])
def test_two_that_are_right_on_all_examples_are_not_known_to_be_equal(seeds):
    runs = {seed: resample(share(np.ones(200)), 30) for seed in range(seeds)}
    found = paired_difference(runs, runs, "it")
    assert found.mean == 0 and found.low == -found.high and 0.007 < found.high < 0.2
    assert math.isnan(found.p) if seeds == 1 else found.p == 1


def test_a_difference_of_few_examples_is_not_shown():
    """The exact test of McNemar gives p = 0.25 for three examples of 200 that one side tells alone."""
    for extra, is_shown in ((3, False), (30, True)):
        ours = {seed: resample(share(np.arange(200) < 160 + extra)) for seed in range(3)}
        baseline = {seed: resample(share(np.arange(200) < 160)) for seed in range(3)}
        found = paired_difference(ours, baseline, "it")
        assert (found.p < 0.05) == (found.low > 0) == is_shown


def test_losses_that_are_alike_have_no_certain_difference():
    runs = {seed: resample(share(np.full(100, 2.0), LOSS), 30) for seed in range(3)}
    found = paired_difference(runs, runs, "it")
    assert found.low < -0.01 and found.high > 0.01 and found.p == 1
    plain = {seed: replace(run, limits={}) for seed, run in runs.items()}
    assert math.isnan(paired_difference(plain, plain, "it").low)


def clustered(random, runs, examples, rate, own):
    """Right or wrong: a share `own` of the answers is a run's own luck, the others are those of the example."""
    common = random.random(examples) < rate
    return np.where(random.random((runs, examples)) < own, random.random((runs, examples)) < rate, common).astype(float)


@pytest.mark.parametrize("runs, examples, rate", [(1, 20, 0.8), (1, 50, 0.95), (1, 200, 0.99), (3, 50, 0.993)])
def test_coverage_near_the_limits(runs, examples, rate):
    random = np.random.default_rng(examples)
    held = 0
    for _ in range(400):
        found = over_runs(list(exact(clustered(random, runs, examples, rate, 1.0)).values()), "it")
        held += found.low <= rate <= found.high
    assert held >= 0.93 * 400  # of the intervals before there were limits 0.92, 0.91, 0.86 and 0.63


def test_the_exact_coverage_of_right_or_wrong_examples():
    """The sum over all outcomes: never below 95 %."""
    for size, rates in ((10, (0.5, 0.9, 0.99)), (60, (0.7, 0.95, 0.99, 0.999))):
        ends = []
        for right in range(size + 1):
            found = TwoWay(right / size, 0.0, right * (size - right) / size**2 / (size - 1), 1, size)
            ends.append(interval_within(found, SHARE))
        for rate in rates:
            held = [low <= rate <= high for low, high in ends]
            assert stats.binom.pmf(np.flatnonzero(held), size, rate).sum() >= 0.95


GRADED = {  # how scores of examples fall, and their mean
    "all but few 1": (lambda r, n: np.where(r.random(n) < 0.95, 1.0, 0.9 * r.random(n)), 0.9725),
    "a few 0.8": (lambda r, n: np.where(r.random(n) < 0.98, 1.0, 0.8), 0.996),
    "1, 0.8 and 0": (lambda r, n: r.choice([1.0, 0.8, 0.0], n, p=[0.9, 0.05, 0.05]), 0.94),
    "high": (lambda r, n: r.beta(30, 2, n), 30 / 32),
    "low": (lambda r, n: r.beta(6, 14, n), 0.3),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", GRADED)
@pytest.mark.parametrize("examples", [10, 50, 200])
def test_coverage_of_graded_scores(kind, examples):
    random, (rng, mean) = np.random.default_rng(examples), GRADED[kind]
    found = [over_runs(list(exact(rng(random, examples)[None]).values()), "it") for _ in range(1500)]
    assert np.mean([one.low <= mean <= one.high for one in found]) > 0.925


@pytest.mark.slow
@pytest.mark.parametrize("runs", [1, 2, 3, 5, 10])
@pytest.mark.parametrize("rate", [0.5, 0.8, 0.95, 0.99, 0.999])
def test_coverage_over_runs_and_examples(runs, rate):
    """Prints the table of the shares (run with -s)."""
    random = np.random.default_rng([runs, int(rate * 1000)])
    for examples in (10, 50, 200):
        for own in (1.0, 0.3, 0.1) if runs > 1 else (1.0,):
            trials = 700
            held = 0
            for _ in range(trials):
                found = over_runs(list(exact(clustered(random, runs, examples, rate, own)).values()), "it")
                held += found.low <= rate <= found.high
            print(f"{runs:3} runs {examples:5} examples  rate {rate:5}  own {own}  {held / trials:.1%}")
            assert held / trials > 0.92  # what is seen in 700 trials has a deviation of 0.8 %


@pytest.mark.slow
@pytest.mark.parametrize("runs", [1, 2, 3, 5, 10])
def test_coverage_of_differences_near_the_limits(runs):
    random = np.random.default_rng(runs)
    for examples, ours, theirs in ((200, 0.99, 0.99), (200, 0.995, 0.98), (50, 0.993, 0.993), (50, 0.95, 0.85)):
        held = shown = 0
        for _ in range(500):
            scores = [clustered(random, runs, examples, rate, 0.5) for rate in (ours, theirs)]
            both = exact(np.concatenate(scores))  # resamples that are the same for both sides
            sides = [{run: both[run + first] for run in range(runs)} for first in (0, runs)]
            found = paired_difference(*sides, "it")
            held += found.low <= ours - theirs <= found.high
            shown += found.p < 0.05
        print(f"{runs:3} runs {examples:5} examples  {ours} less {theirs}  {held / 500:.1%}, shown {shown / 500:.1%}")
        assert held / 500 > 0.92 and (ours != theirs or shown / 500 < 0.08)
