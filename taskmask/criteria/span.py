"""Cross-entropy of where a span begins and where it ends.

Shapes: N rows, T tokens.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from taskmask.criteria.base import Criterion
from taskmask.data.batch import Batch


class SpanCriterion(Criterion):
    """Sum over the rows of (-log p(first token) - log p(last token)) / 2, in nats.

    Each probability is a softmax over the tokens of the row that may be chosen.

    **Source:** Devlin et al. 2019 (BERT), section 4.2; the half is that of google-research/bert, `run_squad`.
    """

    weights = {"span": 1.0}  # noqa: RUF012 - other criteria have their own in each instance

    def count(self, batch: Batch) -> dict[str, float]:
        """Rows."""
        return {"span": len(batch.targets["span"])}

    def each(self, outputs: dict[str, Tensor], batch: Batch) -> dict[str, Tensor]:
        """Logits [N T, 2] against first and last token int64 [N, 2], chosen among bool [N, T]."""
        logits, spans = among(outputs["span"], batch.targets["choices"]), batch.targets["span"]
        return {"span": F.cross_entropy(logits, spans, reduction="none").mean(1)}

    def loss(self, outputs: dict[str, Tensor], batch: Batch) -> dict[str, Tensor]:
        """The sum of `each`."""
        return {"span": self.each(outputs, batch)["span"].sum()}


def among(logits: Tensor, choices: Tensor) -> Tensor:
    """Returns logits [N T, 2] as float [N, T, 2], -inf where nothing may be chosen (bool [N, T] is False)."""
    return logits.float().view(*choices.shape, 2).masked_fill(~choices[:, :, None], -torch.inf)
