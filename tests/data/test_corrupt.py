"""Replacement of the chosen tokens: shares, units, and that nothing else moves."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskmask.data.batch import TokenBatch
from taskmask.data.rng import RowRng
from taskmask.masking.replace import replace_tokens, units
from taskmask.masking.targets import labels_in_place


def random_rows(vocab, num_rows, num_tokens, seed=0, first_id=0):
    generator = np.random.default_rng(seed)
    tokens = generator.choice(np.flatnonzero(~vocab.is_special), (num_rows, num_tokens))
    tokens[:, 0], tokens[:, -1] = vocab.bos, vocab.eos
    lengths = np.full(num_rows, num_tokens)
    return TokenBatch(tokens, lengths, first_id + np.arange(num_rows), vocab)


def some(rows, share, seed=0):
    return (np.random.default_rng(seed).random((1, *rows.shape)) < share) & rows.maskable


@pytest.mark.parametrize("per", ["token", "word", "span"])
def test_shares_of_units(unigram, per):
    rows = random_rows(unigram, 400, 130)
    mask = some(rows, 0.3)
    out = replace_tokens(rows, mask, RowRng(1, 1, rows.ids), per=per)
    number = units(rows, mask[0], per) + np.arange(len(rows.ids))[:, None] * 1000
    _, first = np.unique(np.where(mask[0], number, -1), return_index=True)
    first = first[1:]  # the first token of each unit; -1 is the rest
    new, old = out.ravel()[first], rows.tokens.ravel()[first]
    random = 0.1 * (1 - 1 / (~unigram.is_special).sum())  # a random piece may be the old one
    for found, share in ((new == unigram.mask, 0.8), ((new != unigram.mask) & (new != old), random)):
        assert abs(found.mean() - share) < 5 * np.sqrt(share * (1 - share) / len(first))


@pytest.mark.parametrize("per", ["word", "span"])
def test_a_unit_shares_one_decision(unigram, per):
    rows = random_rows(unigram, 200, 100)
    mask = some(rows, 0.5)
    out = replace_tokens(rows, mask, RowRng(1, 1, rows.ids), mask_share=0.5, random_share=0.0, per=per)
    number = units(rows, mask[0], per)
    same = mask[0, :, 1:] & mask[0, :, :-1] & (number[:, 1:] == number[:, :-1])
    hidden = out == unigram.mask
    assert same.sum() > 1000
    assert (hidden[:, 1:] == hidden[:, :-1])[same].all()


def test_units_are_tokens_words_or_runs(unigram):
    (ids,) = unigram.encode(["the dog jumps"])
    rows = TokenBatch(np.array([[1, *ids, 2]]), np.array([len(ids) + 2]), np.zeros(1, int), unigram)
    mask = np.zeros(rows.shape, bool)
    mask[0, [1, 2, 4]] = True
    assert units(rows, mask, "token")[mask].tolist() == [1, 2, 4]
    assert units(rows, mask, "word")[mask].tolist() == rows.words[mask].tolist()
    assert units(rows, mask, "span")[mask].tolist() == [0, 0, 1]


def test_random_pieces_are_uniform_and_never_special(unigram):
    rows = random_rows(unigram, 400, 130)
    mask = rows.maskable[None]
    out = replace_tokens(rows, mask, RowRng(1, 1, rows.ids), mask_share=0.0, random_share=1.0)
    counts = np.bincount(out[mask[0]], minlength=unigram.size)
    assert not counts[unigram.is_special].any()
    counts = counts[~unigram.is_special]
    expected, free = counts.mean(), len(counts) - 1
    assert abs(((counts - expected) ** 2 / expected).sum() - free) < 5 * np.sqrt(2 * free)


@pytest.mark.parametrize("per", ["token", "word"])
def test_random_pieces_do_not_depend_on_the_decision(unigram, per):
    rows = random_rows(unigram, 1000, 130)
    out = replace_tokens(rows, rows.maskable[None], RowRng(1, 1, rows.ids), mask_share=0.45, random_share=0.1, per=per)
    counts = np.bincount(out[rows.maskable & (out != rows.tokens) & (out != unigram.mask)], minlength=unigram.size)
    counts = counts[~unigram.is_special]
    expected, free = counts.mean(), len(counts) - 1
    assert abs(((counts - expected) ** 2 / expected).sum() - free) < 5 * np.sqrt(2 * free)


@given(
    st.integers(0, 10**6), st.integers(1, 3), st.sampled_from(["token", "word", "span"]),
    st.floats(0, 1), st.floats(0, 1), st.floats(0, 1),
)  # fmt: skip
def test_targets_rebuild_the_original(unigram, seed, views, per, share, mask_share, random_part):
    rows = random_rows(unigram, 4, 12, seed)
    mask = np.concatenate([some(rows, share, seed + view) for view in range(views)])
    out = replace_tokens(
        rows,
        mask,
        RowRng(seed, 1, rows.ids),
        mask_share=mask_share,
        random_share=(1 - mask_share) * random_part,
        per=per,
    )
    original = np.tile(rows.tokens, (views, 1))
    positions, labels = labels_in_place(rows.tokens, mask)
    assert out.shape == original.shape and out.dtype == np.int64
    assert np.array_equal(out[~mask.reshape(out.shape)], original[~mask.reshape(out.shape)])
    out.reshape(-1)[positions] = labels
    assert np.array_equal(out, original)


def test_views_are_replaced_independently(unigram):
    rows = random_rows(unigram, 50, 100)
    mask = np.repeat(rows.maskable[None], 2, axis=0)
    hidden = (replace_tokens(rows, mask, RowRng(1, 1, rows.ids), mask_share=0.5) == unigram.mask).reshape(mask.shape)
    agree = (hidden[0] == hidden[1])[rows.maskable]
    assert abs(agree.mean() - 0.5) < 5 * 0.5 / np.sqrt(agree.size)


@pytest.mark.parametrize("per", ["token", "word", "span"])
def test_a_row_is_replaced_in_the_same_way_in_any_batch(unigram, per):
    rows = random_rows(unigram, 8, 30, first_id=100)
    mask = some(rows, 0.5)
    out = replace_tokens(rows, mask, RowRng(1, 1, rows.ids), per=per)
    order = np.array([5, 2, 7])
    wider = rows.take(order)
    pad = ((0, 0), (0, 9))
    wider = TokenBatch(np.pad(wider.tokens, pad, constant_values=unigram.pad), wider.lengths, wider.ids, unigram)
    some_mask = np.pad(mask[:, order], ((0, 0), *pad))
    assert np.array_equal(replace_tokens(wider, some_mask, RowRng(1, 1, wider.ids), per=per)[:, :30], out[order])
