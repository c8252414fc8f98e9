"""The criteria that come with taskmask, by name; their options stand here, without torch, so that `--help` is quick."""

from __future__ import annotations

import dataclasses

from taskmask.config import Problems, opt
from taskmask.registry import CRITERIA, NoOptions


@dataclasses.dataclass(frozen=True)
class ClassificationLossConfig:
    """Cross-entropy of the right class, with class weights and label smoothing."""

    class_weights: tuple[str, ...] = opt(
        (), 'balanced: rows / (classes x rows of the class); or CLASS=WEIGHT ..., others 1; "" for none'
    )
    label_smoothing: float = opt(0.0, "share of each target that is spread over all classes, in training alone")

    def __post_init__(self) -> None:
        problems = Problems()
        smoothing = self.label_smoothing
        where = "criterion.label_smoothing"
        problems.check(0 <= smoothing < 1, f"is {smoothing}", where=where, expected="at least 0 and below 1")
        for word in self.class_weights if self.class_weights != ("balanced",) else ():
            problems.check(
                _is_pair(word), f"holds {word!r}", where="criterion.class_weights", expected="balanced, or CLASS=WEIGHT"
            )
        problems.raise_any()

    @property
    def pairs(self) -> dict[str, float]:
        """The weights that were given by name."""
        words = () if self.class_weights == ("balanced",) else self.class_weights
        return {word.rpartition("=")[0]: float(word.rpartition("=")[2]) for word in words}


def _is_pair(word: str) -> bool:
    name, equals, number = word.rpartition("=")
    try:
        return bool(name and equals) and 0 <= float(number) < float("inf")
    except ValueError:
        return False


CRITERIA.add("masked_lm", config=NoOptions, load="taskmask.criteria.masked_lm:MaskedLMCriterion")
CRITERIA.add(
    "classification",
    config=ClassificationLossConfig,
    load="taskmask.criteria.classification:ClassificationCriterion",
)
CRITERIA.add("regression", config=NoOptions, load="taskmask.criteria.regression:RegressionCriterion")
CRITERIA.add("span", config=NoOptions, load="taskmask.criteria.span:SpanCriterion")
