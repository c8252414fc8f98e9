"""Text infilling and T5's span corruption: budgets, lengths and places, by their laws."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taskmask.analysis.inspect.mask_stats import span_lengths
from taskmask.data.rng import RowRng
from taskmask.errors import ConfigError
from taskmask.maskers.infilling import Infilling, InfillingConfig
from taskmask.maskers.runs import composition, laid_out
from taskmask.maskers.t5_span import T5SpanConfig

ENGLISH = "The unreasonably quick brown foxes aren't jumping over the lazy, unbelievable dogs (really)! "


def assert_fits(counts, chances):
    """Chi-square: the counts are draws by these chances."""
    expected = np.asarray(chances) / np.sum(chances) * np.sum(counts)
    assert (expected > 5).all()
    misfit, free = ((counts - expected) ** 2 / expected).sum(), len(counts) - 1
    assert misfit < free + 5 * np.sqrt(2 * free)


# ---- what both are made of


def test_every_composition_is_as_likely():
    num = 20_000
    keys = RowRng(1, 1, np.arange(num)).small("keys", 7, "<u4")
    parts = composition(np.full(num, 6), np.full(num, 3), keys)
    ways = [way for way in itertools.product(range(1, 5), repeat=3) if sum(way) == 6]
    assert len(ways) == math.comb(5, 2)
    assert_fits([(parts == way).all(axis=1).sum() for way in ways], np.ones(len(ways)))


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_parts_add_up_and_are_laid_out_in_turn(data):
    parts = np.array(data.draw(st.lists(st.integers(0, 5), min_size=1, max_size=5)))
    total = np.array([data.draw(st.integers(n, 12)) if n else 0 for n in parts.tolist()])
    keys = RowRng(data.draw(st.integers(0, 99)), 1, np.arange(len(parts))).small("keys", 12, "<u4")
    spans, gaps = composition(total, parts, keys), composition(total, parts, keys[:, ::-1])
    assert (spans.sum(axis=1) == total).all() and ((spans > 0).sum(axis=1) == parts).all()
    for row, laid in enumerate(laid_out(gaps, spans, 24)):
        want = [flag for gap, span in zip(gaps[row], spans[row], strict=True) for flag in [False] * gap + [True] * span]
        assert laid.tolist() == want + [False] * (24 - len(want))


# ---- T5


def test_the_bookkeeping_of_the_reference(copies, mask):
    """568 tokens become 512 and 114, as `compute_input_and_target_lengths` has it: 85 tokens in 28 spans."""
    rows = copies([10] * 568, 50)
    found = mask("t5_span", rows)[0]
    assert (found.sum(axis=1) == 85).all() and len(span_lengths(found)) == 28 * 50
    assert 568 - 85 + 28 + 1 == 512 and 85 + 28 + 1 == 114
    assert not found[:, 1].any() and found[:, 568].all()  # begins with what is not masked, ends with a span


def test_every_way_to_mask_is_as_likely(copies, mask):
    """8 tokens, 4 of them in 2 spans: 3 ways to divide either half."""
    num = 9000
    found = mask("t5_span", copies([10] * 8, num), ratio=0.5, mean=2)[0][:, 1:9]
    ways, counts = np.unique(found, axis=0, return_counts=True)
    assert len(ways) == 9 and (ways.sum(axis=1) == 4).all()
    assert_fits(counts, np.ones(9))


@pytest.mark.parametrize("ratio", [0.0, 0.01, 0.15, 0.5, 0.95])
@pytest.mark.parametrize("length", [0, 1, 2, 3, 10, 30, 97])
def test_how_much_t5_masks(copies, mask, length, ratio):
    found = mask("t5_span", copies([10] * length, 5), ratio=ratio)[0]
    noise = min(max(round(ratio * length), 1), length - 1) if ratio and length > 1 else 0
    spans = min(max(round(noise / 3), 1), noise, length - noise)
    assert (found.sum(axis=1) == noise).all() and len(span_lengths(found)) == 5 * spans


def test_t5_counts_what_may_be_masked(copies, mask, vocab):
    """A special token within the row, and pieces that are never masked, are passed over."""
    rows = copies([10] * 20 + [vocab.eos] + [11] * 20, 200)
    found = mask("t5_span", rows, never=(vocab.piece(11),), ratio=0.3)[0]
    assert (found.sum(axis=1) == 6).all() and not found[:, 21:].any() and found[:, 20].all()


def test_wrong_options_of_t5_are_named():
    with pytest.raises(ConfigError, match=r"(?s)masker.mean: is 0.*masker.ratio: is 1; expected below 1"):
        T5SpanConfig(mean=0, ratio=1.0)


# ---- infilling


def words_of(rows):
    return rows.words[0].max() + 1


@pytest.mark.parametrize("ratio", [0.0, 0.1, 0.3, 0.7, 1.0])
@pytest.mark.parametrize("times", [1, 4])
def test_the_budget_is_met_in_words_exactly(copies, mask, ratio, times):
    rows = copies(ENGLISH * times, 300)
    found = mask("infilling", rows, ratio=ratio)[0]
    numbers = np.where(rows.maskable, rows.words, -1)
    for row, chosen in zip(numbers, found, strict=True):
        masked = set(row[chosen].tolist())
        assert len(masked) == math.ceil(ratio * words_of(rows) - 1e-9)
        assert np.array_equal(np.isin(row, list(masked)), chosen)  # whole words


def test_every_word_is_as_likely(copies, mask):
    num = 10_000
    rows = copies(ENGLISH, num)
    share = math.ceil(0.3 * words_of(rows)) / words_of(rows)
    rates = mask("infilling", rows)[0][:, rows.maskable[0]].mean(axis=0)
    assert np.abs(rates - share).max() < 5 * np.sqrt(share * (1 - share) / num)


@pytest.mark.parametrize("mean", [1.0, 3.0])
def test_lengths_follow_the_poisson_law_given_that_they_are_not_0(vocab, mean):
    masker, num = Infilling(InfillingConfig(mean=mean), vocab), 20_000
    lengths = masker.lengths(np.full(num, 60), RowRng(1, 1, np.arange(num)))
    assert (lengths.sum(axis=1) == 60).all()
    first = np.minimum(lengths[:, 0], 7)
    chances = np.array([mean**n / math.factorial(n) for n in range(1, 30)])
    chances = np.append(chances[:6], chances[6:].sum())
    cut = 7 if mean > 2 else 5
    counts = np.bincount(np.minimum(first, cut), minlength=cut + 1)[1:]
    assert_fits(counts, np.append(chances[: cut - 1], chances[cut - 1 :].sum()))


def test_spans_of_the_mask_are_those_that_were_drawn(vocab, copies, mask):
    """One token a word: the runs are the lengths, but for the one that the edge of the row cuts."""
    word = vocab.encode(["the"])[0].tolist()
    assert len(word) == 1
    rows = copies(word * 90, 300)
    masker, rng = Infilling(InfillingConfig(), vocab), RowRng(1, 1, rows.ids)
    drawn, found = masker.lengths(np.full(300, 27), rng), mask("infilling", rows)[0]
    for lengths, row in zip(drawn, found, strict=True):
        runs = span_lengths(row[None]).tolist()
        if row[1] and row[90]:  # the span that goes on at the other edge
            runs = [*runs[1:-1], runs[0] + runs[-1]] if len(runs) > 1 else runs
        assert sorted(runs) == sorted(lengths[lengths > 0].tolist())


def test_no_word_of_no_budget_and_special_tokens_cut(copies, mask, vocab):
    assert not mask("infilling", copies([vocab.eos] * 3, 5))[0].any()
    half = vocab.encode(["the lazy dogs over"])[0]
    found = mask("infilling", copies([*half, vocab.eos, *half], 300), ratio=0.9)[0]
    assert not found[:, 1 + len(half)].any() and found[:, [len(half), len(half) + 2]].all(axis=1).any()


def test_wrong_options_of_infilling_are_named():
    with pytest.raises(ConfigError, match=r"masker.mean: is 0; expected above 0"):
        InfillingConfig(mean=0)
