"""A checkpoint with the settings of its run."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from taskmask.checkpoints import checkpoint
from taskmask.checkpoints.find import find, run_of
from taskmask.checkpoints.saved_settings import parse_saved
from taskmask.config.run_paths import find_data
from taskmask.config.settings import Settings
from taskmask.errors import CheckpointError, ConfigError

HEADS = "model.heads."
POSITIONS = ("model.embeddings.positions.weight", "model.target_embeddings.positions.weight")
"""The tables of learned places, of which shorter rows take the first."""


def read(source: str) -> tuple[Path, Settings, dict[str, Any]]:
    """Reads the best checkpoint of a run folder, or one checkpoint: its file, settings and content.

    A relative `data.path` of the run leads from where it began, else from here, else from a folder above the run. A run
    that is at work removes older checkpoints: if the best one is gone before it is read, the best is found again.

    Raises:
        CheckpointError: it is missing or damaged.
    """
    file, state = find(source), None
    while state is None:
        try:
            state = checkpoint.load(file)
        except CheckpointError:
            if os.path.lexists(file) or (file := find(source)) == Path(source):
                raise
    try:
        settings = parse_saved(state["settings"], str(file))
    except ConfigError as error:
        raise CheckpointError(
            f"needs a component or an option that is not here: {error}", where=str(file), fix="add --user-dir"
        ) from error
    data = dataclasses.replace(settings.data, path=find_data(settings.data.path, run_of(file), settings.run.folder))
    settings = dataclasses.replace(settings, data=data)
    return file, settings, state


def weights_of(state: Mapping[str, Any]) -> dict[str, Tensor]:
    """Returns {name: tensor} of the objective; the average of the weights if the run kept one."""
    return {**state["model"], **(state["average"] or {})}


def shortened(name: str, tensor: Tensor, own: Tensor | None) -> Tensor:
    """Returns the first of the learned positions where there are more than needed; any other tensor as it is."""
    is_longer = name in POSITIONS and own is not None and own.shape[1:] == tensor.shape[1:] and len(own) < len(tensor)
    return tensor[: len(own)] if is_longer and own is not None else tensor
