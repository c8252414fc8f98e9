"""Texts that are there and that a task does not read: columns of a dataset, fields of a record, a part behind a tab."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

from taskmask.data.dataset import Split
from taskmask.data.sequences.base import Source
from taskmask.tasks.base import Task
from taskmask.tokenizer.word_boundaries import is_unspaced


def unread_columns(splits: Iterable[Split], sources: Iterable[Source], task: Task, name: str) -> str:
    """Says which columns of texts the task called `name` does not read; "" if it reads all of them.

    A column that an option of the task names by default is left unread on purpose.
    """
    read = {"tokens", *task.columns, *(column for source in sources for column in source.used)}
    read |= {field.default for field in dataclasses.fields(task.config) if isinstance(field.default, str)}
    read |= set(task.masker.columns) if task.masker else set()
    texts = {key for split in splits for key, column in split.columns.items() if _holds_texts(column)}
    if not (unread := sorted(texts - read)):
        return ""
    found = f"the dataset has the text column{_listed(unread)}"
    return f"{found}, which task {name} does not read{_remedy(task, unread[0])}"


def unread_fields(record: dict[str, Any], task: Task) -> str:
    """Says which texts of a record the task does not read, where an option of the task would have it read them.

    Labels, ids and the like are no texts: what is not a string, is a single word, or is the name of a class.
    """
    if not _has_room(task):
        return ""
    label = getattr(task.config, "label", "")
    others = {key: value for key, value in record.items() if key not in (*task.fields, *task.lists, label)}
    unread = [key for key, value in others.items() if _is_text(value) and value not in task.class_names]
    if not unread:
        return ""
    return f"a record has the text{_listed(unread)}, which the model does not read{_remedy(task, unread[0])}"


def unread_after_tab(record: dict[str, Any], task: Task) -> str:
    """Says that a line has a second text behind a tab, if the task reads one text and takes the line for it."""
    if not _has_room(task) or not any("\t" in record.get(field, "") for field in task.fields):
        return ""
    return f"a text has a tab in it, and the model reads it as one text{_remedy(task, 'second')}"


def _holds_texts(column: Any) -> bool:
    return bool(column.kind == "ragged" and column.dtype != "uint8")  # which are characters of lists


def _has_room(task: Task) -> bool:
    """Whether the task could read a second text, and reads one."""
    return getattr(task.config, "pair", None) == ""


def _remedy(task: Task, name: str) -> str:
    return f"; to read it as the second text of a pair: --task.pair {name}" if _has_room(task) else ""


def _listed(names: list[str]) -> str:
    return f"{'s' * (len(names) > 1)} {', '.join(map(repr, names))}"


def _is_text(value: Any) -> bool:
    """Whether a value is a string of two words or more, or of characters of a script without spaces."""
    if not isinstance(value, str):
        return False
    return len(value.split(None, 1)) > 1 or sum(map(is_unspaced, value[:16])) > 1
