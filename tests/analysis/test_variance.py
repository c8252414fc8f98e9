"""What is said of a policy's gradients, against gradients that are made up and known."""

import json

import numpy as np
import pytest
from moments_help import sums_of

from taskmask.analysis.inspect.inspection import read_policies
from taskmask.analysis.variance.measure import Variance, by_distance, summarised
from taskmask.analysis.variance.render import page_of
from taskmask.analysis.views import draws_of, windows
from taskmask.data.batch import TokenBatch
from taskmask.data.rng import RowRng
from taskmask.stats.gradient_moments import distance_forms
from taskmask.tokenizer.tokenizer import Vocabulary, train_vocabulary


@pytest.fixture(scope="module")
def vocab():
    return Vocabulary(train_vocabulary(["the quick brown fox jumps over the lazy dog"] * 20, 300, kind="bpe"))


def row_of(vocab, total):
    """A row of `total` tokens that can be masked."""
    pieces = np.flatnonzero(~vocab.is_special)[:total]
    tokens = np.concatenate([[vocab.bos], pieces, [vocab.eos]])[None]
    return TokenBatch(tokens, np.array([total + 2]), np.array([total]), vocab)


@pytest.mark.parametrize("clean", [0, 1])
def test_sums_over_masked_tokens_lie_on_the_line_of_the_theory(clean, vocab):
    """Though windows of 6 tokens and of 4 cannot be moved by quarters, and rows differ in their variance.

    With `clean` there is one more view: the text as it is, as joint_mlm may read labels from it.
    """
    random, masker, totals = np.random.default_rng(0), windows(0.15, vocab), np.array([40, 26])
    views = masker.views + clean
    tables, counts = np.ones((2, 300, views, 1, 30)), np.ones((2, 300, views, 1))
    for row, total in enumerate(totals):
        rows, of_token = row_of(vocab, total), (row + 1) * random.normal(size=(total + 2, 30))
        chosen = np.stack([masker(rows, RowRng(0, n, rows.ids))[:, 0] for n in range(300)])
        masked = np.s_[row, :, : masker.views, 0]
        tables[masked], counts[masked] = chosen @ of_token, chosen.sum(2)
    found = sums_of(tables, counts, forms=distance_forms(masker.views, views))
    shares, (value, low, high), theory = by_distance(found, masker, totals)
    of_six = np.array([0, (2 + 1 + 1 + 2) / 4, (3 + 2 + 3) / 3, (4 + 4) / 2, 6]) / 6  # of windows at 0, 2, 3, 4 and 6
    assert shares == pytest.approx((of_six + np.arange(5) / 4) / 2)
    assert theory[0] == value[0] == 1 and theory[-1] < 0
    assert value == pytest.approx(theory, abs=0.03) and (low <= high).all()


def test_rows_of_one_token_have_no_windows(vocab):
    masker = windows(0.15, vocab)
    for total, size in ((0, 0), (1, 0), (2, 1), (3, 1), (20, 3)):
        rows = row_of(vocab, total)
        assert (masker(rows, RowRng(0, 1, rows.ids)).sum(2) == size).all()
    tables = np.zeros((2, 3, masker.views, 1, 4))
    found = sums_of(tables, np.zeros(tables.shape[:-1]), forms=distance_forms(masker.views, masker.views))
    shares, correlations, _ = by_distance(found, masker, np.array([0, 1]))
    assert (shares == 0).all() and np.isnan(correlations).all()


@pytest.mark.parametrize("mode", ["together", "in_turn", "sequential"])
def test_draws_are_of_all_parts_that_take_turns(vocab, mode):
    masker = read_policies([f"fully_explored masks=4 partition=contiguous mode={mode}"], vocab)[0].masker
    rows = row_of(vocab, 24)
    masks = np.concatenate([masker(rows, rng)[:, 0] for rng in draws_of(masker, rows, 400, 1, 0)])
    assert masks.mean(0)[1:-1] == pytest.approx(np.full(24, 0.25), abs=0.08)


def test_draws_of_policies_differ(vocab):
    masker, rows = windows(0.15, vocab), row_of(vocab, 24)
    numbers = {rng.epoch for seed in (1, 2) for number in (0, 1) for rng in draws_of(masker, rows, 4, seed, number)}
    assert len(numbers) == 16
    assert draws_of(masker, rows, 2, 1, 0) == draws_of(masker, rows, 4, 1, 0)[:2]


