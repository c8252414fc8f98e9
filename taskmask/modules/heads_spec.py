"""What a task asks of a model, in words. Imports no torch."""

from __future__ import annotations

import dataclasses
from typing import Literal

from taskmask.config import Problems, opt

HeadKind = Literal["lm", "row", "token"]
MOST_DRAWS = 16
"""Random numbers that a learned policy has for each token of a row."""


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


@dataclasses.dataclass(frozen=True)
class GenerationConfig:
    """How texts are generated: greedily, or by a search with several beams.

    **Source:** as `generate` of transformers.

    Raises:
        ConfigError: settings that do not fit each other; names every one of them.
    """

    beams: int = opt(1, "hypotheses of each row that are followed; 1: greedy, the likeliest token at each place")
    length_penalty: float = opt(1.0, "log-probabilities are divided by length to this power; above 0 favours long ones")
    no_repeat_ngram: int = opt(0, "no run of this many tokens comes twice; 0: whatever comes")
    min_length: int = opt(0, "fewest new tokens before </s>, <s> included")
    early_stopping: bool = opt(
        False, "with beams: a row is done as soon as as many hypotheses as beams are finished; false: if none can win"
    )
    max_length: int = opt(32, "most new tokens, <s> and </s> included; the last of so many is always </s>")

    def __post_init__(self) -> None:
        problems = Problems()
        for name, least in (("beams", 1), ("no_repeat_ngram", 0), ("min_length", 0), ("max_length", 2)):
            value = getattr(self, name)
            problems.check(value >= least, f"is {value}", where=f"task.{name}", expected=f"at least {least}")
        problems.check(
            self.min_length < self.max_length,
            f"is {self.min_length}",
            where="task.min_length",
            expected=f"fewer than max_length, {self.max_length}",
        )
        problems.raise_any()
