"""Checkpoints: tensors and JSON types in one file, written whole or not at all, checked before it is believed.

A file is called after its step and, where the weights were validated, its score: `step-2000_loss-2.7183.pt`.
"""

from __future__ import annotations

import contextlib
import errno
import math
import os
import pickle
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from taskmask.checkpoints.archive import SealedWriter, check_archive
from taskmask.errors import CheckpointError, storage_error
from taskmask.system.failpoints import reach
from taskmask.system.files import atomic_write

FORMAT = 1
_NAME = re.compile(r"step-(\d+)(?:_\w+-(-?\d+(?:\.\d+)?(?:e[+-]?\d+)?))?\.pt")
_CONTENT = {
    "step": int, "model": dict, "optimizer": dict, "loss_scale": dict, "progress": dict,
    "settings": dict, "vocabulary": bytes, "labels": dict, "data_fingerprint": str, "average": dict | None,
}  # fmt: skip


def name_of(step: int, metric: str, score: float | None) -> str:
    """Returns the name of a checkpoint; a score that is None or not finite is left out."""
    if score is None or not math.isfinite(score):
        return f"step-{step}.pt"
    return f"step-{step}_{metric}-{score:.6g}.pt"


def step_of(file: Path) -> int:
    """Returns the step in a checkpoint's name."""
    match = _NAME.fullmatch(file.name)
    return int(match[1]) if match else -1


def score_of(file: Path) -> float | None:
    """Returns the validation score in a checkpoint's name, None where the weights were not validated."""
    match = _NAME.fullmatch(file.name)
    return float(match[2]) if match and match[2] else None


def all_of(run: Path) -> list[Path]:
    """Returns the checkpoints of a run folder, oldest first; of one step, that with a score last."""
    files = (run / "checkpoints").glob("step-*.pt")
    return sorted((file for file in files if _NAME.fullmatch(file.name)), key=lambda file: (step_of(file), file.name))


def best_of(run: Path, direction: str) -> Path:
    """Returns the best checkpoint of a run folder by its score ("min" or "max"), the newest where none has one.

    Raises:
        CheckpointError: there is none.
    """
    files = all_of(run) or all_of(run)  # a folder is listed while another process renames and removes what is in it
    if not files:
        raise CheckpointError("holds no checkpoint", where=str(run), expected=f"{run}/checkpoints/step-*.pt")
    return _ranked(files, direction)[0]


def _ranked(files: list[Path], direction: str) -> list[Path]:
    """Returns the files, best score first, the first of those with the same; those without one last, newest first.

    A later one of the same score may be there or not, as it was time to save or not, so that it must not count.
    """
    sign = 1 if direction == "min" else -1

    def key(file: Path) -> tuple[bool, float, int]:
        score = score_of(file)
        return (True, 0.0, -step_of(file)) if score is None else (False, sign * score, step_of(file))

    return sorted(files, key=key)


def prune(run: Path, keep_last: int, keep_best: int, direction: str, keep_every: int = 0) -> None:
    """Removes all checkpoints but the last and the best ones, and those of the steps that `keep_every` divides."""
    files = all_of(run)
    marked = {file for file in files if keep_every and step_of(file) % keep_every == 0}
    scored = [file for file in _ranked(files, direction) if score_of(file) is not None]
    for file in sorted(set(files) - {*files[-keep_last:], *scored[:keep_best], *marked}):
        reach("save.prune")
        file.unlink(missing_ok=True)


def save(file: Path, state: dict[str, Any]) -> None:
    """Writes a checkpoint, whole or not at all.

    Raises:
        StorageError: the disk is full or the folder cannot be written; nothing is left under the final name.
    """
    try:
        with atomic_write(file, "save") as stream:
            reach("save.write")
            sealed = SealedWriter(stream)
            torch.save({"format": FORMAT, **state}, sealed)  # type: ignore[arg-type]
            sealed.seal()
    except RuntimeError as error:  # as which torch reports a full disk
        if "PytorchStreamWriter" not in str(error) and "enforce" not in str(error):
            raise
        raise storage_error(file, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))) from error


