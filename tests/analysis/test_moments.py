"""Moments of gradients against the enumeration of all masks and partitions of a small row."""

import itertools

import numpy as np
import pytest

from taskmask.analysis.gradients import apart
from taskmask.analysis.moments import interval, moments, pair_covariances, variance_of_rows

N, S, K = 8, 2, 4  # tokens, tokens of a mask, masks of a partition
MASKS = list(itertools.combinations(range(N), S))  # 28


def partitions(tokens):
    """All ways to divide tokens into pairs: 105 of eight."""
    if not tokens:
        yield []
        return
    first, rest = tokens[0], tokens[1:]
    for other in rest:
        for left in partitions([token for token in rest if token != other]):
            yield [(first, other), *left]


PARTITIONS = list(partitions(list(range(N))))


def gradient(kind):
    """{mask: gradient}: of any function of a mask, or of one that is the mean over the masked tokens."""
    random = np.random.default_rng(0)
    if kind == "any":
        return {mask: random.normal(size=5) for mask in MASKS}
    of_token = random.normal(size=(N, 5))
    return {mask: of_token[list(mask)].mean(0) for mask in MASKS}


def exact(found):
    """The variance of a mask, the covariance by distance, and the variance of the mean over a partition."""
    away = {mask: g - np.mean(list(found.values()), 0) for mask, g in found.items()}
    by_distance = {}
    for first, second in itertools.product(MASKS, MASKS):
        distance = 2 * len(set(first) - set(second))
        by_distance.setdefault(distance, []).append(away[first] @ away[second])
    means = [np.mean([found[mask] for mask in one], 0) for one in PARTITIONS]
    spread = np.mean([np.sum((m - np.mean(list(found.values()), 0)) ** 2) for m in means])
    return {distance: float(np.mean(values)) for distance, values in by_distance.items()}, float(spread)


def products_of(found, draws):
    """[D, K, D, K] of draws, each a list of masks."""
    table = np.array([[found[mask] for mask in draw] for draw in draws])
    return np.einsum("dkp,elp->dkel", table, table)


@pytest.mark.parametrize("kind", ["any", "additive"])
def test_the_identity_of_masks_that_share_an_update(kind):
    assert (len(MASKS), len(PARTITIONS)) == (28, 105)
    covariance, of_partition = exact(gradient(kind))
    assert of_partition == pytest.approx(covariance[0] / K + (1 - 1 / K) * covariance[2 * S])
    if kind == "additive":
        assert of_partition == pytest.approx(0, abs=1e-12)
        for distance, value in covariance.items():  # linear in the distance
            assert value == pytest.approx(covariance[0] * (1 - distance * N / (2 * S * (N - S))))


@pytest.mark.parametrize("kind", ["any", "additive"])
def test_the_estimates_are_right_on_average(kind):
    found = gradient(kind)
    covariance, of_partition = exact(found)
    square = float(np.sum(np.mean(list(found.values()), 0) ** 2))
    counts = np.full((2, K), float(S))
    whole = [moments(products_of(found, draws), counts) for draws in itertools.product(PARTITIONS, PARTITIONS)]
    assert np.mean([one.update for one in whole]) == pytest.approx(of_partition, abs=1e-12)
    assert np.mean([one.view for one in whole]) == pytest.approx(covariance[0])
    shared = [one.update - one.view / K for one in whole]
    assert np.mean(shared) == pytest.approx((1 - 1 / K) * covariance[2 * S])
    assert np.mean([one.square for one in whole]) == pytest.approx(square)


def test_one_mask_an_update():
    found = gradient("any")
    covariance, _ = exact(found)
    pairs = itertools.product([[mask] for mask in MASKS], repeat=2)
    whole = [moments(products_of(found, draws), np.full((2, 1), float(S))) for draws in pairs]
    assert np.mean([one.update for one in whole]) == pytest.approx(covariance[0])
    assert np.mean([one.view for one in whole]) == pytest.approx(covariance[0])


def test_views_weigh_as_much_as_they_have_targets():
    random = np.random.default_rng(1)
    table, counts = random.normal(size=(3, 4, 6)), np.array([[1.0, 2, 0, 5]] * 3)
    table[:, 2] = 0
    updates = (table * counts[:, :, None]).sum(1) / 8
    expected = np.sum((updates - updates.mean(0)) ** 2) / 2
    assert moments(np.einsum("dkp,elp->dkel", table, table), counts).update == pytest.approx(expected)
    with pytest.raises(ValueError, match="1 draws; expected two or more"):
        moments(np.ones((1, 2, 1, 2)), np.ones((1, 2)))


def test_covariances_of_pairs_are_right_on_average():
    """Windows over a random order: of the same mask, of masks that share a token, and of disjoint ones."""
    found = gradient("any")
    covariance, _ = exact(found)
    orders = list(itertools.permutations(range(N), 4))
    views = [[tuple(sorted(order[n : n + S])) for n in range(3)] for order in orders]
    random = np.random.default_rng(0)
    sums = np.zeros(6)
    for first in range(len(views)):
        draws = [views[first], views[int(random.integers(len(views)))]]
        pairs, values = pair_covariances(products_of(found, draws))
        sums += values
    assert pairs[:3].tolist() == [[0, 0], [1, 1], [2, 2]]
    expected = [covariance[2 * abs(int(a) - int(b))] for a, b in pairs]
    assert sums / len(views) == pytest.approx(expected, abs=0.35)


def test_the_variance_of_rows_is_apart_from_that_of_masks():
    random = np.random.default_rng(2)
    found = []
    for _ in range(400):
        means = random.normal(size=(6, 3))  # variance 3
        table = means[:, None] + 2 * random.normal(size=(6, 2, 3))
        parts = [moments(np.einsum("dp,ep->de", row, row)[:, None, :, None], np.ones((2, 1))) for row in table]
        drawn = table.mean(1)
        squares, observed = np.array([one.square for one in parts]), np.sum(drawn**2, 1)
        found.append(variance_of_rows(apart(drawn), squares, observed).mean())
    assert np.mean(found) == pytest.approx(3, abs=4 * np.std(found) / 20)
    assert np.isnan(variance_of_rows(np.ones(1), np.ones(1), np.ones(1))).all()


@pytest.mark.parametrize("rows", [4, 12, 40])
def test_intervals_hold_the_truth_as_often_as_they_say(rows):
    """Of means and of ratios of what is skewed, as squared lengths are, and of few rows, too."""
    random, held, times = np.random.default_rng(rows), np.zeros(2), 1000
    for _ in range(times):
        below = random.gamma(4, size=rows)
        above = 0.5 * below * random.gamma(4, 1 / 4, size=rows)
        for number, (of, truth) in enumerate(((interval(below), 4), (interval(above, below), 0.5))):
            held[number] += of[1] <= truth <= of[2]
    assert (held / times > 0.9).all() and (held / times < 0.99).all()


def test_ratios_have_intervals():
    random = np.random.default_rng(3)
    below = random.uniform(1, 2, size=200)
    value, low, high = interval(0.5 * below + 0.01 * random.normal(size=200), below)
    assert low < value < high and value == pytest.approx(0.5, abs=0.01) and high - low < 0.02
    assert interval(below, below) == (1, 1, 1)
    value, low, high = interval(below)
    assert value == pytest.approx(below.mean()) and high - low == pytest.approx(4 * below.std() / 200**0.5, rel=0.1)
    assert all(np.isnan(v) for v in interval(np.zeros(3), np.zeros(3)))
