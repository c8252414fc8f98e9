"""A bidirectional LSTM under the heads that a task asks for: a small model for small policies.

Shapes: N rows, T tokens, D width, E width of the embeddings, V vocabulary, P target positions.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from taskmask.models import BiLSTMConfig
from taskmask.models.base import Model
from taskmask.modules.dropout import Dropout
from taskmask.modules.heads import build_head
from taskmask.modules.heads_spec import HeadSpec
from taskmask.modules.init import init_weights


class BiLSTM(Model):
    """Token embeddings, a stack of LSTM layers that read in both directions, and the heads that the task asks for.

    Rows are packed, so that each direction begins at a real token and padding is read by none. The parameters are
    called `embeddings.tokens.weight`, `layers.N.*` (those of `torch.nn.LSTM`) and `heads.NAME.*`.

    **Source:** Graves and Schmidhuber 2005 (Neural Networks 18), section 2; the use as a masking policy: Ye et al. 2021
    (EMNLP), the directly supervised policy. Differs from the paper: the embeddings are learned with the rest.

    Args:
        config: the settings.
        vocab_size: V.
        max_length: longest row in tokens; does not bind.
        heads: what to compute, by name: the task's `heads()`.
    """

    def __init__(self, config: BiLSTMConfig, *, vocab_size: int, max_length: int, heads: dict[str, HeadSpec]):
        super().__init__()
        self.config = config
        width, inner = config.width, config.embedding_width or config.width
        self.embeddings = nn.ModuleDict({"tokens": nn.Embedding(vocab_size, inner)})
        self.dropout = Dropout(config.dropout)
        self.heads = nn.ModuleDict({
            name: build_head(spec, width, vocab_size, dropout=config.dropout, embedding_width=config.embedding_width)
            for name, spec in heads.items()
        })  # fmt: skip
        init_weights(self, config.init_std)
        self.layers = nn.ModuleList(  # with the first weights of torch
            nn.LSTM(width if number else inner, width // 2, batch_first=True, bidirectional=True)
            for number in range(config.layers)
        )

    def encode(self, tokens: Tensor, keep: Tensor | None = None) -> Tensor:
        """The states of the last layer, both directions side by side, [N, T, D]; 0 at padding."""
        x = self.embeddings["tokens"](tokens)
        lengths = None if keep is None else keep.sum(1).cpu()
        for layer in self.layers:
            x = self.dropout(x)
            if lengths is None:
                x, _ = layer(x)
            else:
                packed, _ = layer(pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False))
                x, _ = pad_packed_sequence(packed, batch_first=True, total_length=tokens.shape[1])
        return x

    def forward(
        self,
        tokens: Tensor,
        keep: Tensor | None = None,
        positions: dict[str, Tensor] | None = None,
        segments: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Runs the LSTM and its heads.

        Args:
            tokens: int64 [N, T], token ids.
            keep: bool [N, T], True at real tokens, which stand before all padding; None where nothing is padded.
            positions: by head, int64 [P]: flat indices into N x T where it answers; one not named answers everywhere.
            segments: not used.

        Returns:
            By head: "lm" heads give logits [P, V], without positions [N T, V]; "row" heads [N, size]; "token" heads
            [P, size], without positions [N T, size].
        """
        positions = positions or {}
        hidden, embedding = self.encode(tokens, keep), self.embeddings["tokens"].weight
        return {name: head(hidden, positions.get(name), embedding, keep) for name, head in self.heads.items()}
