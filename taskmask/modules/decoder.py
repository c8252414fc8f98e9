"""The decoder's half of a Transformer, and what it remembers while it generates.

Shapes: N rows, T tokens, S source tokens, P tokens read before, D width, H heads, d = D / H width of a head, F inner
width of the feed-forward.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from taskmask.modules.attention import SelfAttention, attend, causal_mask, join_heads, split_heads
from taskmask.modules.dropout import Dropout
from taskmask.modules.layers import FeedForward

KeysValues = tuple[Tensor, Tensor]
"""Keys and values of some tokens, each [N, H, tokens, d]."""


class Cache:
    """What a decoder has read: the keys and values of each layer, in one line for all hypotheses of a row.

    A token is kept once, whichever hypotheses go on from it, and each hypothesis sees its own ancestors in the line. So
    nothing is copied when the search drops some beams and goes on with others; the price, that a query is multiplied
    with the keys of all beams, is small beside the products with the weights.

    Args:
        memory: keys and values of the source, by layer.
        keep: bool [N, S], True at real source tokens; None: all.
        room: tokens of a row that may be read, those of all its beams counted.

    Attributes:
        place: tokens that each hypothesis has read: the place of the next one.
        visible: bool [N or 1, T, P + T] of the tokens being read, by what they may see; None: all.
    """

    def __init__(self, memory: list[KeysValues], keep: Tensor | None, room: int):
        self.memory, self.keep, self.room = memory, keep, room
        self.place = self.used = 0
        self.lines: list[KeysValues] = []
        self.visible: Tensor | None = None
        self.ancestors: Tensor | None = None  # bool [N, K, P]; None: there was one hypothesis only, which sees all

    def read_on(self, tokens: int, device: torch.device) -> None:
        """Makes ready for the next tokens of the one hypothesis of each row."""
        self.visible = None
        if tokens > 1:
            before = torch.ones(1, tokens, self.used, dtype=torch.bool, device=device)
            self.visible = torch.cat((before, causal_mask(tokens, device)), -1)  # [1, T, P + T]
        self.place, self.used = self.place + tokens, self.used + tokens

    def branch(self, parents: Tensor) -> None:
        """Makes ready for one token of each of K hypotheses.

        Args:
            parents: int64 [N, K], which hypotheses of the token before they go on from.
        """
        rows, beams = parents.shape
        if beams > 1:
            own = torch.eye(beams, dtype=torch.bool, device=parents.device).expand(rows, -1, -1)
            before = own.new_ones(rows, beams, self.used)
            if self.ancestors is not None:
                before = self.ancestors.gather(1, parents[:, :, None].expand_as(before))
            self.ancestors = torch.cat((before, own), -1)  # [N, K, P + K]
        self.visible = self.ancestors
        self.place, self.used = self.place + 1, self.used + beams

    def select(self, rows: Tensor) -> None:
        """Goes on with these rows alone, int64."""
        self.memory = [(k[rows], v[rows]) for k, v in self.memory]
        self.lines = [(k[rows], v[rows]) for k, v in self.lines]
        self.keep = None if self.keep is None else self.keep[rows]
        self.ancestors = None if self.ancestors is None else self.ancestors[rows]

    def extend(self, layer: int, new: KeysValues) -> KeysValues:
        """Adds keys and values of the tokens being read to a layer's line; returns the whole line."""
        if layer == len(self.lines):
            rows, heads, _, width = new[0].shape
            k, v = (part.new_empty(rows, heads, self.room, width) for part in new)
            self.lines.append((k, v))
        begin = self.used - new[0].shape[2]
        k, v = self.lines[layer]
        k[:, :, begin : self.used], v[:, :, begin : self.used] = new
        return k[:, :, : self.used], v[:, :, : self.used]


class CausalSelfAttention(SelfAttention):
    """Multi-head self-attention of a decoder: a token sees itself and those before it.

    The parameters are those of `SelfAttention`.

    **Source:** Vaswani et al. 2017 (arXiv 1706.03762), section 3.2.3.
    """

    def forward(self, x: Tensor, cache: Cache | None = None, layer: int = 0) -> Tensor:  # type: ignore[override]
        """Lets every token attend to itself and those before it.

        Args:
            x: [N, T, D].
            cache: what was read before, to which these tokens are added; None: nothing.
            layer: which layer of the cache this is.

        Returns:
            [N, T, D].
        """
        q, k, v = split_heads(self.qkv(x), self.heads, 3)
        dropout = self.dropout if self.training else 0.0
        if cache is None:
            mixed = attend(q, k, v, dropout=dropout, causal=True)
        else:
            mixed = attend(q, *cache.extend(layer, (k, v)), cache.visible, dropout)
        return self.output(join_heads(mixed))


