"""Subsets of an exact size, against all subsets counted out."""

import itertools

import numpy as np
import pytest
import torch

from taskmask.modules.subsets import (
    BLOCKED,
    inclusion,
    largest,
    log_partition,
    log_probability,
    sample_subsets,
    straight_through,
)

CHANCES = torch.tensor([[0.2, 0.5, 0.7, 0.1]], dtype=torch.float64)
TWO = torch.tensor([2])


def test_the_values_of_the_paper():
    scores = CHANCES.logit()
    partition = log_partition(scores, TWO).exp() * (1 - CHANCES).prod()
    assert partition.item() == pytest.approx(0.385)
    expected = [0.2416, 0.7558, 0.8909, 0.1117]
    assert inclusion(scores, TWO)[0].tolist() == pytest.approx(expected, abs=5e-5)


@pytest.mark.parametrize("size", range(6))
def test_all_subsets_counted_out(size):
    scores = torch.randn(1, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(size))
    sizes = torch.tensor([size])
    subsets = torch.zeros(0, 5, dtype=torch.bool)
    for places in itertools.combinations(range(5), size):
        row = torch.zeros(1, 5, dtype=torch.bool)
        row[0, list(places)] = True
        subsets = torch.cat([subsets, row])
    chances = torch.stack([log_probability(scores, row[None], sizes)[0] for row in subsets]).exp()
    assert chances.sum().item() == pytest.approx(1)
    torch.testing.assert_close(inclusion(scores, sizes)[0], (chances[:, None] * subsets).sum(0), atol=1e-12, rtol=0)


def test_draws_have_the_size_and_the_frequencies():
    scores = CHANCES.logit().expand(40_000, -1)
    uniform = torch.rand(40_000, 4, generator=torch.Generator().manual_seed(1))
    chosen = sample_subsets(scores, TWO.expand(40_000), uniform)
    assert (chosen.sum(1) == 2).all()
    bound = 6 * 0.5 / np.sqrt(40_000)
    torch.testing.assert_close(chosen.double().mean(0), inclusion(CHANCES.logit(), TWO)[0], atol=bound, rtol=0)


def test_rows_of_different_sizes_and_blocked_tokens():
    scores = torch.randn(3, 7, generator=torch.Generator().manual_seed(3))
    scores[:, 5:] = BLOCKED
    sizes = torch.tensor([0, 2, 5])
    chances = inclusion(scores, sizes)
    torch.testing.assert_close(chances.sum(1), sizes.float())
    assert (chances[:, 5:] == 0).all() and chances.isfinite().all()
    for number in range(50):
        uniform = torch.rand(3, 7, generator=torch.Generator().manual_seed(number))
        for mask in (sample_subsets(scores, sizes, uniform), straight_through(scores, sizes, uniform, 0.5).bool()):
            assert mask.sum(1).tolist() == [0, 2, 5] and not mask[:, 5:].any()
    assert largest(scores, sizes).sum(1).tolist() == [0, 2, 5]


@pytest.mark.parametrize("temperature", [1.0, 0.3])
def test_masks_are_hard_forwards_and_soft_backwards(temperature):
    scores = torch.randn(4, 6, requires_grad=True, generator=torch.Generator().manual_seed(4))
    uniform = torch.rand(4, 6, generator=torch.Generator().manual_seed(5))
    sizes = torch.tensor([1, 2, 3, 6])
    mask = straight_through(scores, sizes, uniform, temperature)
    assert torch.equal(mask, mask.bool().float()) and mask.detach().sum(1).tolist() == [1, 2, 3, 6]
    values = torch.randn(4, 6, generator=torch.Generator().manual_seed(6))
    (grad,) = torch.autograd.grad((mask * values).sum(), scores)
    noisy = scores.detach() - (-uniform.log()).log()
    again = noisy.clone().requires_grad_()
    (expected,) = torch.autograd.grad((inclusion(again / temperature, sizes) * values).sum(), again)
    torch.testing.assert_close(grad, expected)
    assert grad[:3].abs().min() > 0 and grad[3].abs().max() < 1e-5  # nothing is left to choose in the last row


def test_the_derivative_of_inclusion_is_right():
    scores = torch.randn(2, 5, dtype=torch.float64, requires_grad=True, generator=torch.Generator().manual_seed(7))
    assert torch.autograd.gradcheck(lambda s: inclusion(s, torch.tensor([2, 3])), (scores,))
