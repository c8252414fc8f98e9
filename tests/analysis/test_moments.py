"""Moments of gradients against the enumeration of all masks and partitions of a small row, and against simulations."""

import itertools

import numpy as np
import pytest
from moments_help import sums_of

from taskmask.stats.gradient_moments import APART, Added, distance_forms, interval


def partitions(tokens):
    """All ways to divide tokens into pairs: 105 of eight."""
    if not tokens:
        yield []
        return
    first, rest = tokens[0], tokens[1:]
    for other in rest:
        for left in partitions([token for token in rest if token != other]):
            yield [(first, other), *left]


class World:
    """All masks of S of N tokens, all partitions, and a gradient for each mask: of any kind, or a mean over tokens."""

    def __init__(self, num, kind):
        self.num, self.views = num, num // 2
        self.masks = list(itertools.combinations(range(num), 2))
        self.partitions = list(partitions(list(range(num))))
        random = np.random.default_rng(0)
        if kind == "any":
            self.found = {mask: random.normal(size=5) for mask in self.masks}
        else:
            of_token = random.normal(size=(num, 5))
            self.found = {mask: of_token[list(mask)].mean(0) for mask in self.masks}
        self.mean = np.mean(list(self.found.values()), 0)

    def exact(self):
        """The covariance of two masks by distance, and the variance of the mean over a partition."""
        by_distance = {}
        for first, second in itertools.product(self.masks, self.masks):
            product = (self.found[first] - self.mean) @ (self.found[second] - self.mean)
            by_distance.setdefault(2 * len(set(first) - set(second)), []).append(product)
        means = [np.mean([self.found[mask] for mask in one], 0) for one in self.partitions]
        spread = np.mean([np.sum((m - self.mean) ** 2) for m in means])
        return {distance: float(np.mean(values)) for distance, values in by_distance.items()}, float(spread)

    def table(self, draws):
        """Float [D, N, 1, P] of draws, each a list of masks of two targets: their summed gradients."""
        return 2 * np.array([[self.found[mask] for mask in rng] for rng in draws])[:, :, None]


@pytest.mark.parametrize("kind", ["any", "additive"])
def test_the_identity_of_masks_that_share_an_update(kind):
    world = World(8, kind)
    assert (len(world.masks), len(world.partitions)) == (28, 105)
    covariance, of_partition = world.exact()
    assert of_partition == pytest.approx(covariance[0] / 4 + (1 - 1 / 4) * covariance[4])
    if kind == "additive":
        assert of_partition == pytest.approx(0, abs=1e-12)
        for distance, value in covariance.items():  # linear in the distance
            assert value == pytest.approx(covariance[0] * (1 - distance * 8 / (2 * 2 * (8 - 2))))


@pytest.mark.parametrize("kind", ["any", "additive"])
def test_the_estimates_are_right_on_average(kind):
    """Over all pairs of partitions that two draws can be, each beginning with any of its masks."""
    world = World(6, kind)
    covariance, of_partition = world.exact()
    orders = [one[n:] + one[:n] for one in world.partitions for n in range(3)]
    pairs = list(itertools.product(orders, orders))
    tables = np.stack([world.table(pair) for pair in pairs])
    found = Added.of(sums_of(tables, np.full(tables.shape[:-1], 2.0)))
    assert found.masks().mean() == pytest.approx(of_partition, abs=1e-12)
    assert found.masks(form=APART).mean() == pytest.approx(covariance[0] / 3)
    assert found.targets == 6 and found.means[0].mean(0) == pytest.approx(world.mean)


def test_one_mask_an_update():
    world = World(6, "any")
    covariance, _ = world.exact()
    tables = np.stack([world.table([[a], [b]]) for a, b in itertools.product(world.masks, world.masks)])
    found = Added.of(sums_of(tables, np.full(tables.shape[:-1], 2.0)))
    assert found.masks().mean() == pytest.approx(covariance[0])
    assert (found.masks() == found.masks(form=APART)).all()


