"""Attention and rotary positions.

Shapes: N rows, T tokens, S tokens that are attended to, D width, H heads, d = D / H width of a head.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from taskmask.modules.dropout import dropout as drop

EXPLICIT_TOKENS = 512
"""Up to this T, bf16 attention on a CPU is quicker as two matrix products than as torch's fused kernel."""

Rotation = tuple[Tensor, Tensor]
"""Cosines and sines of the rotary angles, each [T, d / 2]."""


def attend(
    q: Tensor, k: Tensor, v: Tensor, keep: Tensor | None = None, dropout: float = 0.0, *, causal: bool = False
) -> Tensor:
    """Scaled dot-product attention: softmax(q k^T / sqrt(d)) v.

    Uses torch's fused kernel, except on a CPU where two products and a softmax are quicker: with dropout, which the
    fused kernel there does not have, and in bf16 up to `EXPLICIT_TOKENS`. Forward and backward of 4096 padded tokens, 4
    heads, 64 wide, on 2 cores of an EPYC Zen 5, milliseconds fused / explicit:

    | | T=128 | T=512 | T=1024 |
    |---|---|---|---|
    | fp32 | 15 / 15 | 48 / 91 | 85 / 164 |
    | fp32, dropout | 25 / 17 | 151 / 150 | 296 / 267 |
    | bf16 | 23 / 6 | 43 / 27 | 61 / 70 |
    | bf16, dropout | 26 / 9 | 155 / 55 | 316 / 142 |

    **Source:** Vaswani et al. 2017 (arXiv 1706.03762), section 3.2.1, equation 1.

    Args:
        q: [N, H, T, d].
        k: [N, H, S, d], of the T tokens themselves or of others.
        v: [N, H, S, d].
        keep: bool [N, S], True at the tokens that may be attended to, at least one a row; or bool [N or 1, T, S], query
            by key, as of `local_mask`; None: all.
        dropout: probability that an attention weight is dropped; 0 in evaluation.
        causal: each of the T = S tokens attends to itself and those before it; instead of `keep`.

    Returns:
        [N, H, T, d].
    """
    short_bf16 = q.dtype == torch.bfloat16 and k.shape[-2] <= EXPLICIT_TOKENS
    if q.device.type == "cpu" and (dropout > 0 or short_bf16):
        return attend_explicitly(q, k, v, causal_mask(q.shape[-2], q.device) if causal else keep, dropout)
    mask = None if keep is None else _for_scores(keep)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout, is_causal=causal)


def attend_explicitly(q: Tensor, k: Tensor, v: Tensor, keep: Tensor | None = None, dropout: float = 0.0) -> Tensor:
    """The same as `attend`, with the matrix of attention weights in memory (N x H x T x S numbers)."""
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)  # [N, H, T, S]
    if keep is not None:
        blocked = torch.zeros(keep.shape, dtype=scores.dtype, device=keep.device).masked_fill_(~keep, float("-inf"))
        scores = scores + _for_scores(blocked)  # a sum has a cheaper backward than masked_fill
    weights = scores.softmax(-1)
    return (drop(weights, dropout) if dropout > 0 else weights) @ v


def _for_scores(keep: Tensor) -> Tensor:
    return keep[:, None] if keep.dim() == 3 else keep[:, None, None, :]  # [N, 1, T or 1, S]


def causal_mask(num_tokens: int, device: torch.device) -> Tensor:
    """Who may attend to whom where each token sees itself and those before it: bool [1, T, T], query by key."""
    return torch.ones(1, num_tokens, num_tokens, dtype=torch.bool, device=device).tril()


