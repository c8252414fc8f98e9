#!/usr/bin/env bash
# torch.nn.functional.cross_entropy with `weight` and `label_smoothing`: which weight multiplies the smoothed part?
#
# Library: torch 2.13.0, torch.nn.functional.cross_entropy (and torch.nn.CrossEntropyLoss).
# Guess: a class weight is the weight of a target, so the loss of a target is weight[target] * smoothed loss: weights
#   say how much each row counts, and the best prediction for a row is its smoothed target, whatever the weights.
# Behaviour: the smoothed share of EVERY class is multiplied by the weight of THAT class:
#   (1 - e) * w[y] * -log p[y] + e / C * sum_c w[c] * -log p[c], divided by the sum of w[y].
#   With balanced weights for 980 : 20 rows (0.51 and 25) and e = 0.1 the best prediction for a row of the common class
#   is the rare class, with probability 0.72: separable classes are learned to the accuracy of the rare share, 0.02.
# Source: the program below. The documentation of torch.nn.CrossEntropyLoss gives the formula for class probabilities
#   as targets, of which smoothing is a case, but not for class indices with both arguments.
# Output seen:
#   one target, weight 0.51: torch 2.7202, weight x smoothed loss 0.1158
#   accuracy on 980 : 20 separable rows: torch 0.02, weight x smoothed loss 1.00
#   torch's probability of the rare class for a common row: 0.72
# Exit code: not 0 if torch no longer behaves so.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 numpy
"$folder/venv/bin/python" - <<'P'
import torch
import torch.nn.functional as F

counts = torch.tensor([980, 20])
weight = counts.sum() / (2 * counts)
logits, label = torch.tensor([[2.0, 0.0]]), torch.tensor([0])
theirs = F.cross_entropy(logits, label, weight=weight, label_smoothing=0.1, reduction="sum")
of_target = weight[0] * F.cross_entropy(logits, label, label_smoothing=0.1)
by_class = -(0.9 * weight[0] * logits.log_softmax(-1)[0, 0] + 0.05 * (weight * logits.log_softmax(-1)[0]).sum())
assert torch.isclose(theirs, by_class) and not torch.isclose(theirs, of_target)
print(f"one target, weight 0.51: torch {theirs:.4f}, weight x smoothed loss {of_target:.4f}")

labels = torch.arange(2).repeat_interleave(counts)
inputs = F.one_hot(labels, 2).float()  # separable: one number says the class


def torchs(logits):
    return F.cross_entropy(logits, labels, weight=weight, label_smoothing=0.1)


def of_targets(logits):
    each = F.cross_entropy(logits, labels, label_smoothing=0.1, reduction="none")
    return (weight[labels] * each).sum() / weight[labels].sum()


accuracy = {}
for loss in (torchs, of_targets):
    torch.manual_seed(0)
    model = torch.nn.Linear(2, 2)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    for _ in range(300):
        optimizer.zero_grad()
        loss(model(inputs)).backward()
        optimizer.step()
    chances = model(inputs).softmax(-1)
    accuracy[loss.__name__] = (chances.argmax(-1) == labels).float().mean().item()
    if loss is torchs:
        rare = chances[0, 1].item()
print(f"accuracy on 980 : 20 separable rows: torch {accuracy['torchs']:.2f}, "
      f"weight x smoothed loss {accuracy['of_targets']:.2f}")
print(f"torch's probability of the rare class for a common row: {rare:.2f}")
assert abs(accuracy["torchs"] - 0.02) < 1e-6 and accuracy["of_targets"] == 1.0 and abs(rare - 0.72) < 0.01
P
