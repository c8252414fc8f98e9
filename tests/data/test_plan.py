"""The plan of an epoch: every row once, the budget never passed, little padding, and who takes what."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import taskmask.data.batching
from taskmask.data.batching import plan_epoch, this_rank
from taskmask.errors import DataError

SIZES = st.lists(st.integers(3, 60), min_size=1, max_size=200)


def lognormal(num):
    return np.clip(np.random.default_rng(0).lognormal(3.6, 0.6, num).astype(np.int64), 8, 128)


def check(plan, lengths, max_tokens, views=1):
    micro_batches = [plan[i] for i in range(len(plan))]
    assert np.array_equal(np.sort(np.concatenate(micro_batches)), np.arange(len(lengths)))
    assert all(len(ids) and len(ids) * lengths[ids].max() * views <= max_tokens for ids in micro_batches)


@given(SIZES, st.integers(1, 3), st.integers(0, 500), st.integers(0, 9))
def test_every_row_once_and_never_over_the_budget(lengths, views, room, seed):
    lengths = np.array(lengths)
    max_tokens = int(lengths.max()) * views + room
    check(plan_epoch(lengths, seed, 1, max_tokens, views), lengths, max_tokens, views)


@pytest.mark.parametrize("window", [1, 3, 100])
def test_micro_batches_stay_within_their_window_of_the_shuffled_rows(monkeypatch, window):
    monkeypatch.setattr(taskmask.data.batching, "WINDOW", window)
    lengths = np.where(np.arange(4000) % 2, 10, 50)
    plan = plan_epoch(lengths, 1, 1, 600)
    check(plan, lengths, 600)
    pure = np.mean([len(set(lengths[plan[i]])) == 1 for i in range(len(plan))])
    assert pure >= 1 - 1.5 / window  # a window of sorted rows has one seam between short and long
    firsts = {tuple(sorted(plan_epoch(lengths, 1, epoch, 600).order[: 20 * window])) for epoch in range(3)}
    assert len(firsts) == 3  # and is another set of rows in each epoch


def test_deterministic_and_new_in_each_epoch_and_for_each_seed():
    lengths = lognormal(2000)
    plans = [plan_epoch(lengths, seed, epoch, 1024) for seed, epoch in ((1, 1), (1, 1), (1, 2), (2, 1))]
    orders = [np.concatenate([plan[i] for i in range(len(plan))]) for plan in plans]
    assert np.array_equal(orders[0], orders[1])
    for other in orders[2:]:
        agreement = np.corrcoef(np.argsort(orders[0]), np.argsort(other))[0, 1]
        assert abs(agreement) < 5 / np.sqrt(len(plans[0]))


def test_every_row_is_as_likely_in_every_place():
    lengths, num = np.full(5, 10), 4000
    orders = np.array([plan_epoch(lengths, 1, epoch, 10).order for epoch in range(num)])
    counts = (orders[:, :, None] == np.arange(5)).sum(axis=0)
    assert np.abs(counts / num - 0.2).max() < 5 * np.sqrt(0.2 * 0.8 / num)


def test_micro_batches_are_not_taken_in_order_of_length():
    lengths = lognormal(20_000)
    plan = plan_epoch(lengths, 1, 1, 1024)
    means = [lengths[plan[i]].mean() for i in range(len(plan))]
    assert abs(np.corrcoef(np.arange(len(means)), means)[0, 1]) < 5 / np.sqrt(len(means))


def test_little_is_padding():
    lengths = lognormal(20_000)
    plan = plan_epoch(lengths, 1, 1, 2048)
    padded = sum(len(plan[i]) * lengths[plan[i]].max() for i in range(len(plan)))
    assert 1 - lengths.sum() / padded < 0.02
    assert lengths.sum() / (len(plan) * 2048) > 0.95


def test_one_row():
    plan = plan_epoch(np.array([7]), 0, 0, 7)
    assert len(plan) == 1 and plan[0].tolist() == [0]


def test_no_rows_and_too_long_a_row_are_errors():
    with pytest.raises(DataError, match="no rows"):
        plan_epoch(np.zeros(0, np.int64), 0, 0, 100)
    with pytest.raises(DataError, match=r"51 tokens, times 2 masks.*max_tokens, 101"):
        plan_epoch(np.array([51, 3]), 0, 0, 101, views=2)


@given(st.integers(0, 100), st.integers(1, 8), st.integers(1, 8))
def test_ranks_share_a_step_without_gap_or_overlap(step, each, world_size):
    size = each * world_size
    taken = [list(this_rank(step, size, rank, world_size)) for rank in range(world_size)]
    assert {len(part) for part in taken} == {each}
    assert sorted(itertools.chain(*taken)) == list(range(step * size, (step + 1) * size))
