"""Masked language modelling and labels in one loss.

Shapes: P masked positions, V vocabulary, N labelled rows or tokens, C classes.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from taskmask.criteria import JointLossConfig
from taskmask.criteria.base import Criterion
from taskmask.data.rows import Batch
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

    def loss(self, outputs: dict[str, Tensor], batch: Batch) -> dict[str, Tensor]:
        """Logits float [P, V] and [N, C] against labels int64 [P] and [N], or the teacher's logits [N, C]."""
        logits, labels = outputs["pseudo"].float(), batch.targets["pseudo"]
        known = labels >= 0
        sums = {"mlm": logits.sum() * 0.0, **self._of_labels(logits, labels, known, batch)}
        sums["pseudo_correct"] = ((logits.detach().argmax(-1) == labels) & known).sum(dtype=torch.float32)
        if "mlm" in batch.targets:
            if not self.config.mlm_weight:
                what, fix = "is 0, but the task masks what it reads", "--task.mlm false"
                raise ConfigError(what, where="criterion.mlm_weight", expected="the text as it is", fix=fix)
            masked, right = outputs["mlm"].float(), batch.targets["mlm"]
            sums["mlm"] = F.cross_entropy(masked, right, reduction="sum")
            sums["mlm_correct"] = (masked.detach().argmax(-1) == right).sum(dtype=torch.float32)
        return sums

    def _of_labels(self, logits: Tensor, labels: Tensor, known: Tensor, batch: Batch) -> dict[str, Tensor]:
        """Returns the sum that is minimised and, where it is another, the plain one."""
        heat, direction = self.config.temperature, self.config.direction
        is_plain = heat == 1 and direction == "teacher_student"
        if "soft" not in batch.targets:
            if not is_plain:
                what = "and direction are of a teacher's scores, but the task has none"
                raise ConfigError(what, where="criterion.temperature", fix="name them with --task.soft")
            return {"pseudo": F.cross_entropy(logits, labels, ignore_index=-1, reduction="sum")}
        ours, teacher = logits[known], batch.targets["soft"][known].float()
        if is_plain or not self.training:
            return {"pseudo": divergence(teacher, ours).sum()}
        if direction == "student_teacher" and teacher.isneginf().any():
            what = "is student_teacher, but a teacher's score is minus infinity, from which the divergence is infinite"
            raise ConfigError(what, where="criterion.direction", expected="teacher_student, or finite scores")
        first, second = (teacher, ours) if direction == "teacher_student" else (ours, teacher)
        shaped = divergence(first / heat, second / heat).sum() * heat**2
        return {"pseudo": shaped, "pseudo_plain": divergence(teacher, ours.detach()).sum()}


def divergence(first: Tensor, second: Tensor) -> Tensor:
    """Returns KL(first || second) of the distributions that logits [N, C] stand for, in nats, [N].

    A class that is impossible by the first adds nothing, whatever the second says: 0 log 0 is 0.
    """
    first, second = F.log_softmax(first, -1), F.log_softmax(second, -1)
    return (first.exp() * (first - second)).masked_fill(first.isneginf(), 0.0).sum(-1)
