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
    them); targets below 0 have none and do not count, whichever.

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
        sums = {"mlm": logits.sum() * 0.0, "pseudo": self._of_labels(logits, labels, known, batch)}
        sums["pseudo_correct"] = ((logits.detach().argmax(-1) == labels) & known).sum(dtype=torch.float32)
        if "mlm" in batch.targets:
            if not self.config.mlm_weight:
                what, fix = "is 0, but the task masks what it reads", "--task.mlm false"
                raise ConfigError(what, where="criterion.mlm_weight", expected="the text as it is", fix=fix)
            masked, right = outputs["mlm"].float(), batch.targets["mlm"]
            sums["mlm"] = F.cross_entropy(masked, right, reduction="sum")
            sums["mlm_correct"] = (masked.detach().argmax(-1) == right).sum(dtype=torch.float32)
        return sums

    def _of_labels(self, logits: Tensor, labels: Tensor, known: Tensor, batch: Batch) -> Tensor:
        if "soft" not in batch.targets:
            if self.config.temperature != 1 or self.config.direction != "teacher_student":
                what = "and direction are of a teacher's scores, but the task has none"
                raise ConfigError(what, where="criterion.temperature", fix="name them with --task.soft")
            return F.cross_entropy(logits, labels, ignore_index=-1, reduction="sum")
        heat = self.config.temperature
        ours, teacher = (F.log_softmax(scores[known] / heat, -1) for scores in (logits, batch.targets["soft"]))
        first, second = (teacher, ours) if self.config.direction == "teacher_student" else (ours, teacher)
        return (first.exp() * (first - second)).sum() * heat**2  # KL(first || second)
