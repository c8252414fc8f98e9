"""The two plain records that travel: `TokenBatch`, what a masker sees, and `Batch`, what a model and a criterion see.

Shapes: B rows, T tokens in the longest row, K views, N = K*B rows of a batch.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from taskmask.tokenizer.tokenizer import Vocabulary


@dataclasses.dataclass(frozen=True)
class TokenBatch:
    """A batch of rows as padded arrays.

    Args:
        tokens: int64 [B, T], each row `<s> content </s>`, then padding.
        lengths: int64 [B], tokens of each row that are not padding.
        ids: int64 [B], the row's number in its split.
        vocab: says which tokens are special and where words start.
        columns: other columns by name, token-aligned [B, T] or per row [B].
        allowed: bool [V] or None, False at pieces that must not be chosen.
    """

    tokens: np.ndarray
    lengths: np.ndarray
    ids: np.ndarray
    vocab: Vocabulary
    columns: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
    allowed: np.ndarray | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """(B, T)."""
        return self.tokens.shape[0], self.tokens.shape[1]

    @functools.cached_property
    def is_full(self) -> bool:
        """Whether no row has padding."""
        return bool(self.lengths.min(initial=self.tokens.shape[1]) == self.tokens.shape[1])

    @functools.cached_property
    def keep(self) -> np.ndarray:
        """Bool [B, T], False at padding."""
        return np.arange(self.tokens.shape[1])[None, :] < self.lengths[:, None]

    @functools.cached_property
    def maskable(self) -> np.ndarray:
        """Bool [B, T], True where a masker may choose: no special token, no padding, no piece that was ruled out."""
        maskable = ~self.vocab.is_special.take(self.tokens)  # padding is special too
        return maskable if self.allowed is None else maskable & self.allowed.take(self.tokens)

    @functools.cached_property
    def words(self) -> np.ndarray:
        """Int32 [B, T], the number of each token's word in its row, from 0; -1 at special tokens and padding."""
        return self.vocab.word_numbers(self.tokens)

    def take(self, index: np.ndarray) -> TokenBatch:
        """Returns the rows at `index`, padded as they are."""
        return dataclasses.replace(
            self,
            tokens=self.tokens[index],
            lengths=self.lengths[index],
            ids=self.ids[index],
            columns={name: column[index] for name, column in self.columns.items()},
        )


@dataclasses.dataclass
class Batch:
    """What one forward pass needs. Arrays come from the task as numpy and are tensors once they reach the model.

    Args:
        inputs: the arguments of the model, {"tokens": int64 [N, T], "keep": bool [N, T] or absent, ...}.
        targets: what the criterion compares with.
        ids: int64 [B], the rows it was made of.
        num_tokens: real tokens in `inputs`, for the rate.
    """

    inputs: dict[str, Any]
    targets: dict[str, Any]
    ids: np.ndarray
    num_tokens: int

    def map(self, function: Callable[[Any], Any]) -> Batch:
        """Returns the batch with `function` applied to every array of inputs and targets, dicts inside included."""

        def walk(value: Any) -> Any:
            return {k: walk(v) for k, v in value.items()} if isinstance(value, dict) else function(value)

        return dataclasses.replace(self, inputs=walk(self.inputs), targets=walk(self.targets))
