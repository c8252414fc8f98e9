"""Heads: at the target positions, the same as everywhere."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from taskmask.modules.heads import LMHead, build_head
from taskmask.modules.heads_spec import HeadSpec
from taskmask.modules.init import init_weights, residual_scale_of

WIDTH, VOCAB = 16, 50


@pytest.fixture
def parts():
    torch.manual_seed(0)
    head = build_head(HeadSpec("lm"), WIDTH, VOCAB)
    assert isinstance(head, LMHead)
    nn.init.normal_(head.output_bias)
    return head, torch.randn(3, 5, WIDTH, requires_grad=True), torch.randn(VOCAB, WIDTH, requires_grad=True)


def test_by_hand(parts):
    head, hidden, embedding = parts
    transformed = F.layer_norm(F.gelu(F.linear(hidden, head.dense.weight, head.dense.bias)), (WIDTH,))
    expected = (transformed @ embedding.T + head.output_bias).reshape(15, VOCAB)
    torch.testing.assert_close(head(hidden, None, embedding), expected, atol=1e-5, rtol=1e-5)


def test_at_positions_equals_everywhere_gathered(parts):
    head, hidden, embedding = parts
    positions = torch.tensor([0, 4, 7, 14])
    got = head(hidden, positions, embedding)
    torch.testing.assert_close(got, head(hidden, None, embedding)[positions], atol=1e-5, rtol=1e-5)
    (gradient,) = torch.autograd.grad(got.square().sum(), hidden)
    touched = gradient.reshape(15, WIDTH).abs().sum(1) > 0
    assert touched.nonzero().flatten().tolist() == positions.tolist()


@pytest.mark.parametrize("bf16", [False, True])
def test_no_position_at_all(parts, bf16):
    head, hidden, embedding = parts
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        logits = head(hidden, torch.zeros(0, dtype=torch.int64), embedding)
        assert logits.shape == (0, VOCAB)
        logits.sum().backward()
    for tensor in (hidden, embedding, *head.parameters()):
        assert tensor.grad is not None and not tensor.grad.any()


STYLES = {"tanh": torch.tanh, "relu": F.relu, "gelu": F.gelu, "gelu_norm": lambda x: F.layer_norm(F.gelu(x), (WIDTH,))}


@pytest.mark.parametrize("pool", ["first", "mean"])
@pytest.mark.parametrize("style", STYLES)
def test_scores_of_rows_by_hand(parts, style, pool):
    _, hidden, embedding = parts
    head = build_head(HeadSpec("row", 4), WIDTH, VOCAB, style=style, pool=pool, bias=False).eval()
    assert head.dense.bias is None and head.scores.bias is not None
    for keep in (None, torch.arange(5)[None] < torch.tensor([[5], [3], [1]])):
        lengths = [5, 5, 5] if keep is None or pool == "first" else [5, 3, 1]
        pooled = hidden[:, 0]
        if pool == "mean":
            pooled = torch.stack([row[:length].mean(0) for row, length in zip(hidden, lengths, strict=True)])
        expected = head.scores(STYLES[style](pooled @ head.dense.weight.T))
        torch.testing.assert_close(head(hidden, None, embedding, keep), expected)


@pytest.mark.parametrize("style", STYLES)
def test_scores_of_tokens_by_hand(parts, style):
    _, hidden, embedding = parts
    head = build_head(HeadSpec("token", 4), WIDTH, VOCAB, style=style).eval()
    inner = STYLES[style](head.dense(hidden)) if style == "gelu_norm" else hidden
    expected = head.scores(inner).view(15, 4)
    torch.testing.assert_close(head(hidden, None, embedding), expected)
    positions = torch.tensor([2, 3, 14])
    torch.testing.assert_close(head(hidden, positions, embedding), expected[positions])
    assert head(hidden, positions[:0], embedding).shape == (0, 4)


def test_dropout_of_scores_in_training_only(parts):
    _, hidden, embedding = parts
    for kind in ("row", "token"):
        head = build_head(HeadSpec(kind, 4), WIDTH, VOCAB, dropout=0.5)
        assert not torch.equal(head(hidden, None, embedding), head(hidden, None, embedding))
        head.eval()
        assert torch.equal(head(hidden, None, embedding), head(hidden, None, embedding))


def test_a_narrow_embedding(parts):
    _, hidden, _ = parts
    head = build_head(HeadSpec("lm"), WIDTH, VOCAB, embedding_width=6)
    assert head(hidden, None, torch.randn(VOCAB, 6)).shape == (15, VOCAB)


def test_unknown_kind():
    with pytest.raises(ValueError, match="'poetry'"):
        build_head(HeadSpec("poetry"), WIDTH, VOCAB)
    with pytest.raises(ValueError, match="a row head of size 0; expected at least 1"):
        build_head(HeadSpec("row"), WIDTH, VOCAB)


def test_first_weights():
    torch.manual_seed(0)
    model = nn.ModuleDict({"input": nn.Linear(400, 500), "output": nn.Linear(500, 400), "norm": nn.LayerNorm(8)})
    init_weights(model, 0.02, residual_scale_of("pre", 8))
    assert model["input"].weight.std().item() == pytest.approx(0.02, rel=0.01)
    assert model["output"].weight.std().item() == pytest.approx(0.005, rel=0.01)
    assert not model["input"].bias.any() and not model["norm"].bias.any()
    assert (model["norm"].weight == 1).all()
    assert residual_scale_of("post", 8) == 1
