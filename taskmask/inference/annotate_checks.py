"""What `annotate` is asked for, checked before any work is done."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping

from taskmask.checkpoints.saved_settings import without_unchecked
from taskmask.config.settings import Settings
from taskmask.data.dataset import Column, Dataset
from taskmask.errors import ConfigError, DataError, did_you_mean
from taskmask.inference import loaded_model
from taskmask.inference.label_selection import Selection, check_leave_out
from taskmask.registry import TASKS
from taskmask.tasks.base import Task
from taskmask.training.build import DataParts, build_data

ODDS = "log odds"
"""What labels are chosen by waits under this name, which no column can have, and is not written."""
UNGUARDED = (
    "the model's own data is not at {}, or has changed: what it tests on keeps its label, unless --leave-out names it"
)


def check_label(loaded: loaded_model.Pretrained, settings: Settings) -> None:
    """Raises a ConfigError where another column of labels is named than one that the model has learned."""
    own, label = (getattr(given.task.options, "label", "") for given in (loaded.settings, settings))
    if label != own and loaded.labels and label not in loaded.labels:
        what, expected = f"is {label!r}, and the model knows no such labels", " or ".join(loaded.labels)
        fix = f"prepare the data with the labels in column {own!r}"
        raise ConfigError(what, where="task.label", expected=expected, fix=fix)


def check_columns(parts: DataParts, columns: Mapping[str, str], keep: Selection) -> dict[str, Column]:
    """Returns {name: kind and type} of the new columns, and of the log-odds if labels are chosen by confidence.

    Raises:
        ConfigError: the task does not give that, or what labels are chosen by is not asked for.
    """
    known = parts.task.annotations()
    if not known:
        able = [name for name in TASKS.names() if TASKS.get(name).load().annotations is not Task.annotations]
        own = next((name for name in TASKS.names() if TASKS.get(name).load() is type(parts.task)), "of the run")
        raise ConfigError(
            f"task {own} writes no columns",
            where="--task",
            expected=f"one of {', '.join(able)}",
            fix="name a run of such a task with --from, or another task with --task",
        )
    for name, what in columns.items():
        if what not in known:
            raise ConfigError(
                f"is {what!r}",
                where=f"--column {name}",
                expected=f"one of {', '.join(list(known)[:12])}{' ...' if len(known) > 12 else ''}",
                fix=did_you_mean(what, known),
            )
    for what in ["label"] * keep.chooses + ["confidence"] * keep.by_confidence:
        column_with(columns, what, keep.option, parts.task)
    if keep.of_rows and known[columns[column_with(columns, "label", "--to-tsv", parts.task)]].kind != "row":
        fix = "learn from the column: --task tagging"
        raise ConfigError("has a label for each token", where="--to-tsv", expected="one for each text", fix=fix)
    chosen_by = {}
    if keep.by_confidence:
        if "log_odds" not in known:
            what = f"chooses by log_odds, which task {type(parts.task).__name__} does not give"
            raise ConfigError(what, where=keep.option, fix="leave the option out, or name another task with --task")
        chosen_by[ODDS] = known["log_odds"]
    return {**{name: known[what] for name, what in columns.items()}, **chosen_by}


def guard(
    keep: Selection, loaded: loaded_model.Pretrained, columns: Mapping[str, str], splits: Iterable[str]
) -> tuple[Selection, list[str]]:
    """Returns the selection with the model's own data left out, too; where that may not be it, a note for people.

    Raises:
        ConfigError: what is to be left out would leave nothing out.
    """
    check_leave_out(keep, splits)
    own = loaded.settings.data.path
    if "label" not in columns.values() or not set(splits) & set(keep.learned) or own in keep.leave_out:
        return keep, []
    try:
        known = Dataset.open(own).splits
        splits_of_own = ["train", *(["valid"] if "valid" in known else [])]
        trained = build_data(without_unchecked(loaded.settings), splits_of_own, loaded.labels)
    except (ConfigError, DataError):
        return keep, [UNGUARDED.format(own or "any path")]
    is_same = trained.fingerprint == loaded.facts["data_fingerprint"]
    notes = [] if is_same else [UNGUARDED.format(own)]
    return dataclasses.replace(keep, leave_out=(*keep.leave_out, own)), notes


def check_heads(loaded: loaded_model.Pretrained, settings: Settings, parts: DataParts) -> None:
    """Raises a ConfigError if the model has no head for another task than its own."""
    if settings.task.name == loaded.settings.task.name:
        return
    own, asked = loaded.task().heads(), parts.task.heads()
    if own != asked:
        said = [", ".join(f"{name} of a {spec.kind}" for name, spec in heads.items()) for heads in (own, asked)]
        raise ConfigError(
            f"is a run of task {loaded.settings.task.name}, which says {said[0]}",
            where=f"--from, task {settings.task.name}",
            expected=said[1],
            fix="name a run that learned it",
        )


def column_with(columns: Mapping[str, str], what: str, option: str, task: Task | None = None) -> str:
    """Returns the first of the new columns with this in it, by which an option chooses.

    Raises:
        ConfigError: it is not asked for, or the task does not give it.
    """
    if task and what not in task.annotations():
        fix = "leave the option out, or name a task of labels with --task"
        raise ConfigError(f"chooses by {what}, which task {type(task).__name__} does not give", where=option, fix=fix)
    found = [name for name, given in columns.items() if given == what]
    if not found:
        asked = " ".join(f"{name}={given}" for name, given in columns.items())
        fix = f"ask for it: --column {asked} my_{what}={what}"
        raise ConfigError(f"needs a column with {what}", where=option, expected=what, fix=fix)
    return found[0]
