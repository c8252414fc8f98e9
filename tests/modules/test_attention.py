"""Attention: the numbers of torch.nn.MultiheadAttention, and the two laws of rotary positions."""

import pytest
import torch
from torch import nn

from taskmask.modules.attention import SelfAttention, attend, attend_explicitly, local_mask, rotary_angles, rotate

ROWS, TOKENS, WIDTH, HEADS = 3, 11, 32, 4


def padded_rows():
    keep = torch.ones(ROWS, TOKENS, dtype=torch.bool)
    keep[0, 7:] = False
    keep[2, 2:] = False
    return keep


@pytest.mark.parametrize("padded", [False, True])
def test_equals_torch_multihead_attention(padded):
    torch.manual_seed(0)
    theirs = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True)
    nn.init.normal_(theirs.in_proj_bias)
    nn.init.normal_(theirs.out_proj.bias)
    ours = SelfAttention(WIDTH, HEADS)
    ours.qkv.load_state_dict({"weight": theirs.in_proj_weight, "bias": theirs.in_proj_bias})
    ours.output.load_state_dict(theirs.out_proj.state_dict())
    keep = padded_rows() if padded else None
    x = torch.randn(ROWS, TOKENS, WIDTH, requires_grad=True)
    twin = x.detach().clone().requires_grad_()
    got = ours(x, keep)
    expected, _ = theirs(twin, twin, twin, key_padding_mask=None if keep is None else ~keep, need_weights=False)
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-5)

    weight = torch.randn_like(got)
    (got * weight).sum().backward()
    (expected * weight).sum().backward()
    torch.testing.assert_close(x.grad, twin.grad, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(ours.qkv.weight.grad, theirs.in_proj_weight.grad, atol=1e-4, rtol=1e-5)
    torch.testing.assert_close(ours.output.bias.grad, theirs.out_proj.bias.grad, atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize("padded", [False, True])
def test_explicit_and_fused_attention_agree(padded):
    torch.manual_seed(0)
    keep = padded_rows() if padded else None
    results = []
    for function in (attend, attend_explicitly):
        torch.manual_seed(1)
        q, k, v = (torch.randn(ROWS, HEADS, TOKENS, 8, requires_grad=True) for _ in range(3))
        out = function(q, k, v, keep)
        out.square().sum().backward()
        results.append((out.detach(), q.grad, k.grad, v.grad))
    for fused, explicit in zip(*results, strict=True):
        torch.testing.assert_close(fused, explicit, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("tokens", [16, 520])
def test_bf16_follows_fp32_on_both_sides_of_the_switch(tokens):
    torch.manual_seed(0)
    q, k, v = (torch.randn(2, 2, tokens, 16) for _ in range(3))
    keep = torch.arange(tokens)[None] < torch.tensor([[tokens], [tokens // 2]])
    exact = attend(q, k, v, keep)
    low = attend(q.bfloat16(), k.bfloat16(), v.bfloat16(), keep)
    assert low.dtype == torch.bfloat16
    torch.testing.assert_close(low.float(), exact, atol=3e-2, rtol=3e-2)


def test_what_padding_holds_does_not_matter():
    torch.manual_seed(0)
    keep = padded_rows()
    attention = SelfAttention(WIDTH, HEADS)
    x = torch.randn(ROWS, TOKENS, WIDTH)
    other = torch.where(keep[..., None], x, 100 * torch.randn_like(x))
    assert torch.equal(attention(x, keep)[keep], attention(other, keep)[keep])


def test_attention_dropout_keeps_the_mean_and_stops_in_evaluation():
    torch.manual_seed(0)
    attention = SelfAttention(WIDTH, HEADS, dropout=0.2)
    x = torch.randn(1, TOKENS, WIDTH)
    mean = torch.stack([attention(x) for _ in range(2000)]).mean(0)
    assert not torch.equal(attention(x), attention(x))
    attention.eval()
    assert torch.equal(attention(x), attention(x))
    torch.testing.assert_close(mean, attention(x), atol=0.02, rtol=0)


def test_heads_must_divide_the_width():
    with pytest.raises(ValueError, match="5 heads do not divide the width 32"):
        SelfAttention(32, 5)


def test_rotary_equals_multiplication_by_complex_numbers():
    torch.manual_seed(0)
    d = 16
    x = torch.randn(2, 3, TOKENS, d, dtype=torch.float64)
    got = rotate(x, rotary_angles(TOKENS, d, torch.device("cpu")))
    position = torch.arange(TOKENS, dtype=torch.float64)
    frequency = 10000.0 ** (-torch.arange(d // 2, dtype=torch.float64) * 2 / d)
    turned = torch.complex(x[..., : d // 2], x[..., d // 2 :]) * torch.exp(1j * position[:, None] * frequency)
    torch.testing.assert_close(got, torch.cat((turned.real, turned.imag), dim=-1), atol=1e-5, rtol=1e-5)


def test_rotary_scores_depend_on_the_distance_only():
    torch.manual_seed(0)
    d = 16
    q, k = (torch.randn(d).expand(1, 1, TOKENS, d) for _ in range(2))
    rotation = rotary_angles(TOKENS, d, torch.device("cpu"))
    scores = (rotate(q, rotation) @ rotate(k, rotation).transpose(-2, -1))[0, 0]
    for distance in range(-TOKENS + 1, TOKENS):
        diagonal = scores.diagonal(distance)
        torch.testing.assert_close(diagonal, diagonal[:1].expand_as(diagonal), atol=1e-4, rtol=1e-4)
    assert scores[0].std() > 0.1


def test_rotary_keeps_dtype_length_and_the_first_token():
    x = torch.randn(1, 1, 5, 8).bfloat16()
    y = rotate(x, rotary_angles(5, 8, x.device))
    assert y.dtype == torch.bfloat16
    assert torch.equal(y[..., 0, :], x[..., 0, :])
    torch.testing.assert_close(y.float().norm(dim=-1), x.float().norm(dim=-1), rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("window", [0, 1, 2, 5, 6])
def test_local_mask_by_hand(window):
    keep = torch.arange(8)[None] < torch.tensor([[8], [2]])
    for kept in (None, keep):
        mask = local_mask(8, window, kept, torch.device("cpu"))
        for row in range(len(mask)):
            for query in range(8):
                for key in range(8):
                    near = abs(query - key) <= window // 2 and (kept is None or bool(kept[row, key]))
                    assert mask[row, query, key] == (near or (kept is not None and query == key))
    assert local_mask(4, 6, keep, torch.device("cpu")) is keep


@pytest.mark.parametrize("dropout", [0.0, 1e-9])
def test_a_mask_of_queries_and_keys(dropout):
    """The two ways of `attend`; dropout this small drops nothing."""
    torch.manual_seed(0)
    q, k, v = torch.randn(3, 2, 4, 8, 6)
    mask = local_mask(8, 4, torch.arange(8)[None] < torch.tensor([[8], [3]]), q.device)
    scores = (q @ k.transpose(-2, -1) * 6**-0.5).masked_fill(~mask[:, None], float("-inf"))
    torch.testing.assert_close(attend(q, k, v, mask, dropout), scores.softmax(-1) @ v, atol=1e-5, rtol=1e-5)
