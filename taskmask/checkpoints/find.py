"""Which checkpoint a run folder, or a folder of several seeds, stands for."""

from __future__ import annotations

import re
from pathlib import Path

from taskmask.checkpoints import checkpoint
from taskmask.errors import CheckpointError
from taskmask.registry import TASKS
from taskmask.system.console import say
from taskmask.system.json_input import read_json


def runs_in(folder: str) -> list[str]:
    """Returns the runs of a folder that `train_seeds` filled, by their seeds; the folder itself if it is a run."""
    path = Path(folder)
    found = [p for p in path.glob("seed-*") if re.fullmatch(r"seed-\d+", p.name)] if path.is_dir() else []
    if (path / "settings.json").exists() or not found:
        return [folder]
    return [str(p) for p in sorted(found, key=lambda p: int(p.name.partition("-")[2]))]


def find(source: str) -> Path:
    """Returns the checkpoint that `--from SOURCE` means: the file itself, or the best one of a run folder.

    Of a folder of several seeds it is the checkpoint with the best validation score of all; a line names it.

    Raises:
        CheckpointError: there is nothing, or no checkpoint in it.
    """
    if not Path(source).is_dir():
        return Path(source)
    runs = runs_in(source)
    if len(runs) == 1:
        return _best_of(runs[0])[1]
    found = [_best_of(run) for run in runs if checkpoint.all_of(Path(run))]
    if not found:
        raise CheckpointError("holds no checkpoint", where=source, expected=f"{runs[0]}/checkpoints/step-*.pt")
    best = min(found, key=lambda one: one[0])[1]
    say(f"note: {source} holds {len(runs)} seeds; this uses {best}, with the best validation score")
    return best


def _best_of(source: str) -> tuple[tuple[bool, float], Path]:
    """Returns the best checkpoint of a run folder after a key that is lower for better checkpoints.

    Raises:
        CheckpointError: it is not a run folder, or holds no checkpoint.
    """
    path = Path(source)
    try:
        tables = read_json(path / "settings.json")
        name, metric = tables["task"]["name"], tables["train"].get("metric", "")
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise CheckpointError("is no run folder", where=source, expected=f"{source}/settings.json") from None
    task = TASKS.get(name).load()
    direction = task.direction(metric or task.best)
    file = checkpoint.best_of(path, direction)
    score = checkpoint.score_of(file)
    return (score is None, (score or 0.0) * (1 if direction == "min" else -1)), file


def run_of(file: Path) -> Path:
    """Returns the run folder of a checkpoint."""
    return file.parent.parent if file.parent.name == "checkpoints" else file.parent
