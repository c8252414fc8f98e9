"""Probabilities and log-odds of classes: right, and in order, also of answers that are all but certain."""

import math
from fractions import Fraction

import numpy as np
import pytest
import torch

from taskmask.tasks.class_scores import described, log_odds


def test_log_odds_of_many_scores_are_those_of_their_probabilities():
    logits = torch.randn(200, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 3
    chances = logits.softmax(-1)
    torch.testing.assert_close(log_odds(logits), torch.log(chances) - torch.log1p(-chances), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("margin", [0.0, 1.0, 8.3, 16.7, 40.0, 500.0])
def test_of_two_classes_the_log_odds_are_the_difference_of_the_logits(margin):
    """log(p / (1 - p)) with p = e^a / (e^a + e^b) is a - b, whatever of it p itself can hold."""
    found = log_odds(torch.tensor([[margin - 2, -2]], dtype=torch.float64))
    assert found[0].tolist() == pytest.approx([margin, -margin], rel=1e-14)


def test_of_several_classes_beyond_what_fp64_holds_of_p():
    """With scores k, 0, 0, 0 the odds are e^k / 3."""
    found = log_odds(torch.tensor([[50.0, 0.0, 0.0, 0.0]], dtype=torch.float64))[0]
    assert found[0].item() == pytest.approx(50 - math.log(3), rel=1e-14)
    assert found[1].item() == pytest.approx(-50.0, rel=1e-14)


def test_answers_that_are_all_but_certain_keep_their_order():
    """In fp16 p is 1 from odds of 8.3 on, in fp32 from 16.6; log-odds kept in fp32 order them all."""
    margins = torch.linspace(9, 60, 400)
    found = described(torch.stack([margins, torch.zeros(400)], 1), ["yes", "no"], ("confidence", "log_odds"))
    confidence, odds = (found[name].float().numpy() for name in ("confidence", "log_odds"))
    assert (confidence.astype(np.float16) == 1).all() and (confidence == 1).sum() > 300
    assert (np.diff(odds) > 0).all()


def test_a_probability_is_rounded_once():
    """That of fp64, to the nearest of fp32; in fp32 the sum of the exponentials is rounded, too."""
    margin = 9.25
    exact = 1 / (1 + Fraction(math.exp(-margin)))
    found = described(torch.tensor([[margin, 0.0]]), ["yes", "no"], ("confidence", "probability:no"))
    assert found["confidence"].float().item() == float(np.float32(float(exact)))
    assert found["probability:no"].float().item() == float(np.float32(float(1 - exact)))


def test_what_is_said_of_one_class():
    logits = torch.tensor([[0.5, 2.0, -1.0], [3.0, 0.0, 1.0]])
    what = ("label", "confidence", "log_odds", "probabilities", "logits", "probability:b:c", "logit:a", "log_odds:a")
    found = described(logits, ["a", "b:c", "d"], what)
    chances = logits.double().softmax(-1)
    assert tuple(found) == what and found["label"].tolist() == [1, 0]
    assert torch.equal(found["probabilities"], chances) and torch.equal(found["logits"], logits)
    assert torch.equal(found["probability:b:c"], chances[:, 1]) and torch.equal(found["logit:a"], logits[:, 0])
    assert torch.equal(found["confidence"], chances.amax(-1))
    assert torch.equal(found["log_odds"], log_odds(logits).amax(-1))
    assert torch.equal(found["log_odds:a"], log_odds(logits)[:, 0])
