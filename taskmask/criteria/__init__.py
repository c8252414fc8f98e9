"""The criteria that come with taskmask, by name; their options stand here, without torch, so that `--help` is quick."""

from __future__ import annotations

import dataclasses
from typing import Literal

from taskmask.config import Problems, opt
from taskmask.modules.heads_spec import MOST_DRAWS
from taskmask.registry import CRITERIA, NoOptions


@dataclasses.dataclass(frozen=True)
class ClassificationLossConfig:
    """Cross-entropy of the right class, with class weights and label smoothing."""

    class_weights: tuple[str, ...] = opt(
        (),
        "balanced: rows / (classes x rows of the class), 0 for a class without rows; or CLASS=WEIGHT ..., others 1; "
        '"" for none; a weight multiplies the whole loss of a target, smoothing included',
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


@dataclasses.dataclass(frozen=True)
class JointLossConfig:
    """Masked language modelling and (pseudo) labels together: the weighted sum of the two mean losses."""

    mlm_weight: float = opt(1.0, "weight of masked language modelling (lambda); for none at all --task.mlm false")
    label_weight: float = opt(1.0, "weight of the labels")
    temperature: float = opt(1.0, "task.soft: what all logits are divided by; the loss is multiplied by its square")
    direction: Literal["teacher_student", "student_teacher"] = opt(
        "teacher_student", "task.soft: KL(teacher||student), or KL(student||teacher)"
    )

    def __post_init__(self) -> None:
        problems = Problems()
        for name in ("mlm_weight", "label_weight"):
            value = getattr(self, name)
            problems.check(value >= 0, f"is {value}", where=f"criterion.{name}", expected="0 or more")
        total = self.mlm_weight + self.label_weight
        problems.check(
            total > 0, "and criterion.label_weight are 0", where="criterion.mlm_weight", expected="one above 0"
        )
        value = self.temperature
        problems.check(value > 0, f"is {value}", where="criterion.temperature", expected="above 0")
        problems.raise_any()


@dataclasses.dataclass(frozen=True)
class Seq2SeqLossConfig:
    """Cross-entropy of every token of a target text, with label smoothing."""

    label_smoothing: float = opt(0.0, "share of each target that is spread over the vocabulary, in training alone")

    def __post_init__(self) -> None:
        problems = Problems()
        smoothing = self.label_smoothing
        where = "criterion.label_smoothing"
        problems.check(0 <= smoothing < 1, f"is {smoothing}", where=where, expected="at least 0 and below 1")
        problems.raise_any()


@dataclasses.dataclass(frozen=True)
class MetaMaskLossConfig:
    """How a masking policy is taught by the loss of a task after steps of pre-training with its masks."""

    gradient: Literal["exact", "finite_difference", "reinforce", "first_order"] = opt(
        "exact", "of the policy: through the inner steps, by two more losses (DARTS), or by rewarded draws"
    )
    inner_steps: int = opt(1, "steps of pre-training before the task's loss (k); finite_difference: 1")
    inner_lr: float = opt(0.1, "learning rate of these steps (alpha), plain gradient descent")
    temperature: float = opt(1.0, "of the soft masks at the start (tau)")
    temperature_end: float = opt(0.3, "of the soft masks at the end of the run")
    entropy: float = opt(0.0, "bonus for policies that are not sure yet, times their entropy")
    samples: int = opt(4, "reinforce: draws whose losses are compared")
    task_weight: float = opt(
        1.0,
        "weight of the task's loss, which the model learns meanwhile; lower it where `gain` is below 0: a model that "
        "knows the answers by heart teaches no policy; 0: only weight decay",
    )
    mlm_weight: float = opt(1.0, "weight of filling in the policy's masks, meanwhile; 0: only weight decay")

    def __post_init__(self) -> None:
        problems = Problems()
        problems.check(
            self.gradient != "first_order",
            "is first_order: the policy enters by the inner gradient alone, so without it its gradient is exactly zero",
            where="criterion.gradient",
            expected="exact, finite_difference or reinforce",
        )
        one = self.gradient == "finite_difference"
        problems.check(
            self.inner_steps == 1 if one else self.inner_steps >= 1,
            f"is {self.inner_steps}",
            where="criterion.inner_steps",
            expected="1 with finite_difference" if one else "at least 1",
        )
        for name, least in (("inner_lr", 0), ("temperature", 0), ("temperature_end", 0)):
            value = getattr(self, name)
            problems.check(value > least, f"is {value}", where=f"criterion.{name}", expected=f"above {least}")
        for name in ("entropy", "task_weight", "mlm_weight"):
            value = getattr(self, name)
            problems.check(value >= 0, f"is {value}", where=f"criterion.{name}", expected="0 or more")
        problems.check(
            2 <= self.samples <= MOST_DRAWS,
            f"is {self.samples}",
            where="criterion.samples",
            expected=f"from 2 to {MOST_DRAWS}",
        )
        problems.raise_any()


CRITERIA.add("masked_lm", config=NoOptions, load="taskmask.criteria.masked_lm:MaskedLMCriterion")
CRITERIA.add(
    "classification",
    config=ClassificationLossConfig,
    load="taskmask.criteria.classification:ClassificationCriterion",
)
CRITERIA.add("regression", config=NoOptions, load="taskmask.criteria.regression:RegressionCriterion")
CRITERIA.add("span", config=NoOptions, load="taskmask.criteria.span:SpanCriterion")
CRITERIA.add("seq2seq", config=Seq2SeqLossConfig, load="taskmask.criteria.seq2seq:Seq2SeqCriterion")
CRITERIA.add("joint", config=JointLossConfig, load="taskmask.criteria.joint:JointCriterion")
CRITERIA.add("meta_mask", config=MetaMaskLossConfig, load="taskmask.criteria.meta_mask:MetaMaskCriterion")