def local_mask(num_tokens: int, window: int, keep: Tensor | None, device: torch.device) -> Tensor | None:
    """Who may attend to whom where each token sees only its neighbours: those at most window // 2 away.

    **Source:** Beltagy et al. 2020 (arXiv 2004.05150), section 3.1, "sliding window"; Warner et al. 2024 (arXiv
    2412.13663), section 2.1.

    Args:
        num_tokens: T.
        window: tokens in all, both sides together.
        keep: bool [N, T], True at real tokens; None: all.
        device: where to put it.

    Returns:
        bool [N or 1, T, T], query by key; or `keep` itself where the rows are so short that everyone is a neighbour.
    """
    if num_tokens <= window // 2 + 1:
        return keep
    places = torch.arange(num_tokens, device=device)
    distance = (places[:, None] - places).abs()  # [T, T]
    near = (distance <= window // 2)[None]
    if keep is None:
        return near
    # Padding may see itself: far from all real tokens it would see nothing, and a softmax of nothing is not a number.
    return (near & keep[:, None, :]) | (distance == 0)


def rotary_angles(num_tokens: int, head_width: int, device: torch.device, base: float = 10000.0) -> Rotation:
    """The rotary angle of channel pair i at position t is t * base ** (-2 i / d).

    **Source:** Su et al. 2021 (arXiv 2104.09864), section 3.2.2, equation 15.

    Args:
        num_tokens: T.
        head_width: d, even.
        device: where to put them.
        base: the longest wavelength is 2 pi times (nearly) this many tokens.

    Returns:
        Cosines and sines, fp32 [T, d / 2] each.
    """
    frequencies = base ** -(torch.arange(0, head_width, 2, device=device, dtype=torch.float32) / head_width)
    angles = torch.arange(num_tokens, device=device, dtype=torch.float32)[:, None] * frequencies  # [T, d / 2]
    return angles.cos(), angles.sin()


def rotate(x: Tensor, rotation: Rotation) -> Tensor:
    """Turns each pair of channels by the angle of its position, so that q k^T depends on distances only.

    **Source:** Su et al. 2021 (arXiv 2104.09864), section 3.4.2, equation 34. Differs from the paper: channel i is
    paired with i + d / 2 instead of its neighbour, a fixed permutation of the channels (as in GPT-NeoX).

    Args:
        x: queries or keys, [N, H, T, d].
        rotation: of `rotary_angles`.

    Returns:
        Like `x`; computed in fp32.
    """
    cos, sin = rotation
    a, b = x.chunk(2, dim=-1)  # [N, H, T, d / 2] each
    return torch.cat((a * cos - b * sin, a * sin + b * cos), dim=-1).to(x.dtype)


def split_heads(x: Tensor, heads: int, parts: int = 1) -> tuple[Tensor, ...]:
    """Splits a projection, [N, T, parts * D], into its parts (queries, keys, values), [N, H, T, d] each."""
    rows, tokens, _ = x.shape
    return tuple(part.transpose(1, 2) for part in x.view(rows, tokens, parts, heads, -1).unbind(2))


def join_heads(x: Tensor) -> Tensor:
    """Returns [N, H, T, d] as [N, T, D]."""
    return x.transpose(1, 2).flatten(2)


class SelfAttention(nn.Module):
    """Multi-head self-attention; queries, keys and values come from one product.

    **Source:** Vaswani et al. 2017 (arXiv 1706.03762), section 3.2.2.

    Args:
        width: D.
        heads: H, a divisor of D.
        dropout: probability that an attention weight is dropped.
        bias: whether the projections have biases.
    """

    def __init__(self, width: int, heads: int, dropout: float = 0.0, bias: bool = True):
        super().__init__()
        if width % heads:
            raise ValueError(f"{heads} heads do not divide the width {width}")
        self.heads = heads
        self.dropout = dropout
        self.qkv = nn.Linear(width, 3 * width, bias=bias)  # rows: all of q, then k, then v, as in nn.MultiheadAttention
        self.output = nn.Linear(width, width, bias=bias)

    def forward(
        self, x: Tensor, keep: Tensor | None = None, rotation: Rotation | None = None, first: int | None = None
    ) -> Tensor:
        """Lets every token attend to the kept tokens of its row.

        Args:
            x: [N, T, D].
            keep: bool [N, T], True at real tokens, or bool [N or 1, T, T], query by key; None: all.
            rotation: of `rotary_angles`; None: no rotary positions.
            first: tokens of each row, from its start, that are computed; None: all.

        Returns:
            [N, T or first, D].
        """
        if first is None:
            q, k, v = split_heads(self.qkv(x), self.heads, 3)
        else:
            of_q, of_kv = (_part(self.qkv, start, stop) for start, stop in ((0, x.shape[-1]), (x.shape[-1], None)))
            (q,) = split_heads(F.linear(x[:, :first], *of_q), self.heads)
            k, v = split_heads(F.linear(x, *of_kv), self.heads, 2)
            keep = keep[:, :first] if keep is not None and keep.dim() == 3 else keep
        if rotation is not None:
            q, k = rotate(q, (rotation[0][:first], rotation[1][:first])), rotate(k, rotation)
        return self.output(join_heads(attend(q, k, v, keep, self.dropout if self.training else 0.0)))


def _part(linear: nn.Linear, start: int, stop: int | None) -> tuple[Tensor, Tensor | None]:
    """Returns weight and bias of some outputs of a linear layer."""
    return linear.weight[start:stop], None if linear.bias is None else linear.bias[start:stop]
