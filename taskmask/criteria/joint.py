"""Masked language modelling and labels in one loss.

Shapes: P masked positions, V vocabulary, N labelled rows or tokens, C classes.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from taskmask.criteria import JointLossConfig
from taskmask.criteria.base import Criterion
from taskmask.data.batch import Batch
from taskmask.errors import ConfigError


class JointCriterion(Criterion):
    """The mean loss of the masked tokens and that of the labels, each with its weight.

    Labels are hard (cross-entropy) or, where the task has a teacher's answers, soft (Kullback-Leibler divergence from
    them); targets below 0 have none and do not count, whichever. Temperature and direction shape the training;
    validation measures KL(teacher||student) at temperature 1, and training sums it too ("pseudo_plain").

    **Source:** Guo 2020 (arXiv 2011.09031), section 3.2 (plain sum) and 4.3 (divergence from the teacher's logits);
    Hinton et al. 2015 (arXiv 1503.02531), section 2 (temperature, and its square).
    """

    def __init__(self, config: JointLossConfig):
        super().__init__(config)
        self.weights = {"mlm": config.mlm_weight, "pseudo": config.label_weight}

    def count(self, batch: Batch) -> dict[str, float]:
        """Masked positions, and targets with a label."""
        masked = batch.targets.get("mlm")
        return {"mlm": 0 if masked is None else len(masked), "pseudo": int((batch.targets["pseudo"] >= 0).sum())}

    def each(self, outputs: dict[str, Tensor], batch: Batch) -> dict[str, Tensor]:
        """Logits float [P, V] and [N, C] against labels int64 [P] and [N], or the teacher's logits [N, C].

        0 for a label below 0. Without masked tokens there is no "mlm".
        """
        logits, labels = outputs["pseudo"].float(), batch.targets["pseudo"]
        known = labels >= 0
        if "soft" in batch.targets:
            found = divergence(batch.targets["soft"][known].float(), logits[known])
            losses = {"pseudo": logits.new_zeros(len(labels)).masked_scatter(known, found)}
        else:
            losses = {"pseudo": F.cross_entropy(logits, labels, ignore_index=-1, reduction="none")}
        if "mlm" in batch.targets:
            losses["mlm"] = F.cross_entropy(outputs["mlm"].float(), batch.targets["mlm"], reduction="none")
        return losses

    def loss(self, outputs: dict[str, Tensor], batch: Batch) -> dict[str, Tensor]:
        """The sums of `each`, and the hits; in training the sum that is minimised, and the plain one if it differs."""
        if "mlm" in batch.targets and not self.config.mlm_weight:
            what, fix = "is 0, but the task masks what it reads", "--task.mlm false"
            raise ConfigError(what, where="criterion.mlm_weight", expected="the text as it is", fix=fix)
        shaped = self._shaped(outputs["pseudo"].float(), batch)
        sums = {"mlm": outputs["pseudo"].float().sum() * 0.0}
        for name, losses in self.each(outputs, batch).items():
            labels = batch.targets[name]
            right = (outputs[name].detach().argmax(-1) == labels) & (labels >= 0)
            sums |= {name: losses.sum(), f"{name}_correct": right.sum(dtype=torch.float32)}
        if shaped is not None:
            sums |= {"pseudo": shaped, "pseudo_plain": sums["pseudo"].detach()}
        return sums

    def _shaped(self, logits: Tensor, batch: Batch) -> Tensor | None:
        """Returns the sum that training minimises; None if it is the plain one, and in validation."""
        heat, direction = self.config.temperature, self.config.direction
        is_plain = heat == 1 and direction == "teacher_student"
        if "soft" not in batch.targets and not is_plain:
            what = "and direction are of a teacher's scores, but the task has none"
            raise ConfigError(what, where="criterion.temperature", fix="name them with --task.soft")
        if is_plain or not self.training:
            return None
        known = batch.targets["pseudo"] >= 0
        ours, teacher = logits[known], batch.targets["soft"][known].float()
        if direction == "student_teacher" and teacher.isneginf().any():
            what = "is student_teacher, but a teacher's score is minus infinity, from which the divergence is infinite"
            raise ConfigError(what, where="criterion.direction", expected="teacher_student, or finite scores")
        first, second = (teacher, ours) if direction == "teacher_student" else (ours, teacher)
        return divergence(first / heat, second / heat).sum() * heat**2


def divergence(first: Tensor, second: Tensor) -> Tensor:
    """Returns KL(first || second) of the distributions that logits [N, C] stand for, in nats, [N].

    A class that is impossible by the first adds nothing, whatever the second says: 0 log 0 is 0.
    """
    first, second = F.log_softmax(first, -1), F.log_softmax(second, -1)
    return (first.exp() * (first - second)).masked_fill(first.isneginf(), 0.0).sum(-1)