def clean(run: Path) -> None:
    """Removes what a killed save left behind."""
    for folder in (run, run / "checkpoints"):
        for file in folder.glob(".*.tmp"):
            file.unlink(missing_ok=True)


def set_aside(run: Path, after: int) -> None:
    """Takes the damaged checkpoints after a step out of the way, so that none of them counts as the newest or best."""
    for file in all_of(run):
        if step_of(file) > after:
            file.rename(file.with_name(f"{file.name}.damaged"))


def load(file: Path) -> dict[str, Any]:
    """Reads a checkpoint, verified and without running any code from it.

    Raises:
        CheckpointError: it is missing, damaged, or not a checkpoint of taskmask.
    """
    fix = "use another checkpoint of the run"
    try:
        size = file.stat().st_size
        check_archive(file)
        state = torch.load(file, map_location="cpu", weights_only=True)
    except CheckpointError:
        raise
    except pickle.UnpicklingError as error:  # torch's own words tell how to run what is in it
        what = "is damaged, or holds more than tensors and JSON types"
        raise CheckpointError(what, where=str(file), fix="do not use it") from error
    except FileNotFoundError:
        raise CheckpointError("there is no such checkpoint", where=str(file), fix="check the path") from None
    except Exception as error:
        reason = str(error).split("\n")[0] or type(error).__name__
        raise CheckpointError(f"is damaged or no checkpoint: {reason}", where=str(file), fix=fix) from error
    if not isinstance(state, dict) or "format" not in state:
        raise CheckpointError("is no checkpoint of taskmask", where=str(file), fix=fix)
    with contents_of(str(file)):
        _check_size(state, size, file)
    if type(state["format"]) is not int or state["format"] != FORMAT:
        raise CheckpointError(
            f"has format {str(state['format'])[:20]}",
            where=str(file),
            expected=str(FORMAT),
            fix="use the taskmask that wrote it",
        )
    lacking = [name for name, kind in _CONTENT.items() if name not in state or not isinstance(state[name], kind)]
    if lacking:
        raise CheckpointError(f"lacks {', '.join(lacking)}", where=str(file), fix=fix)
    with contents_of(str(file)):
        _check_content(state, file)
    return state


def _check_content(state: dict[str, Any], file: Path) -> None:
    """Checks what is inside the parts: weights are plain tensors by name, labels are texts, the step is a number."""
    fix = "use another checkpoint of the run"
    for name, tensor in [*state["model"].items(), *(state["average"] or {}).items()]:
        if not isinstance(name, str) or not _is_plain(tensor):
            raise CheckpointError("holds weights that are no tensors", where=str(file), fix=fix)
    for column, names in state["labels"].items():
        if not isinstance(names, list) or not all(map(_is_text, [column, *names])):
            raise CheckpointError("holds labels that are no texts", where=str(file), fix=fix)
    if type(state["step"]) is not int or state["step"] < 0:
        raise CheckpointError(f"is of step {str(state['step'])[:20]}", where=str(file), expected="0 or more", fix=fix)


def _is_text(found: Any) -> bool:
    """Returns whether it is a text that UTF-8 can hold."""
    return isinstance(found, str) and found == found.encode(errors="ignore").decode()


def _is_plain(found: Any) -> bool:
    """Whether it is a tensor of numbers in memory: not sparse, nested or quantized, nor without content."""
    plain = type(found) in (Tensor, nn.Parameter) and found.layout is torch.strided and found.device.type == "cpu"
    return plain and not found.is_quantized and not found.is_nested


