"""The loss of spans: by hand, and blind to what may not be chosen."""

import numpy as np
import torch
import torch.nn.functional as F

from taskmask.criteria.span import SpanCriterion
from taskmask.data.batch import Batch
from taskmask.registry import NoOptions


def batch_of(choices, spans):
    targets = {"choices": torch.tensor(choices), "span": torch.tensor(spans)}
    return Batch({}, targets, np.arange(len(choices)), 0)


def test_by_hand():
    """First 1 of 0, 1, 2 with logits 0, log 2, log 3; last 0 of the same: -(log 2/6 + log 1/6) / 2."""
    choices = [[True, True, True, False]]
    column = torch.tensor([1.0, 2.0, 3.0, 1e9]).log()
    criterion = SpanCriterion(NoOptions())
    sums = criterion.loss({"span": torch.stack([column, column], 1)}, batch_of(choices, [[1, 0]]))
    assert torch.isclose(sums["span"], (torch.tensor(3.0).log() + torch.tensor(6.0).log()) / 2)
    assert criterion.count(batch_of(choices, [[1, 0]])) == {"span": 1}


def test_rows_are_summed_and_what_is_ruled_out_has_no_gradient():
    torch.manual_seed(0)
    logits = torch.randn(3 * 5, 2, requires_grad=True)
    choices = [[True, False, True, True, True], [True, False, True, True, False], [True, False, False, True, True]]
    spans = [[2, 3], [0, 0], [4, 4]]
    criterion = SpanCriterion(NoOptions())
    loss = criterion.loss({"span": logits}, batch_of(choices, spans))["span"]
    parts = []
    for row, span, scores in zip(choices, spans, logits.view(3, 5, 2), strict=True):
        allowed = torch.tensor(row).nonzero()[:, 0]
        at = [int((allowed == place).nonzero()) for place in span]
        parts += [F.cross_entropy(scores[allowed, end], torch.tensor(at[end])) / 2 for end in (0, 1)]
    assert torch.isclose(loss, sum(parts))
    loss.backward()
    moved = logits.grad.view(3, 5, 2).abs().sum(-1) > 0
    assert torch.equal(moved, torch.tensor(choices))


def test_no_rows_give_no_loss():
    sums = SpanCriterion(NoOptions()).loss(
        {"span": torch.zeros(0, 2)},
        Batch({}, {"choices": torch.zeros(0, 4, dtype=torch.bool), "span": torch.zeros(0, 2).long()}, np.zeros(0), 0),
    )
    assert sums["span"] == 0
