"""What lies in and beside a dataset that dataset.json does not name: of work that goes on, or that was killed."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from taskmask.data.dataset import HEADER_FILE, Dataset, read_header
from taskmask.errors import TaskmaskError
from taskmask.system.files import atomic_write
from taskmask.system.folders import leftovers
from taskmask.system.json_input import read_json
from taskmask.system.locks import file_lock

ANNOTATIONS = ".annotate-*"
FINISHED = "finished.json"
"""In such a folder: the columns that were made of it."""


def unfinished(dataset: Dataset) -> list[str]:
    """Returns a line for people for each kind of such files: their names, whose they are, and what to do."""
    folder = dataset.path
    parts = [path for path in folder.glob(ANNOTATIONS) if path.is_dir()]
    found = [
        (parts, "taskmask annotate; the same command goes on with it, or remove it"),
        (list(_unnamed(dataset)), "taskmask spans or annotate; the same command removes it"),
        ([*leftovers(folder, "replaced"), *leftovers(folder, "partial")], "taskmask-preprocess, which removes it"),
    ]
    lines = []
    for paths, whose in found:
        names = [path.relative_to(folder).as_posix() if path.is_relative_to(folder) else str(path) for path in paths]
        size = sum(file.lstat().st_size for path in paths for file in [path, *path.rglob("*")])
        if names:
            more = f" and {len(names) - 4} more" if len(names) > 4 else ""
            shown = ", ".join(sorted(names)[:4]) + more
            lines.append(f"{shown} ({size / 2**20:,.1f} MiB): of unfinished work of {whose}")
    return lines


def note_finished(folder: Path, entries: dict[str, dict[str, Any]]) -> None:
    """Writes into the folder of an annotation which columns are about to be named by dataset.json."""
    with atomic_write(folder / FINISHED) as file:
        file.write(json.dumps(entries).encode())


def remove_finished(dataset: Dataset) -> None:
    """Removes the folders of annotations that were killed when dataset.json named their columns already."""
    splits = read_header(dataset.path)["splits"]
    for folder in dataset.path.glob(ANNOTATIONS):
        with contextlib.suppress(OSError, ValueError, LookupError, TypeError, AttributeError, TaskmaskError):
            if folder.is_symlink() or not (entries := read_json(folder / FINISHED)):
                continue
            with file_lock(folder / ".lock", str(folder)):
                named = {split: splits[split]["columns"] for split in entries}
                if all(named[split] | columns == named[split] for split, columns in entries.items()):
                    shutil.rmtree(folder)


def _unnamed(dataset: Dataset) -> Iterator[Path]:
    """Yields the files of columns and of the header that dataset.json does not name."""
    yield from dataset.path.glob(f".{HEADER_FILE}.*.tmp")
    for split in dataset.splits.values():
        named = {file.path for column in split.columns.values() for file in column.files.values()}
        for path in (dataset.path / split.name).iterdir():
            if f"{split.name}/{path.name}" not in named:
                yield path
