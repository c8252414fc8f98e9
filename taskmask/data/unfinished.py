"""What lies in and beside a dataset that dataset.json does not name: of work that goes on, or that was killed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from taskmask.data.columns import HEADER_FILE, Dataset
from taskmask.folders import leftovers


def unfinished(dataset: Dataset) -> list[str]:
    """Returns a line for people for each kind of such files: their names, whose they are, and what to do."""
    folder = dataset.path
    parts = [path for path in folder.glob(".annotate-*") if path.is_dir()]
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


def _unnamed(dataset: Dataset) -> Iterator[Path]:
    """Yields the files of columns and of the header that dataset.json does not name."""
    yield from dataset.path.glob(f".{HEADER_FILE}.*.tmp")
    for split in dataset.splits.values():
        named = {file.path for column in split.columns.values() for file in column.files.values()}
        for path in (dataset.path / split.name).iterdir():
            if f"{split.name}/{path.name}" not in named:
                yield path
