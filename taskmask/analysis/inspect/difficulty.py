"""What a model makes of what a policy masks: loss and accuracy, in all and by the groups of tokens.

Shapes: B rows, T tokens in the longest row, K views, P masked positions, G groups.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from taskmask.analysis.inspect.groupings import Groups
from taskmask.analysis.inspect.mask_stats import Policy
from taskmask.data.batch import TokenBatch
from taskmask.data.rng import RowRng
from taskmask.errors import CheckpointError

if TYPE_CHECKING:
    from taskmask.inference.loaded_model import Pretrained


@dataclass
class Hardness:
    """How hard the masked tokens of a policy are for a model.

    Attributes:
        policy: its name.
        targets: masked tokens that the model was asked for.
        loss: the sum of their losses, in nats.
        hits: how many of them it guessed right.
        by_group: {division: float [3, G]}: targets, losses and hits of each group.
    """

    policy: str
    targets: int = 0
    loss: float = 0.0
    hits: int = 0
    by_group: dict[str, np.ndarray] = field(default_factory=dict)

    @property
    def mean_loss(self) -> float:
        """Mean loss of a masked token, in nats."""
        return self.loss / self.targets if self.targets else float("nan")

    @property
    def accuracy(self) -> float:
        """Share of the masked tokens that the model guessed right."""
        return self.hits / self.targets if self.targets else float("nan")

    def losses(self, division: str) -> np.ndarray:
        """Returns float [G], the mean loss in each group; NaN where nothing in it was masked."""
        targets, losses, _ = self.by_group[division]
        return np.where(targets > 0, losses / np.maximum(targets, 1), np.nan)

    def accuracies(self, division: str) -> np.ndarray:
        """Returns float [G], the share that was guessed right in each group."""
        targets, _, hits = self.by_group[division]
        return np.where(targets > 0, hits / np.maximum(targets, 1), np.nan)


def hardness(
    loaded: Pretrained,
    policies: Sequence[Policy],
    batches: Sequence[TokenBatch],
    divisions: Sequence[Groups],
    seed: int,
    advance: Callable[[int], object] = lambda rows: None,
) -> list[Hardness]:
    """Masks a sample once with each policy and asks a masked language model for what was masked.

    Raises:
        CheckpointError: the model has no language-model head.
    """
    import torch
    import torch.nn.functional as F

    from taskmask.system.console import say
    from taskmask.training import distributed
    from taskmask.training.auto_precision import for_trained
    from taskmask.training.data_loader import on_device
    from taskmask.training.precision import autocast

    task = loaded.task()
    if "mlm" not in task.heads() or loaded.settings.masker is None:
        what = f"was trained for {loaded.settings.task.name} and says nothing of masked tokens"
        raise CheckpointError(what, where=str(loaded.file), expected="a masked language model")
    with distributed.joined(loaded.settings.run) as (world, device):
        settings, notes = for_trained(loaded.settings, [], world, device)
        for note in notes:
            say(note)
        model = loaded.objective(loaded.settings, task).to(device).model
        found = [Hardness(policy.name) for policy in policies]
        for number, rows in enumerate(batches):
            groups = {one.name: (one.index[number], len(one.labels)) for one in divisions}
            for one, policy in zip(found, policies, strict=True):
                task.masker = policy.masker
                made = task.make_batch(rows, RowRng(seed, 1, rows.ids))
                batch = on_device(made, device)
                with torch.no_grad(), autocast(device, settings.train.precision):
                    logits = model(**batch.inputs)["mlm"].float()
                labels = batch.targets["mlm"]
                losses = F.cross_entropy(logits, labels, reduction="none").double().cpu().numpy()
                hits = (logits.argmax(-1) == labels).cpu().numpy()
                _add(one, made.inputs["positions"]["mlm"] % rows.tokens.size, losses, hits, groups)
            advance(len(rows.ids))
    return found


def _add(
    one: Hardness, places: np.ndarray, losses: np.ndarray, hits: np.ndarray, groups: dict[str, tuple[np.ndarray, int]]
) -> None:
    """Adds losses [P] and hits [P] at places [P] of the flat [B, T], whichever view they are of."""
    one.targets, one.loss, one.hits = one.targets + len(losses), one.loss + losses.sum(), one.hits + int(hits.sum())
    for name, (index, size) in groups.items():
        group = index.reshape(-1)[places]
        inside = group >= 0
        parts = [np.bincount(group[inside], weights[inside], minlength=size) for weights in (losses, hits)]
        table = np.stack([np.bincount(group[inside], minlength=size), *parts])
        one.by_group[name] = one.by_group.get(name, 0) + table