def test_covariances_of_pairs_are_right_on_average():
    """Windows over a random order: of the same mask, of masks that share a token, and of disjoint ones."""
    world = World(6, "any")
    covariance, _ = world.exact()
    orders = itertools.permutations(range(6), 4)
    draws = [[tuple(sorted(order[n : n + 2])) for n in range(3)] for order in orders]
    tables = world.table(draws)[None]  # all there are, so that the mean over them is exact
    found = Added.of(sums_of(tables, np.full(tables.shape[:-1], 2.0), forms=distance_forms(3, 3)))
    of_all = (len(draws) - 1) / len(draws) * 3**2  # an update has three times the targets of a view
    for distance in range(3):
        assert of_all * found.masks(form=distance)[0] == pytest.approx(covariance[2 * distance])


def rows_of(random, rows, outcomes=6, size=4):
    """What may come of each row under its masks, all alike likely: sums [R, O, L, P] and counts [R, O, L].

    The first loss has targets by chance, or none; the second in some rows alone, always as many.
    """
    counts = np.stack([random.poisson(random.integers(1, 6, size=(rows, 1)), size=(rows, outcomes)),
                       np.repeat((random.random((rows, 1)) < 0.8).astype(int), outcomes, axis=1)], axis=-1)  # fmt: skip
    own = random.normal(size=(rows, 1, 2, size)) + 1.5
    mean = own + random.normal(size=(rows, outcomes, 2, size))
    return counts[..., None] * mean, counts.astype(float)


def truth_of(sums, counts, weights):
    """The variance that masks and rows cause in the linear part of the batch's gradient, times the rows."""
    mean, g = counts.mean((0, 1)), sums.mean((0, 1)) / counts.mean((0, 1))[:, None]
    z = np.einsum("l,rolp->rop", weights / mean, sums - counts[..., None] * g)
    masks = np.sum((z - z.mean(1, keepdims=True)) ** 2, axis=2).mean()
    return masks, np.sum(z.mean(1) ** 2, axis=1).mean()


def drawn(random, sums, counts, draws, rows=None):
    """Draws of the masks of all rows, or of `rows` of them: tables [R, D, 1, L, P] and counts [R, D, 1, L]."""
    which = np.arange(len(sums)) if rows is None else random.integers(len(sums), size=rows)
    which = (which[:, None], random.integers(sums.shape[1], size=(len(which), draws)))
    return sums[which][:, :, None], counts[which][:, :, None]


def test_the_prediction_is_that_of_the_batch_that_the_trainer_divides():
    """Redrawn, a batch of many rows has the predicted variance: each loss is divided by the targets of the batch."""
    random, weights = np.random.default_rng(0), np.array([0.7, 2.0])
    sums, counts = rows_of(random, 400)
    masks, _ = truth_of(sums, counts, weights)
    batches = []
    for _ in range(3000):
        (table, count), one = drawn(random, sums, counts, 1), np.arange(2)
        batches.append(sum(weights[n] * table[:, 0, 0, n].sum(0) / count[:, 0, 0, n].sum() for n in one))
    assert 400 * np.var(batches, axis=0).sum() == pytest.approx(masks, rel=0.06)


