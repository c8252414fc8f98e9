"""Feed-forward and encoder layer.

Shapes: N rows, T tokens, D width, F inner width of the feed-forward.
"""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from taskmask.modules.attention import Rotation, SelfAttention
from taskmask.modules.dropout import Dropout


class FeedForward(nn.Module):
    """Two linear layers, token by token, with GELU between them; with "geglu" the first one is gated.

    **Source:** Vaswani et al. 2017 (arXiv 1706.03762), section 3.3; Hendrycks and Gimpel 2016 (arXiv 1606.08415),
    section 2 (GELU, exact); Shazeer 2020 (arXiv 2002.05202), equation 6 (GEGLU: gelu(x W) * (x V), then W2).

    Args:
        width: D.
        inner: F; with "geglu" the width of each of the two halves.
        activation: "gelu" or "geglu".
        bias: whether the linear layers have biases.
    """

    def __init__(self, width: int, inner: int, activation: Literal["gelu", "geglu"] = "gelu", bias: bool = True):
        super().__init__()
        self.gated = activation == "geglu"
        self.input = nn.Linear(width, 2 * inner if self.gated else inner, bias=bias)  # gated: rows of W, then of V
        self.output = nn.Linear(inner, width, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """Maps [..., D] to [..., D]."""
        inner = self.input(x)
        if not self.gated:
            return self.output(F.gelu(inner))
        gate, value = inner.chunk(2, dim=-1)  # [..., 2 F] -> [..., F] each
        return self.output(F.gelu(gate) * value)


class EncoderLayer(nn.Module):
    """Self-attention and feed-forward, each with dropout, a residual sum and a LayerNorm.

    **Source:** post-norm: Vaswani et al. 2017 (arXiv 1706.03762), section 3.1; pre-norm: Xiong et al. 2020 (arXiv
    2002.04745), section 3.1, table 1. As in BERT, there is no dropout between the two feed-forward products.

    Args:
        width: D.
        heads: attention heads, a divisor of D.
        inner: F, inner width of the feed-forward.
        norm: "post": LayerNorm of each residual sum; "pre": of each sublayer's input.
        activation: "gelu" or "geglu".
        dropout: probability of dropping an element of a sublayer's output.
        attention_dropout: probability of dropping an attention weight.
        norm_epsilon: added to the variance in LayerNorm.
        bias: whether linear layers and norms have biases.
        attention_norm: False: no LayerNorm of the attention's input, where one stood already ("pre").
    """

    def __init__(
        self,
        width: int,
        heads: int,
        inner: int,
        *,
        norm: Literal["post", "pre"] = "post",
        activation: Literal["gelu", "geglu"] = "gelu",
        dropout: float = 0.0,
        attention_dropout: float = 0.0,
        norm_epsilon: float = 1e-5,
        bias: bool = True,
        attention_norm: bool = True,
    ):
        super().__init__()
        self.norm_first = norm == "pre"
        self.attention = SelfAttention(width, heads, attention_dropout, bias)
        self.attention_norm = nn.LayerNorm(width, norm_epsilon, bias=bias) if attention_norm else nn.Identity()
        self.feed_forward = FeedForward(width, inner, activation, bias)
        self.feed_forward_norm = nn.LayerNorm(width, norm_epsilon, bias=bias)
        self.dropout = Dropout(dropout)

    def forward(
        self, x: Tensor, keep: Tensor | None = None, rotation: Rotation | None = None, first: int | None = None
    ) -> Tensor:
        """Runs the layer.

        Args:
            x: [N, T, D].
            keep: bool [N, T], True at real tokens, or bool [N or 1, T, T], query by key; None: all.
            rotation: of `rotary_angles`; None: no rotary positions.
            first: tokens of each row, from its start, that are computed; None: all.

        Returns:
            [N, T or first, D].
        """
        residual = x if first is None else x[:, :first]
        if self.norm_first:
            x = residual + self.dropout(self.attention(self.attention_norm(x), keep, rotation, first))
            return x + self.dropout(self.feed_forward(self.feed_forward_norm(x)))
        x = self.attention_norm(residual + self.dropout(self.attention(x, keep, rotation, first)))
        return self.feed_forward_norm(x + self.dropout(self.feed_forward(x)))
