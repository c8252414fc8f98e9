"""Optimizer groups, clipping under a loss scale, and the average of the weights."""

import math

import pytest
import torch
from torch import nn

from taskmask.config.settings import OptimSettings
from taskmask.criteria import ClassificationLossConfig
from taskmask.criteria.classification import ClassificationCriterion
from taskmask.modules.heads_spec import HeadSpec
from taskmask.registry import MODELS
from taskmask.training.objective import Objective
from taskmask.training.optim import Average, adamw, gradient_norm, scale_and_clip


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 3), nn.LayerNorm(3), nn.Linear(3, 2))


def with_gradients(scale=1.0):
    module = network()
    for number, parameter in enumerate(module.parameters()):
        parameter.grad = torch.full_like(parameter, float(number + 1) * scale)
    return module


def test_matrices_decay_and_vectors_do_not():
    module = network()
    groups = adamw(module, OptimSettings(weight_decay=0.3)).param_groups
    decayed = {id(p) for p in groups[0]["params"]}
    assert groups[0]["weight_decay"] == 0.3 and groups[1]["weight_decay"] == 0
    assert decayed == {id(p) for p in module.parameters() if p.dim() == 2}
    assert sum(len(group["params"]) for group in groups) == len(list(module.parameters()))


def test_frozen_weights_are_left_out():
    module = network()
    module[0].weight.requires_grad_(False)
    held = {id(p) for group in adamw(module, OptimSettings()).param_groups for p in group["params"]}
    assert id(module[0].weight) not in held and len(held) == 5


@pytest.mark.parametrize("scale", [1.0, 2.0**15])
@pytest.mark.parametrize("clip", [0.0, 0.5, 1e9])
def test_clipping_is_that_of_torch_whatever_the_scale(scale, clip):
    ours, theirs = with_gradients(scale), with_gradients()
    norm = gradient_norm(list(ours.parameters()), scale)
    scale_and_clip(list(ours.parameters()), norm, scale, clip)
    expected = nn.utils.clip_grad_norm_(theirs.parameters(), clip or math.inf)
    assert norm == pytest.approx(float(expected), rel=1e-6)
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_one_bad_number_is_told(bad):
    module = with_gradients()
    module[0].bias.grad[1] = bad
    assert not math.isfinite(gradient_norm(list(module.parameters()), 8.0))


def test_parameters_without_gradients_and_none_at_all():
    module = with_gradients()
    module[0].weight.grad = None
    norm = gradient_norm(list(module.parameters()), 1.0)
    assert norm > 1
    scale_and_clip(list(module.parameters()), norm, 1.0, 1.0)
    assert gradient_norm(list(module.parameters()), 1.0) == pytest.approx(1.0)
    assert gradient_norm(list(network().parameters()), 1.0) == 0


def test_average_follows_its_formula_and_gives_the_weights_back():
    module = network()
    average = Average(module, 0.75)
    seen = []
    for _ in range(3):
        with torch.no_grad():
            module[0].weight.add_(1.0)
        seen.append(module[0].weight.detach().clone())
        average.update()
    by_hand = (seen[0] * 0.75**2 + seen[1] * 0.75 + seen[2]) / (0.75**2 + 0.75 + 1)  # nothing of the start
    torch.testing.assert_close(average.weights["0.weight"], by_hand)
    with pytest.raises(KeyError), average.in_place():
        torch.testing.assert_close(module[0].weight.detach(), by_hand)
        raise KeyError
    assert torch.equal(module[0].weight, seen[2])
    again = Average(network(), 0.75)
    again.load(average.weights, average.updates)
    assert again.updates == 3
    assert all(torch.equal(again.weights[name], tensor) for name, tensor in average.weights.items())


@pytest.mark.parametrize("decay", [0.1, 0.5, 0.999, 0.9999999])
def test_after_one_update_the_average_is_the_weights(decay):
    module = network()
    average = Average(module, decay)
    assert torch.equal(average.weights["0.weight"], module[0].weight)
    with torch.no_grad():
        module[0].weight.normal_()
    average.update()
    assert torch.equal(average.weights["0.weight"], module[0].weight)


SIZES = {"bert_base": {"layers": 12}, "bart_base": {"layers": 6, "decoder_layers": 6}, "bilstm": {"layers": 2}}


@pytest.mark.parametrize("name", SIZES)
def test_layer_wise_decay_is_that_of_electra(name):
    """google-research/electra, `_get_layer_lrs`: embeddings 0, layer i at i + 1, the task at n + 2; n + 2 - depth."""
    small = {"width": 8, "heads": 2, "feed_forward": 8} if name != "bilstm" else {"width": 8}
    entry, sizes = MODELS.get(name), SIZES[name]
    config = entry.config(**{**entry.preset, **small, **sizes})
    heads = {"label": HeadSpec("row", 2)} | ({"seq2seq": HeadSpec("lm")} if name == "bart_base" else {})
    model = entry.make(config, vocab_size=9, max_length=8, heads=heads)
    objective = Objective(model, ClassificationCriterion(ClassificationLossConfig()))
    layers = sum(sizes.values())
    expected = {"embeddings": layers + 2, "target_embeddings": layers + 2, "heads": 0}
    expected |= {f"layers.{n}": layers + 2 - (n + 1) for n in range(sizes["layers"])}
    first = sizes["layers"] + 1
    expected |= {f"decoder_layers.{n}": layers + 2 - (first + n) for n in range(sizes.get("decoder_layers", 0))}
    groups = adamw(objective, OptimSettings(layer_decay=0.5)).param_groups
    scale = {id(p): group["scale"] for group in groups for p in group["params"]}
    found = set()
    for full, parameter in model.named_parameters():
        part, number = full.split(".")[0], full.split(".")[1]
        part = f"{part}.{number}" if part in ("layers", "decoder_layers") else part
        assert scale[id(parameter)] == 0.5 ** expected[part], full
        found.add(part)
    assert found == set(expected) - ({"target_embeddings"} if name != "bart_base" else set())
    plain = adamw(objective, OptimSettings()).param_groups
    assert {group["scale"] for group in plain} == {1.0}
