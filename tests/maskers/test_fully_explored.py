"""Fully-explored masks: a partition of each row, balanced, each block alike, whatever the units and the mode."""

import collections
import dataclasses
import itertools

import numpy as np
import pytest

from taskmask.data.rng import RowRng
from taskmask.errors import ConfigError
from taskmask.maskers.fully_explored import FullyExplored, FullyExploredConfig
from taskmask.maskers.span import Span, SpanConfig
from taskmask.tasks.denoising import Denoising, DenoisingConfig


@pytest.fixture
def rows(make_rows, texts):
    return make_rows([*texts.values(), "the lazy dogs"])


@pytest.fixture
def one_row(copies, vocab):
    """Many rows of the same few tokens."""
    return lambda length, num: copies(np.arange(vocab.size - length, vocab.size), num)


def masks_of(rows, vocab, epoch=1, **options):
    rng = RowRng(3, epoch, rows.ids)
    return FullyExplored(FullyExploredConfig(**options), vocab)(rows, rng)


@pytest.mark.parametrize("partition", ["random", "contiguous"])
@pytest.mark.parametrize("of", ["uniform", "whole_word", "span", "span unit=token"])
@pytest.mark.parametrize("num", [2, 5, 7])
def test_masks_are_disjoint_cover_the_row_and_are_balanced(num, of, partition, rows, vocab):
    masks = masks_of(rows, vocab, masks=num, of=of, partition=partition)
    assert masks.shape == (num, *rows.shape)
    assert (masks.sum(0) == rows.maskable).all()
    sizes, total = masks.sum(2), rows.maskable.sum(1)
    longest = 1
    if of != "uniform":
        units = FullyExplored(FullyExploredConfig(of=of), vocab).inner.units(rows, RowRng(3, 1, rows.ids))
        longest = max(collections.Counter(row[row >= 0].tolist()).most_common(1)[0][1] for row in units)
    assert (abs(sizes - total / num) < longest).all()
    for first, second in itertools.combinations(masks, 2):  # the largest Hamming distance that two such masks can have
        assert ((first ^ second).sum(1) == first.sum(1) + second.sum(1)).all()


@pytest.mark.parametrize("of", ["whole_word", "span"])
def test_units_stay_whole(of, rows, vocab):
    masker = FullyExplored(FullyExploredConfig(of=of), vocab)
    rng = RowRng(3, 1, rows.ids)
    units, dealt = masker.inner.units(rows, rng), masker.deal(rows, rng)
    for row in range(len(units)):
        for unit in set(units[row][rows.maskable[row]].tolist()):
            assert len(set(dealt[row][(units[row] == unit) & rows.maskable[row]].tolist())) == 1
    assert "whole_words" in masker.promises


def test_the_number_of_masks_comes_from_the_ratio(vocab):
    for ratio, num in ((0.15, 7), (0.25, 4), (0.5, 2), (0.7, 2), (0.9, 2), (1.0, 1), (0.01, 100)):
        assert FullyExplored(FullyExploredConfig(ratio=ratio), vocab).views == num
    assert FullyExplored(FullyExploredConfig(masks=3, ratio=0.15), vocab).views == 3
    for mode in ("in_turn", "sequential"):
        assert FullyExplored(FullyExploredConfig(mode=mode), vocab).views == 1
    assert FullyExplored(FullyExploredConfig(mode="sequential"), vocab).turns == 7


def test_each_mask_of_a_random_partition_is_a_uniform_one(one_row, vocab):
    """All 28 masks of two among eight tokens come up equally often, in every place (chi-square, 27 degrees)."""
    rows = one_row(8, 4000)
    masks = FullyExplored(FullyExploredConfig(masks=4), vocab)(rows, RowRng(5, 1, rows.ids))
    for mask in masks:
        times = collections.Counter(tuple(np.flatnonzero(row)) for row in mask)
        assert len(times) == 28
        assert sum((n - 4000 / 28) ** 2 / (4000 / 28) for n in times.values()) < 55.5  # p = 0.001


def test_a_word_is_as_likely_as_its_share(copies, texts, vocab):
    """Each mask of words is one that whole_word would draw: every token in it with probability 1 / K."""
    rows = copies(texts["english"], 3000)
    masks = FullyExplored(FullyExploredConfig(masks=4, of="whole_word"), vocab)(rows, RowRng(5, 1, rows.ids))
    shares = masks.mean(1)[:, rows.maskable[0]]
    assert abs(shares - 0.25).max() < 4.5 * np.sqrt(0.25 * 0.75 / 3000)


