"""Layers: the numbers and gradients of torch.nn.TransformerEncoderLayer."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from taskmask.modules.layers import EncoderLayer, FeedForward

WIDTH, HEADS, INNER = 32, 4, 64
NAMES = {
    "self_attn.in_proj_": "attention.qkv.",
    "self_attn.out_proj.": "attention.output.",
    "linear1.": "feed_forward.input.",
    "linear2.": "feed_forward.output.",
    "norm1.": "attention_norm.",
    "norm2.": "feed_forward_norm.",
}


def our_name(name):
    for theirs, ours in NAMES.items():
        if name.startswith(theirs):
            return ours + name.removeprefix(theirs)
    raise KeyError(name)


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("norm", ["post", "pre"])
def test_equals_torch_encoder_layer(norm, padded):
    torch.manual_seed(0)
    theirs = nn.TransformerEncoderLayer(
        WIDTH, HEADS, INNER, dropout=0.0, activation="gelu", batch_first=True, norm_first=norm == "pre"
    )
    for parameter in theirs.parameters():
        nn.init.normal_(parameter, std=0.3)
    ours = EncoderLayer(WIDTH, HEADS, INNER, norm=norm)
    ours.load_state_dict({our_name(name): value for name, value in theirs.state_dict().items()})
    keep = torch.arange(9)[None] < torch.tensor([[9], [4]]) if padded else None
    x = torch.randn(2, 9, WIDTH, requires_grad=True)
    twin = x.detach().clone().requires_grad_()
    got = ours(x, keep)
    expected = theirs(twin, src_key_padding_mask=None if keep is None else ~keep)
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-5)

    weight = torch.randn_like(got)
    (got * weight).sum().backward()
    (expected * weight).sum().backward()
    torch.testing.assert_close(x.grad, twin.grad, atol=1e-4, rtol=1e-4)
    gradients = {name: parameter.grad for name, parameter in ours.named_parameters()}
    for name, parameter in theirs.named_parameters():
        torch.testing.assert_close(gradients[our_name(name)], parameter.grad, atol=1e-4, rtol=1e-4)


def test_geglu_by_hand():
    torch.manual_seed(0)
    layer = FeedForward(WIDTH, INNER, "geglu", bias=False)
    x = torch.randn(2, 3, WIDTH)
    gate, value = layer.input.weight[:INNER], layer.input.weight[INNER:]
    expected = (F.gelu(x @ gate.T) * (x @ value.T)) @ layer.output.weight.T
    torch.testing.assert_close(layer(x), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("norm", ["post", "pre"])
def test_dropout_acts_in_training_only(norm):
    torch.manual_seed(0)
    layer = EncoderLayer(WIDTH, HEADS, INNER, norm=norm, dropout=0.5)
    x = torch.randn(2, 5, WIDTH)
    assert not torch.equal(layer(x), layer(x))
    layer.eval()
    assert torch.equal(layer(x), layer(x))


def test_without_biases_no_vector_but_the_gains():
    layer = EncoderLayer(WIDTH, HEADS, INNER, bias=False)
    assert [name for name, parameter in layer.named_parameters() if parameter.dim() == 1] == [
        "attention_norm.weight",
        "feed_forward_norm.weight",
    ]
