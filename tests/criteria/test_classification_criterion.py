"""Cross-entropy of classes: what a weight multiplies, beside smoothing, and what is logged."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from taskmask.criteria import ClassificationLossConfig
from taskmask.criteria.classification import ClassificationCriterion
from taskmask.data.batch import Batch

NAMES = ["common", "rare", "absent"]


def criterion_of(counts, **options):
    criterion = ClassificationCriterion(ClassificationLossConfig(**options))
    criterion.prepare(NAMES[: len(counts)], np.array(counts))
    return criterion


def sums_of(criterion, logits, labels):
    batch = Batch({}, {"label": labels}, None, 0)
    return criterion.loss({"label": logits}, batch), criterion.count(batch)


@pytest.fixture
def given():
    generator = torch.Generator().manual_seed(1)
    labels = torch.arange(12) % 4 - 1
    return torch.randn(12, 3, generator=generator, requires_grad=True), labels


def test_a_weight_multiplies_the_smoothed_loss_of_its_own_target(given):
    logits, labels = given
    criterion = criterion_of([3, 2, 1], class_weights=("rare=7", "absent=0.5"), label_smoothing=0.2)
    sums, counts = sums_of(criterion, logits, labels)
    weights, logs = torch.tensor([1.0, 7.0, 0.5]), logits.log_softmax(-1)
    by_hand = plain = total = 0.0
    for row, label in zip(logs, labels.tolist(), strict=True):
        if label >= 0:
            by_hand = by_hand - weights[label] * (0.8 * row[label] + 0.2 * row.mean())
            plain, total = plain - row[label].item(), total + weights[label].item()
    torch.testing.assert_close(sums["label"], by_hand)
    assert counts["label"] == pytest.approx(total) and sums["label_rows"] == (labels >= 0).sum()
    assert sums["label_plain"].item() == pytest.approx(plain, rel=1e-6) and not sums["label_plain"].requires_grad
    criterion.eval()
    sums, counts = sums_of(criterion, logits, labels)
    assert sums["label"].item() == pytest.approx(plain, rel=1e-6) and counts["label"] == (labels >= 0).sum()
    assert "label_plain" not in sums


def test_weights_without_smoothing_and_smoothing_without_weights_are_those_of_torch(given):
    logits, labels = given
    weights = torch.tensor([1.0, 7.0, 0.5])
    ours = sums_of(criterion_of([3, 2, 1], class_weights=("rare=7", "absent=0.5")), logits, labels)[0]["label"]
    torch.testing.assert_close(ours, F.cross_entropy(logits, labels, weights, ignore_index=-1, reduction="sum"))
    ours = sums_of(criterion_of([3, 2, 1], label_smoothing=0.2), logits, labels)[0]["label"]
    theirs = F.cross_entropy(logits, labels, ignore_index=-1, reduction="sum", label_smoothing=0.2)
    torch.testing.assert_close(ours, theirs)


def test_balanced_weights_with_smoothing_leave_separable_classes_apart():
    """980 rows of one class and 20 of the other, told apart by one number each: the rare class takes none over."""
    labels = torch.tensor([0] * 980 + [1] * 20)
    inputs = F.one_hot(labels, 2).float()
    criterion = criterion_of([980, 20], class_weights=("balanced",), label_smoothing=0.1)
    torch.manual_seed(0)
    model = torch.nn.Linear(2, 2)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    for _ in range(60):
        sums, counts = sums_of(criterion, model(inputs), labels)
        optimizer.zero_grad()
        (sums["label"] / counts["label"]).backward()
        optimizer.step()
    chances = model(inputs).softmax(-1)
    assert (chances.argmax(-1) == labels).all()
    # the best there is: the smoothed targets themselves, 0.95 and 0.05, for both classes
    torch.testing.assert_close(chances[[0, -1], [0, 1]], torch.full((2,), 0.95), atol=0.01, rtol=0)


def test_balanced_weights_give_each_class_that_occurs_the_same_say():
    criterion = criterion_of([6, 2, 0], class_weights=("balanced",))
    np.testing.assert_allclose(criterion.class_weights.numpy(), [8 / (2 * 6), 8 / (2 * 2), 0], rtol=1e-6)
    assert criterion_of([0, 0, 0], class_weights=("balanced",)).class_weights.tolist() == [0, 0, 0]
