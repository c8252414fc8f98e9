"""Weights taken from another checkpoint, before training begins (`train.init_from`)."""

from __future__ import annotations

import shlex
from collections.abc import Mapping

from torch import Tensor

from taskmask.checkpoints.read import HEADS, read, shortened, weights_of
from taskmask.checkpoints.saved_settings import without_unchecked
from taskmask.errors import CheckpointError
from taskmask.tokenizer.tokenizer import Vocabulary
from taskmask.training.build import DataParts, build_task
from taskmask.training.objective import Objective


def initialise(objective: Objective, source: str, parts: DataParts) -> dict[str, list[str]]:
    """Takes every weight of a checkpoint by name; only heads may be new.

    A head of another size, or for other labels, is new. Where rows are shorter than those that the checkpoint was
    trained on, the learned positions beyond them are left.

    Returns:
        {"taken": names, "new": names of the objective that the checkpoint lacks, "left": its names not used}.

    Raises:
        CheckpointError: another vocabulary, another shape, or a missing weight outside the heads.
    """
    file, settings, state = read(source)
    vocab, theirs = Vocabulary(state["vocabulary"]), weights_of(state)
    if vocab.fingerprint != parts.vocab.fingerprint:
        raise CheckpointError(
            f"was trained with vocabulary {vocab.fingerprint[:12]}",
            where=f"train.init_from {file}",
            expected=f"that of the dataset, {parts.vocab.fingerprint[:12]}",
            fix=f"prepare the data with taskmask-preprocess --vocab {shlex.quote(settings.data.path or source)}",
        )
    own = objective.state_dict()
    other_classes = (
        build_task(without_unchecked(settings), vocab, state["labels"]).class_names != parts.task.class_names
    )
    weights = {
        name: shortened(name, tensor, own.get(name))
        for name, tensor in theirs.items()
        if not (name.startswith(HEADS) and name in own and (other_classes or own[name].shape != tensor.shape))
        or name.startswith("model.heads.mlm.")
    }
    shapes = [
        f"{name} {list(weights[name].shape)} and here {list(tensor.shape)}"
        for name, tensor in own.items()
        if name in weights and weights[name].shape != tensor.shape
    ]
    new = [name for name in own if name not in weights]
    missing = [name for name in new if not name.startswith((HEADS, "criterion."))]
    if shapes or missing:
        raise CheckpointError(
            "; ".join([f"has {text}" for text in shapes[:3]] + [f"lacks {name}" for name in missing[:3]]),
            where=f"train.init_from {file}",
            fix=f"use its model: --model {settings.model.name} --data.length {settings.data.length}",
        )
    _take(objective, weights, own)
    taken = [name for name in own if name in weights]
    return {"taken": taken, "new": new, "left": [name for name in theirs if name not in taken]}


def _take(objective: Objective, weights: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> None:
    objective.load_state_dict({name: weights.get(name, tensor) for name, tensor in own.items()})