@pytest.mark.parametrize("rows", [12, 40])
def test_variances_are_right_on_average_over_few_rows_and_draws(rows):
    random, weights = np.random.default_rng(1), np.array([0.7, 2.0])
    sums, counts = rows_of(random, 300)
    found = []
    for _ in range(3000 // rows):
        one = Added.of(sums_of(*drawn(random, sums, counts, 3, rows), weights))
        found.append((one.masks().mean(), one.rows().mean()))
    for values, truth in zip(np.array(found).T, truth_of(sums, counts, weights), strict=True):
        assert values.mean() == pytest.approx(truth, abs=3 * values.std() / len(values) ** 0.5 + 0.03 * truth)


def test_rows_without_targets_count():
    """A row that is never masked adds nothing, whatever the others do, and lowers the mean count of all."""
    random = np.random.default_rng(2)
    sums, counts = rows_of(random, 50)
    tables, counts = drawn(random, sums[..., :1, :], counts[..., :1], 5)
    without = Added.of(sums_of(tables, counts))
    tables, counts = (np.concatenate([part, 0 * part[:10]]) for part in (tables, counts))
    found = Added.of(sums_of(tables, counts))
    assert found.masks()[50:] == pytest.approx(0) and found.means[0][50:] == pytest.approx(
        np.tile(found.means[0].mean(0), (10, 1))
    )
    assert found.masks().sum() == pytest.approx((60 / 50) ** 2 * without.masks().sum())
    assert found.targets == pytest.approx(without.targets * 50 / 60)
    assert found.means[0].mean(0) == pytest.approx(without.means[0].mean(0))


def test_a_loss_without_targets_is_nothing():
    random = np.random.default_rng(3)
    sums, counts = rows_of(random, 20)
    tables, counts = drawn(random, sums, counts, 3)
    tables[..., 1, :], counts[..., 1] = 0, 0
    one, both = Added.of(sums_of(tables[..., :1, :], counts[..., :1])), Added.of(sums_of(tables, counts, (1.0, 5.0)))
    assert one.masks() == pytest.approx(both.masks()) and one.rows() == pytest.approx(both.rows())


def test_the_distance_of_two_policies_is_without_the_noise_of_masks():
    random, found = np.random.default_rng(4), []
    sums, counts = rows_of(random, 40)
    off = np.array([0.5, 0, 0, 0])
    for _ in range(30):
        first = Added.of(sums_of(*drawn(random, sums[..., :1, :], counts[..., :1], 3)))
        table, count = drawn(random, sums[..., :1, :], counts[..., :1], 3)
        second = Added.of(sums_of(table + count[..., None] * off, count))
        found.append((second.distance(first).mean(), first.distance(second).mean()))
        assert second.distance(second) == pytest.approx(-2 * second.masks() / 3)
    assert np.mean(found) == pytest.approx(0.25, abs=4 * np.std(found) / 30**0.5)
    assert found[0][0] == pytest.approx(found[0][1])


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


@pytest.mark.slow
@pytest.mark.parametrize("rows", [12, 32])
def test_intervals_of_variances_hold_the_truth_as_often_as_they_say(rows):
    """Though rows have unequal numbers of targets, whose mean and whose mean gradient are estimated from them, too."""
    random, weights, held, times = np.random.default_rng(rows), np.array([1.0, 0.5]), np.zeros(3), 400
    sums, counts = rows_of(random, 3000)
    lengths = random.integers(1, 8, size=(3000, 1, 1))
    sums, counts = sums * lengths[..., None], counts * lengths
    masks, of_rows = truth_of(sums, counts, weights)
    for _ in range(times):
        one = Added.of(sums_of(*drawn(random, sums, counts, 4, rows), weights))
        masks_of, rows_of_one = one.masks(), one.rows()
        wanted = ((masks_of, None, masks), (rows_of_one, None, of_rows),
                  (masks_of, masks_of + rows_of_one, masks / (masks + of_rows)))  # fmt: skip
        for number, (above, below, truth) in enumerate(wanted):
            _, low, high = interval(above, below)
            held[number] += low <= truth <= high
    assert (held / times > 0.82).all() and (held / times < 0.99).all()


def test_ratios_have_intervals():
    random = np.random.default_rng(3)
    below = random.uniform(1, 2, size=200)
    value, low, high = interval(0.5 * below + 0.01 * random.normal(size=200), below)
    assert low < value < high and value == pytest.approx(0.5, abs=0.01) and high - low < 0.02
    assert interval(below, below) == (1, 1, 1)
    value, low, high = interval(below)
    assert value == pytest.approx(below.mean()) and high - low == pytest.approx(4 * below.std() / 200**0.5, rel=0.1)
    assert all(np.isnan(v) for v in interval(np.zeros(3), np.zeros(3)))
