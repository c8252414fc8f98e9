"""What every model promises.

Shapes: N rows (B rows times K views), T tokens, P target positions of one kind.
"""

from __future__ import annotations

from torch import Tensor, nn


class Model(nn.Module):
    """A network that turns token ids into one output for each of its heads; it knows no loss.

    Attributes:
        reads_target: whether its forward has one more argument, `target`, int64 [N, T']: the text that its "lm" heads
            answer on.
        blends: whether its forward has one more argument, `blend`: other tokens, int64 [N, T], and the share of each
            embedding that is theirs, float [N, T].
    """

    reads_target: bool = False
    blends: bool = False

    def forward(
        self,
        tokens: Tensor,
        keep: Tensor | None = None,
        positions: dict[str, Tensor] | None = None,
        segments: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Runs the network.

        Args:
            tokens: int64 [N, T], token ids; what stands at padding does not matter, but must be an id.
            keep: bool [N, T], True at real tokens, at least one a row; None where nothing is padded.
            positions: for each head that answers at chosen tokens only, int64 [P]: flat indices into N x T. A head that
                is not named answers everywhere.
            segments: int64 [N, T], the text that a token belongs to: 0 for the first, 1 for the second of a pair; None:
                all 0. A model without segment embeddings does not look at it.

        Returns:
            One entry per head, by its name.
        """
        raise NotImplementedError(f"{type(self).__name__} must define forward(tokens, keep, positions, segments)")

    @property
    def num_layers(self) -> int:
        """Layers of the stack: the length of the module list `layers`; 0 where there is none."""
        layers = getattr(self, "layers", None)
        return len(layers) if isinstance(layers, nn.ModuleList) else 0

    def depth(self, name: str) -> int:
        """Says how deep a parameter lies, for what treats the layers differently: learning rates, freezing.

        A model with other names than `embeddings.*` and `layers.N.*` overrides this, or has all its parameters at the
        top.

        Args:
            name: of the parameter, as in `named_parameters` of the model.

        Returns:
            0: embeddings; 1 + N: layer N; `num_layers` + 1: all that is above the layers.
        """
        part, _, rest = name.partition(".")
        if part == "embeddings":
            return 0
        number = rest.partition(".")[0]
        if part == "layers" and number.isdecimal() and int(number) < self.num_layers:
            return 1 + int(number)
        return self.num_layers + 1
