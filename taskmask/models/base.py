"""What every model promises.

Shapes: N rows (B rows times K views), T tokens, P target positions of one kind.
"""

from __future__ import annotations

from torch import Tensor, nn


class Model(nn.Module):
    """A network that turns token ids into one output for each of its heads; it knows no loss."""

    def forward(
        self, tokens: Tensor, keep: Tensor | None = None, positions: dict[str, Tensor] | None = None
    ) -> dict[str, Tensor]:
        """Runs the network.

        Args:
            tokens: int64 [N, T], token ids; what stands at padding does not matter, but must be an id.
            keep: bool [N, T], True at real tokens, at least one a row; None where nothing is padded.
            positions: for each head that answers at chosen tokens only, int64 [P]: flat indices into N x T. A head that
                is not named answers everywhere.

        Returns:
            One entry per head, by its name.
        """
        raise NotImplementedError(f"{type(self).__name__} must define forward(tokens, keep, positions)")
