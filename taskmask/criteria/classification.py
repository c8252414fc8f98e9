"""Cross-entropy over classes: of rows (classification) or of tokens (tagging).

Shapes: P targets, C classes.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from taskmask.criteria import ClassificationLossConfig
from taskmask.criteria.base import Criterion
from taskmask.data.batch import Batch
from taskmask.errors import ConfigError, did_you_mean


class ClassificationCriterion(Criterion):
    """Sum over the targets of weight(class) * loss, in nats; the loss is -log p(class), in training smoothed.

    The mean is taken over the weights of the targets, as `torch.nn.CrossEntropyLoss` does. Targets below 0 do not
    count. Weights and smoothing shape the training, which also sums the plain loss ("label_plain"); validation
    measures the plain loss alone.

    Differs from `torch.nn.CrossEntropyLoss` with `weight` and `label_smoothing`: torch multiplies the smoothed share of
    every class by the weight of that class, so that each target pulls towards the heaviest class, whatever its own.
    Here the weight of a target multiplies its whole smoothed loss.

    **Source:** Szegedy et al. 2016 (arXiv 1512.00567), section 7 (label smoothing); King and Zeng 2001, "Logistic
    regression in rare events data", section 4.2 (balanced weights).
    """

    weights = {"label": 1.0}  # noqa: RUF012 - other criteria have their own in each instance
    class_weights: Tensor

    def __init__(self, config: ClassificationLossConfig):
        super().__init__(config)
        self.register_buffer("class_weights", torch.ones(0), persistent=False)

    def prepare(self, class_names: list[str], class_counts: np.ndarray) -> None:
        """Sets the weight of each class."""
        weights = torch.ones(len(class_names))
        for name, weight in self.config.pairs.items():
            if name not in class_names:
                raise ConfigError(
                    f"names {name!r}",
                    where="criterion.class_weights",
                    expected=f"one of {', '.join(class_names[:20])}",
                    fix=did_you_mean(name, class_names),
                )
            weights[class_names.index(name)] = weight
        if self.config.class_weights == ("balanced",):
            shares = class_counts * np.count_nonzero(class_counts)  # a class without a row has weight 0
            balanced = np.divide(class_counts.sum(), shares, out=np.zeros(len(shares)), where=shares > 0)
            weights = torch.from_numpy(balanced).float()
        self.class_weights = weights

    @property
    def weighted(self) -> bool:
        """Whether targets weigh differently now."""
        return self.training and bool(self.config.class_weights)

    def count(self, batch: Batch) -> dict[str, float]:
        """The targets, by their weights."""
        labels = batch.targets["label"]
        labels = labels[labels >= 0]
        return {"label": float(self.class_weights[labels].double().sum()) if self.weighted else len(labels)}

    def each(self, outputs: dict[str, Tensor], batch: Batch) -> dict[str, Tensor]:
        """Logits float [P, C] against labels int64 [P]; 0 for a label below 0."""
        logits, labels = outputs["label"].float(), batch.targets["label"]
        return {"label": F.cross_entropy(logits, labels, ignore_index=-1, reduction="none")}

    def loss(self, outputs: dict[str, Tensor], batch: Batch) -> dict[str, Tensor]:
        """Logits float [P, C] against labels int64 [P]; without targets the sum is 0."""
        logits, labels = outputs["label"].float(), batch.targets["label"]
        known, smoothing = labels >= 0, self.config.label_smoothing if self.training else 0.0
        sums = {
            "label": self.each(outputs, batch)["label"].sum(),
            "label_correct": ((logits.detach().argmax(-1) == labels) & known).sum(dtype=torch.float32),
            "label_rows": known.sum(dtype=torch.float32),
        }
        if smoothing or self.weighted:
            sums["label_plain"] = sums["label"].detach()
            each = F.cross_entropy(logits, labels, ignore_index=-1, reduction="none", label_smoothing=smoothing)
            weights = self.class_weights[labels.clamp(min=0)] if self.weighted else 1.0
            sums["label"] = (each * weights).sum()
        return sums
