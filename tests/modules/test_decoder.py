"""Decoder layers: the numbers and gradients of torch.nn.TransformerDecoderLayer; a cache that changes nothing."""

import pytest
import torch
from torch import nn

from taskmask.modules.attention import attend, attend_explicitly, causal_mask
from taskmask.modules.decoder import Cache, DecoderLayer

WIDTH, HEADS, INNER = 32, 4, 64
NAMES = {
    "self_attn.in_proj_": "attention.qkv.",
    "self_attn.out_proj.": "attention.output.",
    "multihead_attn.out_proj.": "cross_attention.output.",
    "linear1.": "feed_forward.input.",
    "linear2.": "feed_forward.output.",
    "norm1.": "attention_norm.",
    "norm2.": "cross_attention_norm.",
    "norm3.": "feed_forward_norm.",
}


def ours_of(named):
    """Their parameters, or gradients, by our names."""
    found = {}
    for name, value in named.items():
        if name.startswith("multihead_attn.in_proj_"):
            leaf = name.removeprefix("multihead_attn.in_proj_")
            found[f"cross_attention.query.{leaf}"] = value[:WIDTH]
            found[f"cross_attention.memory.{leaf}"] = value[WIDTH:]
        else:
            (start,) = [start for start in NAMES if name.startswith(start)]
            found[NAMES[start] + name.removeprefix(start)] = value
    return found


def close(got, expected, tolerance=1e-5):
    torch.testing.assert_close(got, expected, atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("norm", ["post", "pre"])
def test_equals_torch_decoder_layer(norm, padded):
    torch.manual_seed(0)
    theirs = nn.TransformerDecoderLayer(
        WIDTH, HEADS, INNER, dropout=0.0, activation="gelu", batch_first=True, norm_first=norm == "pre"
    )
    for parameter in theirs.parameters():
        nn.init.normal_(parameter, std=0.3)
    ours = DecoderLayer(WIDTH, HEADS, INNER, norm=norm)
    ours.load_state_dict(ours_of(theirs.state_dict()))
    keep = torch.arange(7)[None] < torch.tensor([[7], [3]]) if padded else None
    x, source = (torch.randn(2, tokens, WIDTH, requires_grad=True) for tokens in (9, 7))
    twin, twin_source = (tensor.detach().clone().requires_grad_() for tensor in (x, source))
    got = ours(x, ours.cross_attention.keys_values(source), keep)
    mask = nn.Transformer.generate_square_subsequent_mask(9)
    padding = None if keep is None else ~keep
    expected = theirs(twin, twin_source, tgt_mask=mask, memory_key_padding_mask=padding, tgt_is_causal=True)
    close(got, expected)

    weight = torch.randn_like(got)
    (got * weight).sum().backward()
    (expected * weight).sum().backward()
    close(x.grad, twin.grad, 1e-4)
    close(source.grad, twin_source.grad, 1e-4)
    gradients = {name: parameter.grad for name, parameter in ours.named_parameters()}
    wanted = ours_of({name: parameter.grad for name, parameter in theirs.named_parameters()})
    assert gradients.keys() == wanted.keys()
    for name in wanted:
        close(gradients[name], wanted[name], 1e-4)


def test_causal_attention_fused_and_explicit():
    torch.manual_seed(0)
    q, k, v = torch.randn(3, 2, HEADS, 6, 8)
    close(attend(q, k, v, causal=True), attend_explicitly(q, k, v, causal_mask(6, q.device)))
    near = attend(q.bfloat16(), k.bfloat16(), v.bfloat16(), causal=True)  # explicit on a CPU
    close(near.float(), attend(q, k, v, causal=True), 0.03)
    assert causal_mask(3, q.device).tolist() == [[[True, False, False], [True, True, False], [True, True, True]]]


@pytest.mark.parametrize("norm", ["post", "pre"])
def test_dropout_acts_in_training_only(norm):
    torch.manual_seed(0)
    for dropouts in ({"dropout": 0.5}, {"attention_dropout": 0.5}):
        layer = DecoderLayer(WIDTH, HEADS, INNER, norm=norm, **dropouts)
        x, memory = torch.randn(2, 5, WIDTH), layer.cross_attention.keys_values(torch.randn(2, 4, WIDTH))
        assert not torch.equal(layer(x, memory), layer(x, memory))
        layer.eval()
        assert torch.equal(layer(x, memory), layer(x, memory))


def test_hypotheses_share_what_they_have_in_common():
    """Each of the branches of a tree of tokens gives what it gives alone; rows may leave."""
    torch.manual_seed(0)
    layer = DecoderLayer(WIDTH, HEADS, INNER).eval()
    memory = layer.cross_attention.keys_values(torch.randn(2, 4, WIDTH))
    said = torch.randn(2, 3, WIDTH)  # what all begin with
    cache = Cache([memory], None, room=3 + 2 + 3 + 3)
    cache.read_on(3, said.device)
    close(layer(said, memory, None, cache), layer(said, memory))
    texts = said[:, None]  # [N, K, T, D]
    for parents in ([[0, 0], [0, 0]], [[1, 1, 0], [0, 1, 0]], [[2, 0, 2]]):
        parents = torch.tensor(parents)
        if len(parents) == 1:  # row 0 leaves
            cache.select(torch.tensor([1]))
            texts = texts[1:]
        new = torch.randn(*parents.shape, WIDTH)
        kept = texts.gather(1, parents[:, :, None, None].expand(-1, -1, *texts.shape[2:]))
        texts = torch.cat((kept, new[:, :, None]), 2)
        cache.branch(parents)
        got = layer(new, cache.memory[0], None, cache)
        for row in range(len(texts)):
            alone = tuple(part[row : row + 1].expand(parents.shape[1], -1, -1, -1) for part in cache.memory[0])
            close(got[row], layer(texts[row], alone)[:, -1])
    assert cache.place == 6 and cache.used == cache.room


def test_heads_that_do_not_divide_the_width():
    with pytest.raises(ValueError, match="5 heads do not divide the width 32"):
        DecoderLayer(WIDTH, 5, INNER)