def test_rows_shorter_than_the_number_of_masks(one_row, vocab):
    for length in (0, 1, 2, 5):
        masks = FullyExplored(FullyExploredConfig(masks=7), vocab)(rows := one_row(length, 50), RowRng(5, 1, rows.ids))
        assert (masks.sum(0) == rows.maskable).all() and masks.sum(2).max() == min(length, 1)


@pytest.mark.parametrize("length", [1, 2, 15])
def test_every_mask_gets_its_share_of_short_rows_too(length, one_row, vocab):
    """No view is always the larger one, or always the empty one; a turn or an epoch alone is as good as another."""
    rows = one_row(length, 4000)
    masks = FullyExplored(FullyExploredConfig(masks=7), vocab)(rows, RowRng(5, 1, rows.ids))
    shares = masks[:, rows.maskable].reshape(7, 4000, length).mean(axis=1)
    assert abs(shares - 1 / 7).max() < 5 * np.sqrt(1 / 7 * 6 / 7 / 4000)
    sizes = masks.sum(2)
    assert set(np.unique(sizes)) == {length // 7, length // 7 + 1}


def test_in_turn_is_one_partition_over_so_many_epochs(rows, vocab):
    of_epochs = [masks_of(rows, vocab, epoch, masks=4, mode="in_turn")[0] for epoch in range(1, 9)]
    cycles = of_epochs[:4], of_epochs[4:]
    for cycle in cycles:
        assert (np.sum(cycle, 0) == rows.maskable).all()
    assert not np.array_equal(cycles[0][0], cycles[1][0])
    valid = masks_of(rows, vocab, 0, masks=4, mode="in_turn")
    assert np.array_equal(valid, masks_of(rows, vocab, 0, masks=4, mode="in_turn")) and valid.any()


def test_sequential_deals_the_masks_out_to_turns(rows, vocab):
    together = masks_of(rows, vocab, masks=4)
    masker = FullyExplored(FullyExploredConfig(masks=4, mode="sequential"), vocab)
    rng = RowRng(3, 1, rows.ids)
    for turn in range(4):
        assert np.array_equal(masker(rows, dataclasses.replace(rng, turn=turn))[0], together[turn])


def test_lists_of_pieces(rows, vocab):
    piece = vocab.piece(int(rows.tokens[rows.maskable][0]))
    is_piece = rows.maskable & (rows.tokens == rows.tokens[rows.maskable][0])
    assert not masks_of(rows, vocab, never=(piece,))[:, is_piece].any()
    always = masks_of(rows, vocab, always=(piece,))
    assert always[:, is_piece].all() and (always[:, ~is_piece].sum(0) == rows.maskable[~is_piece]).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"masks": 101}, "masker.masks: is 101; expected 1 to 100 masks that cover a row"),
        ({"masks": 0}, "masker.masks: is 0; expected 1 to 100 masks"),
        ({"ratio_end": 0.3}, "masker.ratio_end: is 0.3; leave it out"),
        ({"ratio": 0.0}, "masker.ratio: is 0.0; expected 1 to 100 masks"),
        ({"of": "mix"}, "masker.of: is mix; expected a masker that chooses among units"),
        ({"of": "spam"}, "unknown masker 'spam'"),
        ({"of": "whole_word never=the"}, "masker.of: 'whole_word never=the' has lists of its own; give masker.never"),
    ],
)
def test_what_is_refused(options, message, vocab):
    with pytest.raises(Exception, match=message) as found:
        FullyExplored(FullyExploredConfig(**options), vocab)
    assert isinstance(found.value, ConfigError) or "unknown" in message


def test_the_units_of_a_policy_are_those_that_it_takes(rows, vocab):
    span = Span(SpanConfig(), vocab)
    rng = RowRng(1, 1, rows.ids)
    units, mask = span.units(rows, rng), span(rows, rng)[0]
    for row in range(len(units)):
        for unit in set(units[row][rows.maskable[row]].tolist()):
            assert len(set(mask[row][(units[row] == unit) & rows.maskable[row]].tolist())) == 1


def test_rows_that_change_with_the_epoch_are_no_rows_for_masks_in_turn(vocab):
    masker = FullyExplored(FullyExploredConfig(mode="in_turn"), vocab)
    with pytest.raises(ConfigError, match=r"task\.permute: is true; expected tokens in the order of the text"):
        Denoising(DenoisingConfig(permute=True), vocab, masker, {})
    for mode, permute in (("in_turn", False), ("together", True)):
        masker = FullyExplored(FullyExploredConfig(mode=mode), vocab)
        assert Denoising(DenoisingConfig(permute=permute), vocab, masker, {}).views == masker.views