def moments(policy, tables):
    """Of gradients, float [R, D, N, P], each view having one target; two groups of weights."""
    return sums_of(
        tables[..., None, :], np.ones((*tables.shape[:3], 1)), groups=(slice(0, 2), slice(2, None)), policy=policy
    )


@pytest.fixture(scope="module")
def policies():
    """Gradients of 150 rows: their means vary by 3 in all; a view's by 10, two views of the second have -2 in common.

    The second group has three weights of five. The second policy has two views, and is 1 off at each weight.
    """
    random = np.random.default_rng(4)
    rows = random.normal(size=(150, 1, 1, 5)) * np.sqrt(3 / 5)
    single = rows + random.normal(size=(150, 40, 1, 5)) * np.sqrt(2)
    common = random.normal(size=(150, 40, 1, 5)) * np.sqrt(0.4)
    apiece = random.normal(size=(150, 40, 2, 5)) * np.sqrt(1.6)
    pair = 1 + rows + apiece + common * np.array([1, -1])[:, None]
    return summarised([moments("one", single), moments("pair", pair)], ["small", "large"])


def near(value, expected):
    assert value[1] < value[0] < value[2] and value[0] == pytest.approx(expected, rel=0.12)


def test_figures_are_those_of_the_gradients(policies):
    one, pair = policies
    # of an update: 10 and 10 / 2 + (1 - 1 / 2) * -2 = 4; of as many independent masks 5
    for found, share, masks in ((one, 1, 10), (pair, 1, 4)):
        near(found.figures.masks, share * masks)
        near(found.figures.rows, share * 3)
        near(found.figures.share, masks / (masks + 3))
    assert one.figures.mask_pass == one.figures.whole_pass == (1, 1, 1) and one.figures.bias == (0, 0, 0)
    near(pair.figures.mask_pass, 2 * 4 / 10)
    near(pair.figures.independent, 4 / 5)
    near(pair.figures.whole_pass, 2 * (4 + 3) / (10 + 3))  # more than one mask of another row has
    near(pair.figures.bias, 5 / 10)
    assert pair.by_row.mean() == pytest.approx(pair.figures.mask_pass[0])


def test_groups_have_the_same_figures(policies):
    one, pair = policies
    for name, share in (("small", 2 / 5), ("large", 3 / 5)):
        figures = pair.by_group[name]
        near(figures.masks, share * 4)
        near(figures.rows, share * 3)
        near(figures.mask_pass, 2 * 4 / 10)
        near(figures.independent, 4 / 5)
        near(figures.whole_pass, 2 * 7 / 13)
        near(figures.bias, 5 / 10)
    for found in (one, pair):
        for name in ("masks", "rows"):
            parts = [getattr(figures, name)[0] for figures in found.by_group.values()]
            assert sum(parts) == pytest.approx(getattr(found.figures, name)[0])


def test_a_baseline_of_several_views_is_what_others_are_compared_with(policies):
    random = np.random.default_rng(5)
    (found,) = summarised([moments("two views", random.normal(size=(30, 10, 2, 5)))], ["small", "large"])
    assert found.figures.mask_pass == found.figures.whole_pass == (1, 1, 1)
    assert found.by_row.mean() == pytest.approx(1)


def test_gradients_that_are_not_finite_are_told_of(policies):
    of_policies = summarised([moments("broken", np.full((3, 2, 1, 5), np.nan))], ["small", "large"])
    nothing = np.full(2, np.nan)
    seen = Variance("a model", 1, of_policies, np.arange(2.0), np.full((3, 2), np.nan), nothing)
    told = json.loads(json.dumps(seen.to_dict(), allow_nan=False))
    assert told["policies"][0]["masks"] == [None, None, None] and told["distances"][1]["theory"] is None
    assert "-" in seen.lines()[3] and "<svg" in page_of([seen])


def test_training_goes_from_left_to_right(policies):
    def page(*steps):
        text = page_of([Variance("", step, policies, np.arange(2.0), np.ones((3, 2)), np.ones(2)) for step in steps])
        return text[text.index("Over training") : text.index("Step ")]

    assert page(1, 20, 300) == page(300, 1, 20)
