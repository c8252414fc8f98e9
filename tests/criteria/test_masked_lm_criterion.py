"""The sums of masked language modelling, by hand."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from taskmask.criteria.masked_lm import MaskedLMCriterion
from taskmask.data.batch import Batch
from taskmask.registry import NoOptions

VOCAB = 11
criterion = MaskedLMCriterion(NoOptions())


def batch_of(labels):
    return Batch({}, {"mlm": torch.tensor(labels, dtype=torch.int64)}, np.arange(2), 12)


def test_sums_by_hand():
    torch.manual_seed(0)
    logits, labels = torch.randn(4, VOCAB, requires_grad=True), [3, 0, 10, 3]
    sums = criterion.loss({"mlm": logits}, batch_of(labels))
    chances = logits.detach().double().softmax(-1)
    by_hand = -sum(math.log(row[label]) for row, label in zip(chances, labels, strict=True))
    assert sums["mlm"].item() == pytest.approx(by_hand, rel=1e-6)
    torch.testing.assert_close(sums["mlm"], F.cross_entropy(logits, torch.tensor(labels), reduction="none").sum())
    assert set(criterion.weights) == {"mlm"} and criterion.weights["mlm"] == 1.0
    sums["mlm"].backward()
    expected = logits.detach().softmax(-1) - F.one_hot(torch.tensor(labels), VOCAB)  # of a sum, not of a mean
    torch.testing.assert_close(logits.grad, expected)


def test_twice_the_targets_are_twice_the_sums():
    torch.manual_seed(0)
    logits, labels = torch.randn(3, VOCAB), [1, 2, 3]
    once = criterion.loss({"mlm": logits}, batch_of(labels))
    twice = criterion.loss({"mlm": logits.repeat(2, 1)}, batch_of(labels * 2))
    assert all(twice[name].item() == pytest.approx(2 * once[name].item()) for name in ("mlm", "mlm_correct"))


def test_correct_counts_the_right_guesses():
    logits = F.one_hot(torch.tensor([3, 0, 10, 3]), VOCAB).float().requires_grad_()
    for labels, right in [([3, 0, 10, 3], 4), ([3, 1, 10, 4], 2), ([4, 1, 0, 4], 0)]:
        sums = criterion.loss({"mlm": logits}, batch_of(labels))
        assert sums["mlm_correct"].item() == right
        assert sums["mlm_correct"].dtype == torch.float32 and not sums["mlm_correct"].requires_grad


@pytest.mark.parametrize("labels", [[], [3], [3, 0, 10, 3]])
def test_count_is_the_number_of_labels(labels):
    assert criterion.count(batch_of(labels)) == {"mlm": len(labels)}


def test_no_targets_are_a_loss_of_zero_that_still_has_a_gradient():
    hidden = torch.randn(6, 4, requires_grad=True)
    logits = hidden[:0] @ torch.randn(4, VOCAB)
    sums = criterion.loss({"mlm": logits}, batch_of([]))
    assert sums["mlm"].item() == 0 and sums["mlm_correct"].item() == 0
    sums["mlm"].backward()
    assert hidden.grad is not None and not hidden.grad.any()


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_short_logits_are_summed_in_fp32(dtype, autocast):
    """4096 losses of about 2.4: in bf16 the sum would stop at a few hundred, and in fp16 lose its last digits."""
    torch.manual_seed(0)
    logits, labels = torch.randn(4096, VOCAB).to(dtype).requires_grad_(), torch.arange(4096) % VOCAB
    with torch.autocast("cpu", dtype, enabled=autocast):
        sums = criterion.loss({"mlm": logits}, batch_of(labels.tolist()))
    assert sums["mlm"].dtype == torch.float32
    exact = F.cross_entropy(logits.detach().double(), labels, reduction="sum").item()
    assert sums["mlm"].item() == pytest.approx(exact, rel=1e-5)
    assert sums["mlm_correct"].item() == (logits.argmax(-1) == labels).sum().item()
    sums["mlm"].backward()
    assert logits.grad.dtype == dtype and logits.grad.isfinite().all()


def test_forward_runs_the_model_on_the_inputs():
    class Model(torch.nn.Module):
        def forward(self, tokens, positions):
            return {"mlm": F.one_hot(tokens[positions["mlm"]], VOCAB).float()}

    batch = batch_of([5, 7])
    batch.inputs = {"tokens": torch.tensor([0, 5, 0, 6]), "positions": {"mlm": torch.tensor([1, 3])}}
    sums = criterion(Model(), batch)
    assert sums["mlm_correct"].item() == 1
