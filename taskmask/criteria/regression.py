"""Squared error of a number."""

from __future__ import annotations

from torch import Tensor

from taskmask.criteria.base import Criterion
from taskmask.data.batch import Batch


class RegressionCriterion(Criterion):
    """Sum over the rows of (guess - truth)^2.

    **Source:** Devlin et al. 2019 (BERT), appendix B.1 (STS-B).
    """

    weights = {"label": 1.0}  # noqa: RUF012 - other criteria have their own in each instance

    def count(self, batch: Batch) -> dict[str, float]:
        """Rows."""
        return {"label": len(batch.targets["label"])}

    def each(self, outputs: dict[str, Tensor], batch: Batch) -> dict[str, Tensor]:
        """Guesses float [B, 1] against numbers float [B]."""
        return {"label": (outputs["label"].float()[:, 0] - batch.targets["label"]).square()}

    def loss(self, outputs: dict[str, Tensor], batch: Batch) -> dict[str, Tensor]:
        """The sum of `each`."""
        return {"label": self.each(outputs, batch)["label"].sum()}
