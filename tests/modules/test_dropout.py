"""Dropout: the right rate, mean and gradient, and the same numbers for the same seed."""

import pytest
import torch

from taskmask.modules.dropout import STEPS, Dropout, dropout


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_rate_mean_and_variance(p, dtype):
    torch.manual_seed(1)
    count = 400_000
    y = dropout(torch.ones(count, dtype=dtype), p).double()
    tolerance = 5 * (p * (1 - p) / count) ** 0.5
    assert abs((y == 0).double().mean() - p) < tolerance
    scale_error = 0.0 if dtype == torch.float32 else 2**-8
    assert abs(y.mean() - 1) < tolerance / (1 - p) + scale_error
    assert y.var().item() == pytest.approx(p / (1 - p), rel=0.05)


def test_kept_elements_are_scaled_by_the_realised_rate():
    x = torch.randn(3, 5, 7)
    y = dropout(x, 0.1)
    threshold = round(0.1 * STEPS)
    kept = y != 0
    torch.testing.assert_close(y[kept], x[kept] * (STEPS / (STEPS - threshold)))


def test_every_quarter_of_a_draw_is_used_alike():
    torch.manual_seed(2)
    kept = (dropout(torch.ones(100_000, 4), 0.5) != 0).double()
    assert (kept.mean(0) - 0.5).abs().max() < 0.01
    assert (torch.corrcoef(kept.T) - torch.eye(4)).abs().max() < 0.02


@pytest.mark.parametrize("shape", [(0,), (1,), (3,), (4, 1), (2, 0, 3), (5, 7)])
def test_any_shape_and_a_view(shape):
    assert dropout(torch.ones(shape), 0.3).shape == shape
    assert dropout(torch.ones(7, 5).T, 0.3).shape == (5, 7)


def test_same_seed_same_mask():
    x = torch.ones(1000)
    torch.manual_seed(3)
    first = dropout(x, 0.1)
    second = dropout(x, 0.1)
    torch.manual_seed(3)
    assert torch.equal(first, dropout(x, 0.1))
    assert not torch.equal(first, second)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_gradient_is_the_mask_times_the_scale(dtype):
    x = (torch.rand(64, 33) + 1).to(dtype).requires_grad_()
    y = dropout(x, 0.25)
    gradient = torch.randn(64, 33).to(dtype)
    y.backward(gradient)
    assert x.grad is not None and x.grad.dtype == dtype
    factor = torch.where(y != 0, STEPS / (STEPS - STEPS // 4), 0.0).to(dtype)
    assert torch.equal(x.grad, gradient * factor)


def test_module_drops_in_training_only():
    x = torch.ones(1000)
    module = Dropout(0.5)
    assert (module(x) == 0).any()
    assert module.eval()(x) is x
    assert Dropout(0.0)(x) is x
    assert "0.5" in repr(module)


@pytest.mark.parametrize("p", [0.0, 1e-9])
def test_a_rate_that_rounds_to_nothing_changes_nothing(p):
    x = torch.ones(10)
    assert dropout(x, p) is x


def test_compiled_draws_the_same_numbers_and_no_draw_is_merged_or_repeated():
    def twice(x):
        return dropout(x, 0.3).sin() + 10 * dropout(x, 0.3).sin()

    results = []
    for function in (twice, torch.compile(twice, backend="aot_eager_decomp_partition", fullgraph=True)):
        torch.manual_seed(5)
        x = torch.linspace(0.5, 1.5, 1001).requires_grad_()
        y = function(x)
        y.sum().backward()
        results.append((y.detach(), x.grad))
    torch.testing.assert_close(results[0], results[1])
    assert len(results[0][0].sign().unique()) == 2
    assert ((results[0][0] > 0) & (results[0][0] < 2)).any(), "some element is dropped by the second draw only"
