"""What a task asks of a model, in words. Imports no torch."""

from __future__ import annotations

import dataclasses
from typing import Literal

HeadKind = Literal["lm", "row", "token"]


@dataclasses.dataclass(frozen=True)
class HeadSpec:
    """One output that a task needs of the model; a task's `heads()` returns them by name.

    Args:
        kind: "lm": a score for every entry of the vocabulary, through the tied token embedding; "row": `size` scores
            for each row; "token": `size` scores for each token.
        size: number of scores; a "lm" head has as many as the vocabulary has entries.
    """

    kind: HeadKind
    size: int = 0
