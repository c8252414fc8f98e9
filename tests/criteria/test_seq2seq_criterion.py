"""Cross-entropy of written texts: sums, counts, smoothing."""

import pytest
import torch

from taskmask.criteria import Seq2SeqLossConfig
from taskmask.criteria.seq2seq import Seq2SeqCriterion
from taskmask.data.batch import Batch
from taskmask.errors import ConfigError


@pytest.fixture
def given():
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(7, 11, generator=generator, requires_grad=True)
    labels = torch.randint(11, (7,), generator=generator)
    labels[:3] = logits[:3].argmax(-1)
    return logits, labels


def losses(given, smoothing=0.0, training=True, part=slice(None)):
    criterion = Seq2SeqCriterion(Seq2SeqLossConfig(label_smoothing=smoothing)).train(training)
    batch = Batch({}, {"seq2seq": given[1][part]}, None, 0)
    return criterion.loss({"seq2seq": given[0][part]}, batch), criterion.count(batch)


def test_sums_and_counts(given):
    sums, counts = losses(given)
    chances = given[0].softmax(-1)[torch.arange(7), given[1]]
    assert sums["seq2seq"].item() == pytest.approx(-chances.log().sum().item(), rel=1e-6) and counts == {"seq2seq": 7}
    right = (given[0].argmax(-1) == given[1]).sum().item()
    assert sums["seq2seq_correct"].item() == right >= 3
    parts = [losses(given, part=part)[0]["seq2seq"].item() for part in (slice(3), slice(3, None))]
    assert sum(parts) == pytest.approx(sums["seq2seq"].item(), rel=1e-6)


def test_smoothing_is_for_training_alone(given):
    logs = given[0].log_softmax(-1)
    right, all_of = logs[torch.arange(7), given[1]].sum(), logs.mean(-1).sum()
    sums = losses(given, 0.1)[0]
    assert sums["seq2seq_plain"].item() == pytest.approx(-right.item(), rel=1e-6)
    smoothed = sums["seq2seq"].item()
    assert smoothed == pytest.approx(-(0.9 * right + 0.1 * all_of).item(), rel=1e-6)
    assert losses(given, 0.1, training=False)[0]["seq2seq"].item() == pytest.approx(-right.item(), rel=1e-6)
    assert "seq2seq_plain" not in {**losses(given)[0], **losses(given, 0.1, training=False)[0]}


def test_without_targets_the_loss_is_0_and_has_a_gradient(given):
    sums, counts = losses(given, part=slice(0))
    assert sums["seq2seq"].item() == 0 and counts == {"seq2seq": 0}
    sums["seq2seq"].backward()
    assert not given[0].grad.any()


def test_options():
    with pytest.raises(ConfigError, match=r"criterion.label_smoothing: is 1.0"):
        Seq2SeqLossConfig(label_smoothing=1.0)
