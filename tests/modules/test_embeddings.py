"""Embeddings: token plus place, normalised."""

import pytest
import torch
import torch.nn.functional as F

from taskmask.modules.embeddings import Embeddings


def test_sum_of_token_and_place_then_norm():
    torch.manual_seed(0)
    module = Embeddings(20, 8, 6)
    tokens = torch.randint(20, (3, 5))
    expected = F.layer_norm(module.tokens.weight[tokens] + module.positions.weight[:5], (8,))
    torch.testing.assert_close(module(tokens), expected)


def test_without_learned_positions_order_does_not_matter():
    module = Embeddings(20, 8, None)
    tokens = torch.randint(20, (3, 50))
    assert torch.equal(module(tokens.flip(1)), module(tokens).flip(1))
    assert [name for name, _ in module.named_parameters()] == ["tokens.weight", "norm.weight", "norm.bias"]


def test_rows_longer_than_the_positions():
    with pytest.raises(ValueError, match=r"rows of 7 tokens.*positions for 6.*max_length"):
        Embeddings(20, 8, 6)(torch.zeros(1, 7, dtype=torch.int64))


def test_dropout_in_training_only():
    module = Embeddings(20, 8, 6, dropout=0.5)
    tokens = torch.zeros(2, 6, dtype=torch.int64)
    assert (module(tokens) == 0).any()
    assert not (module.eval()(tokens) == 0).any()


def test_segments_are_added():
    torch.manual_seed(0)
    module = Embeddings(20, 8, 6, segments=2)
    tokens, segments = torch.randint(20, (3, 5)), torch.randint(2, (3, 5))
    sums = module.tokens.weight[tokens] + module.positions.weight[:5]
    expected = F.layer_norm(sums + module.segments.weight[segments], (8,))
    torch.testing.assert_close(module(tokens, segments), expected)
    torch.testing.assert_close(module(tokens), module(tokens, torch.zeros_like(tokens)))


def test_without_embeddings_of_segments_they_are_not_looked_at():
    module = Embeddings(20, 8, 6)
    tokens = torch.randint(20, (3, 5))
    assert torch.equal(module(tokens, torch.ones_like(tokens)), module(tokens))


def test_narrow_embeddings_are_projected():
    module = Embeddings(20, 8, 6, embedding_width=4)
    tokens = torch.randint(20, (3, 5))
    inner = F.layer_norm(module.tokens.weight[tokens] + module.positions.weight[:5], (4,))
    torch.testing.assert_close(module(tokens), inner @ module.projection.weight.T + module.projection.bias)
