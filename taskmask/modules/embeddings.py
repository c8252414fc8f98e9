"""Token ids to vectors.

Shapes: N rows, T tokens, D width of the model, E width of the embeddings, V vocabulary.
"""

from __future__ import annotations

from torch import Tensor, nn

from taskmask.modules.dropout import Dropout

Blend = tuple[Tensor, Tensor]
"""Other tokens, int64 [N, T], and the share of each embedding that is theirs, float [N, T] from 0 to 1."""


class Embeddings(nn.Module):
    """Token embedding, plus learned embeddings of the place in the row and of the segment, then LayerNorm and dropout.

    Places and segments are learned only where they are asked for. Embeddings narrower than the model are projected to
    its width at the end.

    **Source:** Devlin et al. 2019 (arXiv 1810.04805), section 3, figure 2; LayerNorm and dropout as in its code
    (google-research/bert, `embedding_postprocessor`). The projection: Clark et al. 2020 (arXiv 2003.10555), section
    3.2, as in google-research/electra, `modeling.BertModel` (`embeddings_project`).

    Args:
        vocab_size: V.
        width: D.
        max_length: number of learned places; None: no learned positions.
        dropout: probability of dropping an element.
        norm_epsilon: added to the variance in LayerNorm.
        bias: whether the norm has a bias.
        segments: number of segments; 0: no embedding of segments.
        embedding_width: E; 0: D, without a projection.
    """

    def __init__(
        self,
        vocab_size: int,
        width: int,
        max_length: int | None,
        *,
        dropout: float = 0.0,
        norm_epsilon: float = 1e-5,
        bias: bool = True,
        segments: int = 0,
        embedding_width: int = 0,
    ):
        super().__init__()
        inner = embedding_width or width
        self.tokens = nn.Embedding(vocab_size, inner)
        self.positions = None if max_length is None else nn.Embedding(max_length, inner)
        self.segments = nn.Embedding(segments, inner) if segments else None
        self.norm = nn.LayerNorm(inner, norm_epsilon, bias=bias)
        self.dropout = Dropout(dropout)
        self.projection = nn.Identity() if inner == width else nn.Linear(inner, width, bias=bias)

    def forward(self, tokens: Tensor, segments: Tensor | None = None, blend: Blend | None = None) -> Tensor:
        """Embeds tokens.

        Args:
            tokens: int64 [N, T].
            segments: int64 [N, T], each below the number of segments; None: all 0. Not used without embeddings of them.
            blend: other tokens, and the share of each embedding that is theirs; None: none.

        Returns:
            [N, T, D].

        Raises:
            ValueError: the rows are longer than the learned positions.
        """
        x = self.tokens(tokens)
        if blend is not None:
            others, share = blend
            x = x + share[:, :, None] * (self.tokens(others) - x)
        if self.positions is not None:
            length, longest = tokens.shape[1], self.positions.num_embeddings
            if length > longest:
                raise ValueError(
                    f"rows of {length} tokens, but the model has learned positions for {longest}; "
                    "cut the rows, or build the model with a larger max_length"
                )
            x = x + self.positions.weight[:length]  # [T, E], the same for every row
        if self.segments is not None:
            x = x + (self.segments.weight[0] if segments is None else self.segments(segments))  # [E] or [N, T, E]
        x = self.dropout(self.norm(x))
        return self.projection(x).to(x.dtype)  # in mixed precision what the layers add to stays in fp32


class TargetEmbeddings(nn.Module):
    """What a decoder adds to the embeddings of tokens, which it shares with the encoder: places, LayerNorm, dropout.

    **Source:** Lewis et al. 2019 (arXiv 1910.13461), section 2.1; LayerNorm as in its code (fairseq,
    `bart_base_architecture`: layernorm_embedding).

    Args:
        width: D.
        max_length: number of learned places.
        dropout: probability of dropping an element.
        norm_epsilon: added to the variance in LayerNorm.
    """

    def __init__(self, width: int, max_length: int, *, dropout: float = 0.0, norm_epsilon: float = 1e-5):
        super().__init__()
        self.positions = nn.Embedding(max_length, width)
        self.norm = nn.LayerNorm(width, norm_epsilon)
        self.dropout = Dropout(dropout)

    def forward(self, embedded: Tensor, places: slice) -> Tensor:
        """Finishes embeddings.

        Args:
            embedded: of the tokens, [N, T, D].
            places: those of the T tokens, or the one of all of them.

        Returns:
            [N, T, D].

        Raises:
            ValueError: a place is beyond the learned ones.
        """
        if places.stop > self.positions.num_embeddings:
            raise ValueError(
                f"targets of {places.stop} tokens, but the model has learned positions for "
                f"{self.positions.num_embeddings}; cut the targets, or build the model with a larger max_length"
            )
        return self.dropout(self.norm(embedded + self.positions.weight[places]))
