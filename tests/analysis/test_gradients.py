"""Gradients of a tiny model under all masks and all partitions of a row: the check of the theorem by enumeration."""

import itertools

import numpy as np
import pytest
import torch
from moments_help import sums_of

from taskmask.analysis.variance.gradients import Gradients
from taskmask.config.settings import Settings
from taskmask.data.batch import TokenBatch
from taskmask.data.rng import RowRng
from taskmask.maskers.base import Masker, MaskerConfig
from taskmask.registry import TASKS
from taskmask.stats.gradient_moments import APART, Added
from taskmask.tokenizer.tokenizer import Vocabulary, train_vocabulary
from taskmask.training.build import build_objective

N, S, K = 8, 2, 4  # tokens, tokens of a mask, masks of a partition
MASKS = list(itertools.combinations(range(N), S))  # 28
PARTITIONS = [
    one for one in itertools.combinations(range(len(MASKS)), K) if len({t for m in one for t in MASKS[m]}) == N
]
SCALE = 20  # of the weights: as small as they begin, gradients are as good as sums over tokens
MODEL = {"name": "mini", "layers": 1, "width": 16, "heads": 2}


class Listed(Masker):
    """The masks that a test names, whatever the row."""

    def __init__(self, masks, vocab):
        super().__init__(MaskerConfig(), vocab)
        self.masks, self.views = masks, len(masks)

    def select(self, batch, rng):
        return self.masks[:, None]


@pytest.fixture(scope="module")
def vectors():
    """Float64 [4, 28, P]: of four rows the gradient of each mask of two tokens, each replaced by <mask>."""
    vocab = Vocabulary(train_vocabulary(["the quick brown fox jumps over the lazy dog"] * 20, 300, kind="bpe"))
    options = {"mask_share": 1.0, "random_share": 0.0}
    settings = Settings.of(task={"name": "masked_lm", **options}, data={"length": N + 2}, model=MODEL)
    task = TASKS.get("masked_lm").make(settings.task.options, vocab, None, {})
    objective = build_objective(settings, task)
    with torch.no_grad():
        for weight in objective.parameters():
            weight.mul_(SCALE if weight.ndim > 1 else 1)
    gradients = Gradients(objective, torch.device("cpu"))
    masks = np.zeros((len(MASKS), N + 2), bool)
    masks[np.arange(len(MASKS))[:, None], np.array(MASKS) + 1] = True
    task.masker = Listed(masks, vocab)
    found = torch.empty(4, len(MASKS), 1, gradients.size)
    random, pieces = np.random.default_rng(0), np.flatnonzero(~vocab.is_special)
    for row in range(4):
        tokens = np.concatenate([[vocab.bos], random.choice(pieces, N), [vocab.eos]])[None]
        rows = TokenBatch(tokens, np.array([N + 2]), np.array([row]), vocab)
        counts = gradients.of(rows, task, RowRng(1, 1, rows.ids), found[row])
        assert (counts == S).all()
    return found[:, :, 0].double().numpy() / S


def of_distance(row):
    """{Hamming distance: covariance of the gradients of two masks} of a row, and the variance over partitions."""
    away = row - row.mean(0)
    products = away @ away.T
    distance = np.array([[2 * len(set(first) - set(second)) for second in MASKS] for first in MASKS])
    updates = np.array([away[list(one)].mean(0) for one in PARTITIONS])
    return {h: products[distance == h].mean() for h in (0, 2, 4)}, np.mean(np.sum(updates**2, 1))


def test_the_identity_of_masks_that_share_an_update(vectors):
    """Var = s^2 / K + (1 - 1 / K) C(2s), to the digits of the gradients; the enumeration of the reference."""
    assert (len(MASKS), len(PARTITIONS)) == (28, 105)
    for row in vectors:
        covariance, of_partition = of_distance(row)
        assert of_partition == pytest.approx(covariance[0] / K + (1 - 1 / K) * covariance[4], rel=1e-9)
        means = np.array([row[list(one)].mean(0) for one in PARTITIONS])
        assert means.mean(0) == pytest.approx(row.mean(0), abs=1e-9)  # a random partition has no bias
        assert -1 / (K - 1) <= covariance[4] / covariance[0] < 0 < covariance[2] / covariance[0] < 1


def test_the_measured_variances_are_those_of_all_partitions(vectors):
    """Each partition begins with any of its masks, so that every view is any mask."""
    orders = np.array([np.roll(one, n) for one in PARTITIONS for n in range(K)])
    short = np.stack([np.linalg.qr(row.T)[1].T for row in vectors])  # with the same inner products
    tables = S * short[:, orders][..., None, :]  # [R, D, N, 1, 28]
    found = Added.of(sums_of(tables, np.full(tables.shape[:-1], float(S))))
    for row, (masks, apart) in enumerate(zip(found.masks(), found.masks(form=APART), strict=True)):
        covariance, of_partition = of_distance(vectors[row])
        of_all = (len(orders) - 1) / len(orders)
        assert masks * of_all == pytest.approx(of_partition) and apart * of_all == pytest.approx(covariance[0] / K)


def test_masks_of_a_partition_vary_as_those_of_the_reference(vectors):
    """It has 0.27 to 0.30 of independent masks, correlations +0.21 to +0.22 and -0.23 to -0.25, of a tiny model."""
    found = [of_distance(row) for row in vectors]
    own = np.mean([covariance[0] for covariance, _ in found])
    near, far = (np.mean([covariance[h] for covariance, _ in found]) / own for h in (2, 4))
    ratio = K * np.mean([of_partition for _, of_partition in found]) / own
    assert ratio == pytest.approx(1 + (K - 1) * far)
    assert [ratio, near, far] == pytest.approx([0.285, 0.215, -0.24], abs=0.03)


def test_sums_over_tokens_cancel(vectors):
    """The first-order part of the gradients: linear in the distance, a third, minus a third; 0 of a partition."""
    inside = np.array([[token in mask for token in range(N)] for mask in MASKS], float)
    for row in vectors:
        of_token = np.linalg.lstsq(inside, row, rcond=None)[0]
        covariance, of_partition = of_distance(inside @ of_token)
        assert of_partition == pytest.approx(0, abs=1e-9 * covariance[0])
        assert [covariance[2] / covariance[0], covariance[4] / covariance[0]] == pytest.approx([1 / 3, -1 / 3])


def test_a_fixed_partition_is_biased(vectors):
    neighbours = [MASKS.index((token, token + 1)) for token in range(0, N, 2)]
    for row in vectors:
        covariance, _ = of_distance(row)
        assert np.sum((row[neighbours].mean(0) - row.mean(0)) ** 2) > 0.05 * covariance[0] / K
