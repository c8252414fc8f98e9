"""What a run has reached, besides its tensors."""

from __future__ import annotations

import dataclasses
import sys
from typing import Any

import torch

from taskmask import __version__
from taskmask.config.settings import Settings
from taskmask.errors import DataError
from taskmask.tokenizer.tokenizer import Vocabulary
from taskmask.training.data_loader import Position


@dataclasses.dataclass
class Progress:
    """All that a run has reached, besides its tensors: what a checkpoint holds and a resume takes back."""

    position: Position = dataclasses.field(default_factory=Position)
    tokens: int = 0
    targets: float = 0.0
    skipped_steps: int = 0
    bad_steps: int = 0
    norms: list[float] = dataclasses.field(default_factory=list)
    best: float | None = None
    validations_without_best: int = 0
    validated: dict[str, float] = dataclasses.field(default_factory=dict)
    validated_step: int = -1
    pending: dict[str, float] = dataclasses.field(default_factory=dict)

    @staticmethod
    def of(state: dict[str, Any]) -> Progress:
        """Makes it from what `dataclasses.asdict` gave."""
        return Progress(**{**state, "position": Position(**state["position"])})


def snapshot(
    settings: Settings, vocab: Vocabulary, labels: dict[str, list[str]], weights: dict[str, Any], progress: Progress
) -> dict[str, Any]:
    """Returns the content of a checkpoint, with an optimizer that has done nothing yet."""
    return {
        "step": progress.position.step,
        "model": weights,
        "average": None,
        "optimizer": {},
        "loss_scale": {},
        "progress": dataclasses.asdict(progress),
        "settings": settings.to_dict(),
        "vocabulary": vocab.model_bytes,
        "labels": labels,
        "data_fingerprint": "",
        "versions": {"taskmask": __version__, "torch": str(torch.__version__), "python": sys.version.split()[0]},
    }


def check_targets(targets: float, step: int, settings: Settings) -> None:
    """Raises a DataError where so many steps from the first on had nothing to predict, so that nothing is learned."""
    if not targets and step >= settings.train.max_bad_steps:
        what, fix = f"in {step} steps nothing was to be predicted", "see what is masked with taskmask inspect"
        raise DataError(what, where=settings.data.path, expected="masked tokens, or labels", fix=fix)
