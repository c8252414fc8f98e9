"""Uniform masking: the exact budget, every token alike."""

import numpy as np
import pytest

TEXT = "The unreasonably quick brown foxes aren't jumping over the lazy dogs (really)!"


@pytest.mark.parametrize("ratio", [0.0, 0.07, 0.15, 0.5, 1.0])
def test_exactly_the_budget_in_every_row(mask, make_rows, ratio):
    rows = make_rows([TEXT[:length] for length in range(len(TEXT))])
    wanted = ratio * rows.maskable.sum(axis=1)
    found = mask("uniform", rows, ratio=ratio)[0].sum(axis=1)
    assert ((found == np.floor(wanted)) | (found == np.ceil(wanted))).all()


def test_every_token_is_as_likely_and_the_mean_is_exact(mask, copies):
    num, ratio = 40_000, 0.15
    rows = copies(TEXT, num)
    found = mask("uniform", rows, ratio=ratio)[0]
    shares = found[:, rows.maskable[0]].mean(axis=0)
    assert np.abs(shares - ratio).max() < 5 * np.sqrt(ratio * (1 - ratio) / num)
    assert abs(found.sum(axis=1).mean() - ratio * len(shares)) < 5 * 0.5 / np.sqrt(num)


def test_masks_of_two_epochs_are_independent(mask, copies):
    rows = copies(TEXT, 20_000)
    both = mask("uniform", rows, ratio=0.5) & mask("uniform", rows, epoch=2, ratio=0.5)
    shares = both[0][:, rows.maskable[0]].mean(axis=0)
    assert np.abs(shares - 0.25).max() < 5 * np.sqrt(0.25 * 0.75 / len(both[0]))
