"""The Transformer with encoder and decoder: BART.

Shapes: N rows (B rows times K views, or hypotheses), S source tokens, T target tokens, D width, V vocabulary, P target
positions.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from taskmask.models import EncoderDecoderConfig
from taskmask.models.base import Model
from taskmask.modules.decoder import Cache, DecoderLayer
from taskmask.modules.embeddings import Blend, Embeddings, TargetEmbeddings
from taskmask.modules.generation import generate
from taskmask.modules.heads import TiedHead, build_head
from taskmask.modules.heads_spec import GenerationConfig, HeadSpec
from taskmask.modules.init import init_weights, residual_scale_of
from taskmask.modules.layers import EncoderLayer


class EncoderDecoder(Model):
    """An encoder reads the source, a decoder beside it reads and goes on with the target.

    Heads of the kind "lm" score the next token at places of the target; those of the kinds "row" and "token" answer on
    the source, from the encoder alone. The decoder only runs where there is a target.

    The parameters are called `embeddings.*` (of source and, but for places and norm, of target), `layers.N.*` (encoder,
    as in `Encoder`), `norm.*`, `target_embeddings.*`, `decoder_layers.N.*`, `decoder_norm.*` (norms pre-norm only) and
    `heads.NAME.*`. For what treats the layers differently, those of the decoder lie above those of the encoder.

    **Source:** Lewis et al. 2019 (arXiv 1910.13461), section 2.1; Vaswani et al. 2017 (arXiv 1706.03762), section 3;
    pre-norm: Xiong et al. 2020 (arXiv 2002.04745).

    Args:
        config: the settings.
        vocab_size: V.
        max_length: longest source and longest target, in tokens.
        heads: what to compute, by name: the task's `heads()`.
    """

    reads_target = True
    blends = True

    def __init__(self, config: EncoderDecoderConfig, *, vocab_size: int, max_length: int, heads: dict[str, HeadSpec]):
        super().__init__()
        self.config = config
        width, epsilon, dropout = config.width, config.norm_epsilon, config.dropout
        layer = dict(norm=config.norm, dropout=dropout, attention_dropout=config.attention_dropout)
        sizes = (width, config.heads, config.feed_forward_width)
        self.embeddings = Embeddings(vocab_size, width, max_length, dropout=dropout, norm_epsilon=epsilon)
        self.layers = nn.ModuleList(
            EncoderLayer(*sizes, norm_epsilon=epsilon, **layer)  # type: ignore[arg-type]
            for _ in range(config.layers)
        )
        self.norm = self._last_norm()
        self.target_embeddings = TargetEmbeddings(width, max_length, dropout=dropout, norm_epsilon=epsilon)
        self.decoder_layers = nn.ModuleList(
            DecoderLayer(*sizes, norm_epsilon=epsilon, **layer)  # type: ignore[arg-type]
            for _ in range(config.decoder_layers)
        )
        self.decoder_norm = self._last_norm()
        self.lm_heads = {name for name, spec in heads.items() if spec.kind == "lm"}
        self.heads = nn.ModuleDict(
            {
                name: TiedHead(vocab_size)
                if name in self.lm_heads
                else build_head(spec, width, vocab_size, norm_epsilon=epsilon, dropout=dropout)
                for name, spec in heads.items()
            }
        )
        init_weights(self, config.init_std, residual_scale_of(config.norm, config.layers))

    def _last_norm(self) -> nn.Module:
        config = self.config
        return nn.LayerNorm(config.width, config.norm_epsilon) if config.norm == "pre" else nn.Identity()

    @property
    def num_layers(self) -> int:
        """Layers of encoder and decoder together."""
        return len(self.layers) + len(self.decoder_layers)

    def depth(self, name: str) -> int:
        """Says how deep a parameter lies: embeddings, encoder layers, decoder layers, what is above them.

        Args:
            name: of the parameter.

        Returns:
            0: embeddings; 1 + N: layer N of the encoder, to whose last one the norm after it belongs; 1 + `layers` + N:
            layer N of the decoder; `num_layers` + 1: all above.
        """
        part, _, rest = name.partition(".")
        if part == "norm":
            return len(self.layers)
        if part == "decoder_layers":
            return 1 + len(self.layers) + int(rest.partition(".")[0])
        return 0 if part == "target_embeddings" else super().depth(name)

    def encode(self, tokens: Tensor, keep: Tensor | None = None, blend: Blend | None = None) -> Tensor:
        """The hidden states of the encoder's last layer, [N, S, D]; the arguments are those of `forward`."""
        x = self.embeddings(tokens, blend=blend)
        for layer in self.layers:
            x = layer(x, keep)
        return self.norm(x)

    def start(self, memory: Tensor, keep: Tensor | None, room: int) -> Cache:
        """Returns the cache of a decoder that has read nothing yet.

        Args:
            memory: of `encode`, [N, S, D].
            keep: bool [N, S], True at real source tokens; None: all.
            room: tokens that may be read of each row, those of all its hypotheses counted.
        """
        layers = [layer for layer in self.decoder_layers if isinstance(layer, DecoderLayer)]
        return Cache([layer.cross_attention.keys_values(memory) for layer in layers], keep, room)

    def decode(self, target: Tensor, memory: Tensor, keep: Tensor | None = None, cache: Cache | None = None) -> Tensor:
        """The hidden states of the decoder's last layer.

        Args:
            target: int64 [N, T], each token sees those before it.
            memory: of `encode`, [N, S, D]; not read where there is a cache.
            keep: bool [N, S], True at real source tokens; None: all; not read where there is a cache.
            cache: of `start`: the target goes on from what was read before; None: it begins.

        Returns:
            [N, T, D].
        """
        tokens = target.shape[1]
        if cache is None:
            return self._run(target, slice(0, tokens), self.start(memory, keep, 0), None)
        place = cache.place
        cache.read_on(tokens, target.device)
        return self._run(target, slice(place, place + tokens), cache, cache)

    def branch(self, target: Tensor, parents: Tensor, cache: Cache) -> Tensor:
        """The hidden states of one more token for each of K hypotheses of a row.

        Args:
            target: int64 [N, K].
            parents: int64 [N, K], the hypothesis of the step before that each goes on from.
            cache: what was read before; changed.

        Returns:
            [N, K, D].
        """
        place = cache.place
        cache.branch(parents)
        return self._run(target, slice(place, place + 1), cache, cache)

    def _run(self, target: Tensor, places: slice, source: Cache, before: Cache | None) -> Tensor:
        x = self.target_embeddings(F.embedding(target, self.embeddings.tokens.weight), places)
        for number, layer in enumerate(self.decoder_layers):
            x = layer(x, source.memory[number], source.keep, before, number)
        return self.decoder_norm(x)

    def forward(
        self,
        tokens: Tensor,
        keep: Tensor | None = None,
        positions: dict[str, Tensor] | None = None,
        segments: Tensor | None = None,
        target: Tensor | None = None,
        blend: Blend | None = None,
    ) -> dict[str, Tensor]:
        """Runs the network and its heads.

        Args:
            tokens: int64 [N, S], ids of the source.
            keep: bool [N, S], True at real tokens, at least one a row; None where nothing is padded.
            positions: by head, int64 [P]: flat indices where it answers, for "lm" heads into N x T of the target, for
                "token" heads into N x S of the source; one not named answers everywhere.
            segments: not used.
            target: int64 [N, T], what the decoder reads: what it is to say, one place later. Padding at its end is seen
                by no real token. Needed by "lm" heads, and not read without one.
            blend: other tokens, and the share of each embedding of the source that is theirs; None: none.

        Returns:
            By head: "lm" heads give logits [P, V]; "row" heads [N, size]; "token" heads [P, size].

        Raises:
            ValueError: a row is longer than the learned positions, `positions` names a head there is not, or there is
                no target for an "lm" head.
        """
        positions = positions or {}
        if unknown := set(positions) - set(self.heads):
            raise ValueError(f"positions for {sorted(unknown)}, but the heads are {sorted(self.heads)}")
        memory = self.encode(tokens, keep, blend)
        hidden = {name: memory for name in self.heads}
        if self.lm_heads:
            if target is None:
                raise ValueError(f"no target, which the decoder of head {min(self.lm_heads)} reads")
            hidden |= dict.fromkeys(self.lm_heads, self.decode(target, memory, keep))
        embedding = self.embeddings.tokens.weight
        return {name: head(hidden[name], positions.get(name), embedding, keep) for name, head in self.heads.items()}

    @torch.no_grad()
    def generate(
        self, tokens: Tensor, keep: Tensor | None, config: GenerationConfig, *, bos: int, eos: int
    ) -> list[np.ndarray]:
        """Says what comes out of each source, as the model's "lm" head scores it; call it in evaluation mode.

        The decoder begins with `eos` and `bos`, as it reads in training.

        Args:
            tokens: int64 [N, S], ids of the sources.
            keep: bool [N, S], True at real tokens; None where nothing is padded.
            config: how to search.
            bos: id of the token that begins a text.
            eos: id of the token that ends a text.

        Returns:
            N arrays of ids, int64, without `bos` and `eos`.

        Raises:
            ValueError: the texts may become longer than the learned positions, or there is no "lm" head.
        """
        if not self.lm_heads:
            raise ValueError(f"no head that scores tokens; the heads are {sorted(self.heads)}")
        if config.max_length > (longest := self.target_embeddings.positions.num_embeddings):
            raise ValueError(f"max_length is {config.max_length}, but the model has learned positions for {longest}")
        head, embedding = self.heads[min(self.lm_heads)], self.embeddings.tokens.weight
        memory = self.encode(tokens, keep)
        cache = self.start(memory, keep, 2 + config.beams * max(config.max_length - 3, 0))

        def step(said: Tensor, parents: Tensor | None, rows: Tensor | None) -> Tensor:
            if rows is not None:
                cache.select(rows)
            if parents is None:
                hidden = self.decode(said, memory, keep, cache)[:, -1:]
            else:
                hidden = self.branch(said, parents, cache)
            return head(hidden, None, embedding).view(*hidden.shape[:2], -1)  # [N K, V] -> [N, K, V]

        prefix = tokens.new_tensor([[eos, bos]]).expand(len(tokens), -1)
        return [text.numpy() for text in generate(step, prefix, config, eos=eos)]
