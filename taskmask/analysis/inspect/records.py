"""What `inspect` found, as plain records."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from taskmask.analysis.inspect.difficulty import Hardness
from taskmask.analysis.inspect.groupings import Groups
from taskmask.analysis.inspect.mask_stats import Observed


@dataclass(frozen=True)
class Shown:
    """A row under one view of one policy.

    Args:
        row: its number in its split.
        policy: name of the policy, and of the view where there are several.
        pieces: its pieces, `<s>`, `</s>` and padding left out.
        words: int [T], the word of each piece; -1 at specials.
        chosen: bool [T], what is masked in the first epoch.
        tint: float [T], 0 to 1: how often the policy masks a piece, or its score, of the highest in the row.
        rate: float [T], how often the policy masks it, or its score.
        is_score: whether the tint is of a score.
    """

    row: int
    policy: str
    pieces: list[str]
    words: np.ndarray
    chosen: np.ndarray
    tint: np.ndarray
    rate: np.ndarray
    is_score: bool


@dataclass
class Seen:
    """What was seen of some policies.

    Attributes:
        title: what was looked at.
        about: lines on the sample.
        shown: single rows, the policies of a row after each other.
        observed: what each policy did over the corpus; empty where only texts were looked at.
        overlaps: float [P, P], see `observe`.
        divisions: by what was counted; the last one are the words.
        hardness: what a model made of it; empty where there is none.
    """

    title: str
    about: list[str]
    shown: list[Shown]
    observed: list[Observed] = field(default_factory=list)
    overlaps: np.ndarray = field(default_factory=lambda: np.zeros((0, 0)))
    divisions: list[Groups] = field(default_factory=list)
    hardness: list[Hardness] = field(default_factory=list)
