"""The counter-based random numbers: what they depend on, and that they are random."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskmask.data.rng import RowRng, hash_integers

SIGMAS = 5  # seeds are fixed, so a bound that holds once holds always


def numbers(seed=1, epoch=1, stream="a", rows=1000, num=200):
    return RowRng(seed, epoch, np.arange(rows)).uniform(stream, num)


def test_numbers_never_change():
    """Resume and published runs rest on them."""
    assert hash_integers(1, 2, 3).tolist() == [18272519356265416736]
    assert RowRng(1, 2, np.array([3])).bits("uniform", 2).tolist() == [[1022894111678123906, 9658765586372835127]]


@given(st.integers(0, 2**63 - 1), st.integers(0, 10**6), st.lists(st.integers(0, 2**40), min_size=1, max_size=5))
def test_a_row_has_its_numbers_wherever_it_stands(seed, epoch, ids):
    rng = RowRng(seed, epoch, np.array(ids))
    alone = [RowRng(seed, epoch, np.array([i])).uniform("a", 7)[0] for i in ids]
    assert np.array_equal(rng.uniform("a", 7), alone)
    for num in (1, 3, 4, 6, 700):
        width = min(num, 7)
        assert np.array_equal(rng.uniform("a", num)[:, :width], rng.uniform("a", 7)[:, :width])
        assert np.array_equal(rng.bits("a", num)[:, :width], rng.bits("a", 7)[:, :width])
        assert np.array_equal(rng.small("a", num, "<u2")[:, :width], rng.small("a", 7, "<u2")[:, :width])
    assert np.array_equal(rng.take(np.array([-1])).uniform("a", 7), alone[-1:])
    assert np.array_equal(rng.take(np.array([-1])).once, RowRng(seed, epoch, np.array(ids[-1:])).once)
    for values in (rng.uniform("a", 7), rng.once):
        assert (values >= 0).all() and (values < 1).all()


def test_numbers_at_places_are_those_of_all_places():
    rng, index = RowRng(1, 1, np.arange(50)), np.random.default_rng(0).integers(0, 50 * 37, 300)
    assert np.array_equal(rng.bits_at("a", 37, index), rng.bits("a", 37).reshape(-1)[index])


@pytest.mark.parametrize(("kind", "size"), [("<u2", 16), ("<u4", 32)])
def test_small_numbers_are_the_parts_of_the_large_ones_from_the_low_end(kind, size):
    rng, parts = RowRng(1, 1, np.arange(9)), 64 // size
    small = rng.small("a", 5 * parts, kind).reshape(9, 5, parts)
    for part in range(parts):
        expected = rng.bits("a", 5) >> np.uint64(size * part) & np.uint64(2**size - 1)
        assert np.array_equal(small[:, :, part], expected)


def test_the_global_random_state_is_neither_read_nor_moved():
    np.random.seed(0)
    first, state = numbers(), np.random.get_state()[1]
    assert np.array_equal(np.random.get_state()[1], state)
    np.random.seed(1)
    assert np.array_equal(numbers(), first)


@pytest.mark.parametrize("num_bins", [256, 1000])
def test_uniform(num_bins):
    counts = np.bincount((numbers() * num_bins).astype(int).ravel(), minlength=num_bins)
    expected = counts.sum() / num_bins
    free = num_bins - 1
    assert abs(((counts - expected) ** 2 / expected).sum() - free) < SIGMAS * np.sqrt(2 * free)


def test_the_numbers_of_a_row_differ():
    bits = np.sort(RowRng(1, 1, np.arange(100)).bits("a", 5000), axis=1)
    assert (bits[:, 1:] != bits[:, :-1]).all()


def test_numbers_drawn_once_are_uniform_and_independent_of_each_other_and_of_every_stream():
    rng = RowRng(1, 1, np.arange(200_000))
    kin = [rng.uniform(stream, 3) for stream in ("budget", "arc", "units", "uniform")]
    columns = np.concatenate([rng.once, *kin, np.roll(rng.once, 1, axis=0), RowRng(1, 2, rng.ids).once], axis=1)
    correlation = np.corrcoef(columns, rowvar=False) - np.eye(columns.shape[1])
    assert np.abs(correlation).max() < SIGMAS / np.sqrt(len(columns))
    grid = np.histogram2d(*rng.once.T, bins=32, range=[[0, 1], [0, 1]])[0]
    expected, free = grid.mean(), grid.size - 1
    assert abs(((grid - expected) ** 2 / expected).sum() - free) < SIGMAS * np.sqrt(2 * free)


def test_every_bit_is_a_fair_coin():
    bits = RowRng(0, 0, np.arange(100_000)).bits("a", 1)
    shares = [((bits >> np.uint64(i)) & np.uint64(1)).mean() for i in range(64)]
    assert np.abs(np.array(shares) - 0.5).max() < SIGMAS * 0.5 / np.sqrt(bits.size)


def test_streams_epochs_seeds_rows_and_positions_are_uncorrelated():
    base = numbers()
    kin = [
        numbers(stream="b"),
        numbers(stream="replace.0"),
        numbers(epoch=2),
        numbers(seed=2),
        numbers(seed=2, epoch=0),
    ]
    pairs = [(base, other) for other in kin]
    pairs += [(base[1:], base[:-1]), (base[:, 1:], base[:, :-1]), (base[1:, 1:], base[:-1, :-1])]
    for one, other in pairs:
        correlation = np.corrcoef(one.ravel(), other.ravel())[0, 1]
        assert abs(correlation) < SIGMAS / np.sqrt(one.size)


def test_no_two_of_a_million_rows_share_a_stream():
    firsts = [RowRng(s, e, np.arange(250_000)).bits("a", 1) for s, e in itertools.product((0, 1), (0, 1))]
    assert len(np.unique(np.concatenate(firsts))) == 1_000_000


def test_the_order_of_hashed_values_counts():
    grid = np.arange(-50, 50)
    assert len(np.unique(hash_integers(grid[:, None], grid[None, :]))) == 10_000