class CrossAttention(nn.Module):
    """Multi-head attention of a decoder's tokens to the source.

    **Source:** Vaswani et al. 2017 (arXiv 1706.03762), section 3.2.3.

    Args:
        width: D.
        heads: H, a divisor of D.
        dropout: probability that an attention weight is dropped.
    """

    def __init__(self, width: int, heads: int, dropout: float = 0.0):
        super().__init__()
        if width % heads:
            raise ValueError(f"{heads} heads do not divide the width {width}")
        self.heads = heads
        self.dropout = dropout
        self.query = nn.Linear(width, width)
        self.memory = nn.Linear(width, 2 * width)  # rows: all of k, then v
        self.output = nn.Linear(width, width)

    def keys_values(self, memory: Tensor) -> KeysValues:
        """Returns keys and values of the source, [N, H, S, d] each, of its hidden states, [N, S, D]."""
        k, v = split_heads(self.memory(memory), self.heads, 2)
        return k, v

    def forward(self, x: Tensor, memory: KeysValues, keep: Tensor | None = None) -> Tensor:
        """Lets every token attend to the kept tokens of its row's source.

        Args:
            x: [N, T, D].
            memory: of `keys_values`.
            keep: bool [N, S], True at real source tokens; None: all.

        Returns:
            [N, T, D].
        """
        (q,) = split_heads(self.query(x), self.heads)
        return self.output(join_heads(attend(q, *memory, keep, self.dropout if self.training else 0.0)))


class DecoderLayer(nn.Module):
    """Causal self-attention, attention to the source and feed-forward, each with dropout, residual sum and LayerNorm.

    **Source:** post-norm: Vaswani et al. 2017 (arXiv 1706.03762), section 3.1; pre-norm: Xiong et al. 2020 (arXiv
    2002.04745), section 3.1. As in `EncoderLayer`, there is no dropout between the two feed-forward products.

    Args:
        width: D.
        heads: attention heads, a divisor of D.
        inner: F, inner width of the feed-forward.
        norm: "post": LayerNorm of each residual sum; "pre": of each sublayer's input.
        dropout: probability of dropping an element of a sublayer's output.
        attention_dropout: probability of dropping an attention weight.
        norm_epsilon: added to the variance in LayerNorm.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        inner: int,
        *,
        norm: Literal["post", "pre"] = "post",
        dropout: float = 0.0,
        attention_dropout: float = 0.0,
        norm_epsilon: float = 1e-5,
    ):
        super().__init__()
        self.norm_first = norm == "pre"
        self.attention = CausalSelfAttention(width, heads, attention_dropout)
        self.attention_norm = nn.LayerNorm(width, norm_epsilon)
        self.cross_attention = CrossAttention(width, heads, attention_dropout)
        self.cross_attention_norm = nn.LayerNorm(width, norm_epsilon)
        self.feed_forward = FeedForward(width, inner)
        self.feed_forward_norm = nn.LayerNorm(width, norm_epsilon)
        self.dropout = Dropout(dropout)

    def forward(
        self, x: Tensor, memory: KeysValues, keep: Tensor | None = None, cache: Cache | None = None, layer: int = 0
    ) -> Tensor:
        """Runs the layer.

        Args:
            x: [N, T, D].
            memory: keys and values of the source, of `cross_attention.keys_values`.
            keep: bool [N, S], True at real source tokens; None: all.
            cache: what was read before, to which these tokens are added; None: nothing.
            layer: which layer of the cache this is.

        Returns:
            [N, T, D].
        """
        drop = self.dropout
        if self.norm_first:
            x = x + drop(self.attention(self.attention_norm(x), cache, layer))
            x = x + drop(self.cross_attention(self.cross_attention_norm(x), memory, keep))
            return x + drop(self.feed_forward(self.feed_forward_norm(x)))
        x = self.attention_norm(x + drop(self.attention(x, cache, layer)))
        x = self.cross_attention_norm(x + drop(self.cross_attention(x, memory, keep)))
        return self.feed_forward_norm(x + drop(self.feed_forward(x)))
