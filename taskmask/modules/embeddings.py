"""Token ids to vectors.

Shapes: N rows, T tokens, D width, V vocabulary.
"""

from __future__ import annotations

from torch import Tensor, nn

from taskmask.modules.dropout import Dropout


class Embeddings(nn.Module):
    """Token embedding, plus a learned embedding of the place in the row, then LayerNorm and dropout.

    **Source:** Devlin et al. 2019 (arXiv 1810.04805), section 3, figure 2; LayerNorm and dropout as in its code
    (google-research/bert, `embedding_postprocessor`). Differs from the paper: no segment embedding.

    Args:
        vocab_size: V.
        width: D.
        max_length: number of learned places; None: no learned positions.
        dropout: probability of dropping an element.
        norm_epsilon: added to the variance in LayerNorm.
        bias: whether the norm has a bias.
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
    ):
        super().__init__()
        self.tokens = nn.Embedding(vocab_size, width)
        self.positions = None if max_length is None else nn.Embedding(max_length, width)
        self.norm = nn.LayerNorm(width, norm_epsilon, bias=bias)
        self.dropout = Dropout(dropout)

    def forward(self, tokens: Tensor) -> Tensor:
        """Embeds int64 [N, T] as [N, T, D].

        Raises:
            ValueError: the rows are longer than the learned positions.
        """
        x = self.tokens(tokens)
        if self.positions is not None:
            length, longest = tokens.shape[1], self.positions.num_embeddings
            if length > longest:
                raise ValueError(
                    f"rows of {length} tokens, but the model has learned positions for {longest}; "
                    "cut the rows, or build the model with a larger max_length"
                )
            x = x + self.positions.weight[:length]  # [T, D], the same for every row
        return self.dropout(self.norm(x))
