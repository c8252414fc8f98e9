"""The Transformer encoder: BERT, RoBERTa and their younger kin.

Shapes: N rows (B rows times K views), T tokens, D width, V vocabulary, P target positions.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from taskmask.models import EncoderConfig
from taskmask.models.base import Model
from taskmask.modules.attention import Rotation, local_mask, rotary_angles
from taskmask.modules.embeddings import Blend, Embeddings
from taskmask.modules.heads import RowHead, build_head
from taskmask.modules.heads_spec import HeadSpec
from taskmask.modules.init import init_weights, residual_scale_of
from taskmask.modules.layers import EncoderLayer


class Encoder(Model):
    """Embeddings, a stack of layers, and the heads that the task asks for.

    The parameters are called `embeddings.*`, `layers.N.*`, `norm.*` (pre-norm only) and `heads.NAME.*`; the language
    model head multiplies with `embeddings.tokens.weight`, which is saved there and nowhere else.

    **Source:** Devlin et al. 2019 (arXiv 1810.04805), section 3; Liu et al. 2019 (arXiv 1907.11692), section 2;
    Warner et al. 2024 (arXiv 2412.13663), section 2.1 (pre-norm, rotary, geglu, local attention).

    Args:
        config: the settings.
        vocab_size: V.
        max_length: longest row in tokens; binds where positions are learned.
        heads: what to compute, by name: the task's `heads()`.
    """

    blends = True

    def __init__(self, config: EncoderConfig, *, vocab_size: int, max_length: int, heads: dict[str, HeadSpec]):
        super().__init__()
        self.config = config
        width, epsilon, bias = config.width, config.norm_epsilon, config.bias
        self.embeddings = Embeddings(
            vocab_size,
            width,
            None if config.positions == "rotary" else max_length,
            dropout=config.dropout,
            norm_epsilon=epsilon,
            bias=bias,
            segments=config.segments,
            embedding_width=config.embedding_width,
        )
        self.layers = nn.ModuleList(
            EncoderLayer(
                width,
                config.heads,
                config.feed_forward_width,
                norm=config.norm,
                activation=config.activation,
                dropout=config.dropout,
                attention_dropout=config.attention_dropout,
                norm_epsilon=epsilon,
                bias=bias,
                attention_norm=config.first_norm or number > 0,
            )
            for number in range(config.layers)
        )
        self.norm = nn.LayerNorm(width, epsilon, bias=bias) if config.norm == "pre" else nn.Identity()
        self.heads = nn.ModuleDict({name: self._head(spec, vocab_size) for name, spec in heads.items()})
        self.reads_first_tokens = bool(heads) and all(
            isinstance(head, RowHead) and not head.mean for head in self.heads.values()
        )
        init_weights(self, config.init_std, residual_scale_of(config.norm, config.layers))

    def _head(self, spec: HeadSpec, vocab_size: int) -> nn.Module:
        config = self.config
        return build_head(
            spec,
            config.width,
            vocab_size,
            norm_epsilon=config.norm_epsilon,
            bias=config.bias,
            dropout=config.dropout,
            style=config.head,
            pool=config.pool,
            embedding_width=config.embedding_width,
        )

    def encode(
        self,
        tokens: Tensor,
        keep: Tensor | None = None,
        segments: Tensor | None = None,
        blend: Blend | None = None,
        first: int | None = None,
    ) -> Tensor:
        """The hidden states of the last layer, [N, T or first, D]; the other arguments are those of `forward`.

        The last layer computes only the `first` tokens of each row, from its start; None: all.
        """
        x = self.embeddings(tokens, segments, blend)
        config, length = self.config, tokens.shape[1]
        everywhere = nearby = (keep, self._rotation(length, config.rotary_base, x.device))
        if config.local_window:
            rotation = self._rotation(length, config.local_rotary_base, x.device)
            nearby = (local_mask(length, config.local_window, keep, x.device), rotation)
        for number, layer in enumerate(self.layers):
            is_last = number == len(self.layers) - 1
            x = layer(x, *(nearby if number % config.global_every else everywhere), first if is_last else None)
        return self.norm(x)

    def _rotation(self, length: int, base: float, device: torch.device) -> Rotation | None:
        if self.config.positions == "learned":
            return None
        return rotary_angles(length, self.config.width // self.config.heads, device, base)

    def forward(
        self,
        tokens: Tensor,
        keep: Tensor | None = None,
        positions: dict[str, Tensor] | None = None,
        segments: Tensor | None = None,
        blend: Blend | None = None,
    ) -> dict[str, Tensor]:
        """Runs the encoder and its heads.

        Args:
            tokens: int64 [N, T], token ids.
            keep: bool [N, T], True at real tokens, at least one a row; None where nothing is padded.
            positions: by head, int64 [P]: flat indices into N x T where it answers; one not named answers everywhere.
            segments: int64 [N, T], segment of each token; None: all 0. Not used without segment embeddings.
            blend: other tokens, and the share of each embedding that is theirs; None: none.

        Returns:
            By head: "lm" heads give logits [P, V], without positions [N T, V]; "row" heads [N, size]; "token" heads
            [P, size], without positions [N T, size].

        Raises:
            ValueError: a row is longer than the learned positions, or `positions` names a head there is not.
        """
        positions = positions or {}
        if unknown := set(positions) - set(self.heads):
            raise ValueError(f"positions for {sorted(unknown)}, but the heads are {sorted(self.heads)}")
        # in training the whole layer is drawn dropout for
        first = 1 if self.reads_first_tokens and not self.training else None
        hidden = self.encode(tokens, keep, segments, blend, first)
        embedding = self.embeddings.tokens.weight
        return {name: head(hidden, positions.get(name), embedding, keep) for name, head in self.heads.items()}
