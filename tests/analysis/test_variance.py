"""What is said of a policy's gradients, against gradients that are made up and known."""

import numpy as np
import pytest

from taskmask.analysis.gradients import Products, draws_of, windows
from taskmask.analysis.inspect import read_policies
from taskmask.analysis.variance import by_distance
from taskmask.data.draws import Draw
from taskmask.data.rows import Rows
from taskmask.data.vocab import Vocabulary, train_vocabulary


@pytest.fixture(scope="module")
def vocab():
    return Vocabulary(train_vocabulary(["the quick brown fox jumps over the lazy dog"] * 20, 300, kind="bpe"))


def row_of(vocab, total):
    """A row of `total` tokens that can be masked."""
    pieces = np.flatnonzero(~vocab.is_special)[:total]
    tokens = np.concatenate([[vocab.bos], pieces, [vocab.eos]])[None]
    return Rows(tokens, np.array([total + 2]), np.array([total]), vocab)


def products_of(tables):
    """[1, R, D, K, D, K] of gradients, float [D, K, P] of each row."""
    return np.stack([np.einsum("dkp,elp->dkel", table, table) for table in tables])[None]


def test_sums_over_masked_tokens_lie_on_the_line_of_the_theory(vocab):
    """Though windows of 6 tokens and of 4 cannot be moved by quarters, and rows differ in their variance."""
    random, masker, totals = np.random.default_rng(0), windows(0.15, vocab).masker, (40, 26)
    chosen, tables = [], []
    for scale, total in enumerate(totals, 1):
        rows, of_token = row_of(vocab, total), scale * random.normal(size=(total + 2, 30))
        chosen.append(np.stack([masker(rows, Draw(0, n, rows.ids))[:, 0] for n in range(300)]))
        tables.append(chosen[-1] @ of_token / chosen[-1].sum(2, keepdims=True))
    counts, nothing = np.stack([masks.sum(2) for masks in chosen]), np.zeros((1, 2))
    products = products_of(tables)
    found = Products("windows", masker.views, products, counts, nothing, nothing, chosen, np.array(totals))
    shares, (value, low, high), theory = by_distance(found)
    of_six = np.array([0, (2 + 1 + 1 + 2) / 4, (3 + 2 + 3) / 3, (4 + 4) / 2, 6]) / 6  # of windows at 0, 2, 3, 4 and 6
    assert shares == pytest.approx((of_six + np.arange(5) / 4) / 2)
    assert theory[0] == value[0] == 1 and theory[-1] < 0
    assert value == pytest.approx(theory, abs=0.03) and (low <= high).all()


@pytest.mark.parametrize("mode", ["together", "in_turn", "sequential"])
def test_draws_are_of_all_parts_that_take_turns(vocab, mode):
    masker = read_policies([f"fully_explored masks=4 partition=contiguous mode={mode}"], vocab)[0].masker
    rows = row_of(vocab, 24)
    masks = np.concatenate([masker(rows, draw)[:, 0] for draw in draws_of(masker, rows, 400, 1, 0)])
    assert masks.mean(0)[1:-1] == pytest.approx(np.full(24, 0.25), abs=0.08)


def test_draws_of_policies_differ(vocab):
    masker, rows = windows(0.15, vocab).masker, row_of(vocab, 24)
    numbers = {draw.epoch for seed in (1, 2) for number in (0, 1) for draw in draws_of(masker, rows, 4, seed, number)}
    assert len(numbers) == 16
    assert draws_of(masker, rows, 2, 1, 0) == draws_of(masker, rows, 4, 1, 0)[:2]
