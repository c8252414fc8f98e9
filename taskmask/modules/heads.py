"""Heads: hidden states to the outputs that a task asks for.

Shapes: N rows, T tokens, D width, V vocabulary, P target positions.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from taskmask.modules.spec import HeadSpec


class LMHead(nn.Module):
    """Scores every entry of the vocabulary, at the target positions only.

    Dense, GELU, LayerNorm, then the product with the token embedding (tied) and a bias. The embedding is passed in by
    the model, so it is a parameter of the model's embeddings alone and is saved once.

    **Source:** google-research/bert, `run_pretraining.get_masked_lm_output`; Press and Wolf 2017 (arXiv 1608.05859),
    section 2 (tied output).

    Args:
        width: D.
        vocab_size: V.
        norm_epsilon: added to the variance in LayerNorm.
        bias: whether dense and norm have biases; the output has one in any case.
    """

    def __init__(self, width: int, vocab_size: int, norm_epsilon: float = 1e-5, bias: bool = True):
        super().__init__()
        self.dense = nn.Linear(width, width, bias=bias)
        self.norm = nn.LayerNorm(width, norm_epsilon, bias=bias)
        self.output_bias = nn.Parameter(self.dense.weight.new_zeros(vocab_size))

    def forward(self, hidden: Tensor, positions: Tensor | None, embedding: Tensor) -> Tensor:
        """Scores the vocabulary.

        Args:
            hidden: [N, T, D].
            positions: int64 [P], flat indices into N x T; P may be 0. None: all, P = N T.
            embedding: the token embedding, [V, D].

        Returns:
            Logits [P, V], in the dtype of the matrix products.
        """
        flat = hidden.flatten(0, 1)  # [N, T, D] -> [N T, D]
        if positions is not None:
            flat = flat.index_select(0, positions)  # [P, D]
        return F.linear(self.norm(F.gelu(self.dense(flat))), embedding, self.output_bias)


def build_head(
    spec: HeadSpec, width: int, vocab_size: int, *, norm_epsilon: float = 1e-5, bias: bool = True
) -> nn.Module:
    """Builds the head that `spec` describes; every head is called with (hidden, positions, embedding)."""
    if spec.kind == "lm":
        return LMHead(width, vocab_size, norm_epsilon, bias)
    raise ValueError(f"unknown kind of head {spec.kind!r}; expected lm")
