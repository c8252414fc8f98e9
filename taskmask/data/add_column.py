"""Adding a column to a dataset that exists: how one stage of a system hands its results to the next."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from taskmask.data.columns import Column, Dataset, check_name, read_header
from taskmask.data.writer import ColumnWriter, column_entry, write_header
from taskmask.errors import DataError


def add_column(
    path: str | Path,
    split: str,
    name: str,
    column: Column,
    chunks: Iterable[Any],
    labels: list[str] | None = None,
    overwrite: bool = False,
) -> None:
    """Adds a column to a dataset; other readers see the dataset without it until it is whole.

    Args:
        path: the dataset.
        split: name of the split.
        name: of the new column.
        column: kind, dtype, and `of` or `width`.
        chunks: its rows in order, each chunk as `ColumnWriter.append` takes it.
        labels: names of its values, if they are labels.
        overwrite: replace a column of that name (never `tokens`).

    Raises:
        DataError: the column exists, or does not have as many values as the split has.
    """
    dataset = Dataset.open(path)
    check_new(dataset, split, name, overwrite)
    old = dataset.split(split).columns.get(name)
    taken = {file.path for other in dataset.split(split).columns.values() for file in other.files.values()}
    names = (f"{name}{number or ''}.bin" for number in range(1000))
    target = next(file for file in names if f"{split}/{file}" not in taken)
    writer = ColumnWriter(dataset.path / split / target, column)
    try:
        for chunk in chunks:
            writer.append(chunk)
        written = writer.close()
        _check_length(dataset, split, name, written, writer.rows)
        _register(dataset.path, split, name, written, labels)
    except BaseException:
        for file in writer.close(sync=False).files.values():
            (dataset.path / file.path).unlink(missing_ok=True)
        raise
    for file in old.files.values() if old else ():
        (dataset.path / file.path).unlink(missing_ok=True)


def check_new(dataset: Dataset, split: str, name: str, overwrite: bool) -> None:
    """Raises DataError if a column of that name cannot be added to the split; cheap, to be called before long work."""
    check_name(name, "column")
    exists = name in dataset.split(split).columns
    if name in ("tokens", "document") or (exists and not overwrite):
        fix = "choose another name" + (", or give --overwrite" if exists and name not in ("tokens", "document") else "")
        raise DataError(f"column {name!r} exists in split {split!r}", where=str(dataset.path), fix=fix)


def _check_length(dataset: Dataset, split: str, name: str, column: Column, rows: int) -> None:
    here = dataset.split(split)
    found, expected = (column.num_values, here.column(column.of).num_values) if column.of else (rows, here.rows)
    if found != expected:
        raise DataError(
            f"column {name!r} has {found} {'values' if column.of else 'rows'}",
            where=str(dataset.path),
            expected=f"{expected}, as many as split {split!r} has",
        )


def _register(folder: Path, split: str, name: str, column: Column, labels: list[str] | None) -> None:
    """Writes the column into dataset.json, one process at a time."""
    lock = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        header = read_header(folder)
        header["splits"][split]["columns"][name] = column_entry(column)
        header["labels"].pop(name, None)
        if labels is not None:
            header["labels"][name] = labels
        write_header(folder, header)
    finally:
        os.close(lock)