def _check_size(state: dict[str, Any], file_size: int, file: Path) -> None:
    """Checks what a pickle can make large: lists in themselves or doubled over and over, tensors beyond the file."""
    level: list[Any] = [state]
    number, storages = 0, dict[int, int]()
    while level:
        inner: list[Any] = []
        for part in level:
            if isinstance(part, dict):
                inner += [*part, *part.values()]
            elif isinstance(part, list | tuple | set):
                inner += part
            elif isinstance(part, Tensor) and part.layout is torch.strided and part.device.type == "cpu":
                size = part.untyped_storage().nbytes()
                storages[part.untyped_storage().data_ptr()] = size
                if part.numel() * part.element_size() > size:  # one number, said to be many
                    raise CheckpointError("holds less than its tensors say", where=str(file), fix="do not use it")
            if number + len(inner) > 1_000_000:
                raise CheckpointError("is nested without end", where=str(file), fix="do not use it")
        level, number = inner, number + len(inner)
    if sum(storages.values()) > file_size:
        raise CheckpointError("holds less than its tensors say", where=str(file), fix="do not use it")


@contextlib.contextmanager
def contents_of(where: str) -> Iterator[None]:
    """Turns whatever happens inside a `with` because a checkpoint holds what no run saves into a CheckpointError."""
    try:
        yield
    except (AttributeError, IndexError, KeyError, OverflowError, RuntimeError, TypeError, ValueError) as error:
        what = f"holds what no run saves: {type(error).__name__}: {' '.join(str(error).split())[:300]}"
        raise CheckpointError(what, where=where, fix="use another checkpoint of the run") from error


def put_weights(module: nn.Module, weights: dict[str, Tensor], where: str) -> None:
    """Loads weights into a module.

    Raises:
        CheckpointError: they are not those of this module.
    """
    with contents_of(where):
        try:
            module.load_state_dict(dict(weights))
        except RuntimeError as error:
            reason = " ".join(str(error).partition(":")[2].split())
            raise CheckpointError(
                f"does not fit the model: {reason[:300]}",
                where=where,
                fix="give the model settings it was trained with",
            ) from error


def put_moments(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Loads the moments of AdamW; its settings stay those of this run.

    Raises:
        ValueError: they are not those of these parameters; torch itself would read beyond their end.
    """
    if not all(_is_plain(tensor) for moments in state["state"].values() for tensor in moments.values()):
        raise ValueError("moments that are no tensors")
    optimizer.load_state_dict({"state": state["state"], "param_groups": optimizer.state_dict()["param_groups"]})
    for parameter, moments in optimizer.state.items():
        shapes = {name: tuple(tensor.shape) for name, tensor in moments.items()}
        size = tuple(parameter.shape)
        if moments and shapes != {"step": (), "exp_avg": size, "exp_avg_sq": size}:
            raise ValueError(f"moments of {shapes} for a parameter of {size}")


def check_like(found: Any, own: Any) -> None:
    """Checks numbers that were saved against those of a run that has not begun.

    Args:
        found: dicts, lists and numbers in them.
        own: the same at the start: None stands for a number or None, an empty dict or a list for any numbers.

    Raises:
        ValueError: a name is unknown, or a number is none, or below that of the start.
    """
    if isinstance(own, dict):
        if not all(isinstance(name, str) for name in found) or (own and found.keys() - own.keys()):
            raise ValueError(f"{sorted(map(str, found))[:9]} instead of {sorted(own)}")
        for name, value in found.items():
            check_like(value, own.get(name, math.nan))
    elif isinstance(own, list):
        for value in found:
            check_like(value, math.nan)
    elif type(own) is int:
        if type(found) is not int or not min(own, 0) <= found < 1 << 62:
            raise ValueError(f"{str(found)[:40]} is no count")
    elif type(found) not in (int, float) and not (own is None and found is None):
        raise ValueError(f"{str(found)[:40]} is no number")


def load_last(run: Path, report: Callable[[str], None]) -> dict[str, Any] | None:
    """Reads the newest whole checkpoint of a run folder.

    Args:
        run: the run folder.
        report: is told of each damaged checkpoint that is passed over.

    Returns:
        The state, or None where the run has no checkpoint yet.

    Raises:
        CheckpointError: there are checkpoints, and all are damaged.
    """
    files = all_of(run)
    for file in reversed(files):
        try:
            return load(file)
        except CheckpointError as error:
            report(f"warning: {error}; going back to the one before it")
    if files:
        raise CheckpointError(
            f"all {len(files)} checkpoints are damaged", where=str(run), fix="start anew with --run.restart"
        )
    return None
