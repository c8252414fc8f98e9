"""Heads: hidden states to the outputs that a task asks for.

Shapes: N rows, T tokens, D width, E width of the token embedding, V vocabulary, P target positions, C scores.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from taskmask.modules.dropout import Dropout
from taskmask.modules.heads_spec import HeadSpec

HeadStyle = Literal["tanh", "relu", "gelu", "gelu_norm"]
Pool = Literal["first", "mean"]
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "tanh": torch.tanh,
    "relu": F.relu,
    "gelu": F.gelu,
    "gelu_norm": F.gelu,
}


class LMHead(nn.Module):
    """Scores every entry of the vocabulary, at the target positions only.

    Dense, GELU, LayerNorm, then the product with the token embedding (tied) and a bias. The embedding is passed in by
    the model, so it is a parameter of the model's embeddings alone and is saved once.

    **Source:** google-research/bert, `run_pretraining.get_masked_lm_output`; Press and Wolf 2017 (arXiv 1608.05859),
    section 2 (tied output); google-research/electra, `run_pretraining._get_masked_lm_output` (E below D).

    Args:
        width: D.
        vocab_size: V.
        norm_epsilon: added to the variance in LayerNorm.
        bias: whether dense and norm have biases; the output has one in any case.
        embedding_width: E; 0: D.
    """

    def __init__(
        self, width: int, vocab_size: int, norm_epsilon: float = 1e-5, bias: bool = True, embedding_width: int = 0
    ):
        super().__init__()
        inner = embedding_width or width
        self.dense = nn.Linear(width, inner, bias=bias)
        self.norm = nn.LayerNorm(inner, norm_epsilon, bias=bias)
        self.output_bias = nn.Parameter(self.dense.weight.new_zeros(vocab_size))

    def forward(
        self, hidden: Tensor, positions: Tensor | None, embedding: Tensor, keep: Tensor | None = None
    ) -> Tensor:
        """Scores the vocabulary.

        Args:
            hidden: [N, T, D].
            positions: int64 [P], flat indices into N x T; P may be 0. None: all, P = N T.
            embedding: the token embedding, [V, E].
            keep: not used.

        Returns:
            Logits [P, V], in the dtype of the matrix products.
        """
        flat = at_positions(hidden, positions)  # [P, D]
        return F.linear(self.norm(F.gelu(self.dense(flat))), embedding, self.output_bias)


class TiedHead(nn.Module):
    """Scores every entry of the vocabulary, at the target positions only: the product with the token embedding, a bias.

    **Source:** Press and Wolf 2017 (arXiv 1608.05859), section 2; Lewis et al. 2019 (arXiv 1910.13461).

    Differs from the paper: the bias is trained. BART's, `final_logits_bias` of Hugging Face, is zero for ever.

    Args:
        vocab_size: V.
    """

    def __init__(self, vocab_size: int):
        super().__init__()
        self.output_bias = nn.Parameter(torch.zeros(vocab_size))

    def forward(
        self, hidden: Tensor, positions: Tensor | None, embedding: Tensor, keep: Tensor | None = None
    ) -> Tensor:
        """Scores the vocabulary; arguments and result are those of `LMHead`."""
        return F.linear(at_positions(hidden, positions), embedding, self.output_bias)


class RowHead(nn.Module):
    """Scores of a whole row, from its first token or from the mean of its tokens: dense, activation, dropout, linear.

    **Source:** Devlin et al. 2019 (arXiv 1810.04805), section 3 and google-research/bert, `BertModel` (the pooler) and
    `run_classifier.create_model`; the styles are those of the classifiers that Hugging Face gives the families: "tanh"
    BERT and RoBERTa, "relu" DistilBERT, "gelu" ELECTRA, "gelu_norm" ModernBERT.

    Args:
        width: D.
        size: C.
        style: the activation; "gelu_norm": GELU, then LayerNorm.
        pool: "first": the first token stands for the row; "mean": the mean of its kept tokens.
        dropout: probability of dropping an element before the last product.
        norm_epsilon: added to the variance in LayerNorm.
        bias: whether dense and norm have biases; the last product has one in any case.
    """

    def __init__(
        self,
        width: int,
        size: int,
        *,
        style: HeadStyle = "tanh",
        pool: Pool = "first",
        dropout: float = 0.0,
        norm_epsilon: float = 1e-5,
        bias: bool = True,
    ):
        super().__init__()
        self.mean = pool == "mean"
        self.activation = ACTIVATIONS[style]
        self.dense = nn.Linear(width, width, bias=bias)
        self.norm = nn.LayerNorm(width, norm_epsilon, bias=bias) if style == "gelu_norm" else nn.Identity()
        self.dropout = Dropout(dropout)
        self.scores = nn.Linear(width, size)

    def forward(
        self, hidden: Tensor, positions: Tensor | None, embedding: Tensor, keep: Tensor | None = None
    ) -> Tensor:
        """Scores each row.

        Args:
            hidden: [N, T, D].
            positions: not used.
            embedding: not used.
            keep: bool [N, T], True at real tokens; None: all.

        Returns:
            [N, C].
        """
        if not self.mean:
            pooled = hidden[:, 0]  # [N, T, D] -> [N, D]
        elif keep is None:
            pooled = hidden.mean(1)
        else:
            kept = keep[:, :, None]  # [N, T, 1]
            pooled = (hidden * kept).sum(1) / kept.sum(1)
        return self.scores(self.dropout(self.norm(self.activation(self.dense(pooled)))))


class TokenHead(nn.Module):
    """Scores of each token: dropout, linear; in the style "gelu_norm" dense, GELU and LayerNorm come before.

    **Source:** Devlin et al. 2019 (arXiv 1810.04805), section 5.3; Warner et al. 2024 (arXiv 2412.13663) for the other
    style, as in Hugging Face's `ModernBertForTokenClassification`.

    Args:
        width: D.
        size: C.
        style: "gelu_norm", or any other of `RowHead`.
        dropout: probability of dropping an element before the last product.
        norm_epsilon: added to the variance in LayerNorm.
        bias: whether dense and norm have biases; the last product has one in any case.
    """

    def __init__(
        self,
        width: int,
        size: int,
        *,
        style: HeadStyle = "tanh",
        dropout: float = 0.0,
        norm_epsilon: float = 1e-5,
        bias: bool = True,
    ):
        super().__init__()
        self.dense = nn.Linear(width, width, bias=bias) if style == "gelu_norm" else None
        self.norm = nn.LayerNorm(width, norm_epsilon, bias=bias) if style == "gelu_norm" else nn.Identity()
        self.dropout = Dropout(dropout)
        self.scores = nn.Linear(width, size)

    def forward(
        self, hidden: Tensor, positions: Tensor | None, embedding: Tensor, keep: Tensor | None = None
    ) -> Tensor:
        """Scores tokens.

        Args:
            hidden: [N, T, D].
            positions: int64 [P], flat indices into N x T; P may be 0. None: all, P = N T.
            embedding: not used.
            keep: not used.

        Returns:
            [P, C].
        """
        flat = at_positions(hidden, positions)  # [P, D]
        if self.dense is not None:
            flat = self.norm(F.gelu(self.dense(flat)))
        return self.scores(self.dropout(flat))


def at_positions(hidden: Tensor, positions: Tensor | None) -> Tensor:
    """Takes the tokens at `positions` (int64 [P], flat indices; None: all) out of [N, T, D]: [P, D]."""
    flat = hidden.flatten(0, 1)  # [N, T, D] -> [N T, D]
    return flat if positions is None else flat.index_select(0, positions)


def build_head(
    spec: HeadSpec,
    width: int,
    vocab_size: int,
    *,
    norm_epsilon: float = 1e-5,
    bias: bool = True,
    dropout: float = 0.0,
    style: HeadStyle = "tanh",
    pool: Pool = "first",
    embedding_width: int = 0,
) -> nn.Module:
    """Builds the head that `spec` describes; every head is called with (hidden, positions, embedding, keep)."""
    if spec.kind == "lm":
        return LMHead(width, vocab_size, norm_epsilon, bias, embedding_width)
    if spec.kind not in ("row", "token"):
        raise ValueError(f"unknown kind of head {spec.kind!r}; expected lm, row or token")
    if spec.size < 1:
        raise ValueError(f"a {spec.kind} head of size {spec.size}; expected at least 1")
    if spec.kind == "row":
        return RowHead(width, spec.size, style=style, pool=pool, dropout=dropout, norm_epsilon=norm_epsilon, bias=bias)
    return TokenHead(width, spec.size, style=style, dropout=dropout, norm_epsilon=norm_epsilon, bias=bias)
