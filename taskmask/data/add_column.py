"""Adding columns to a dataset that exists: how one stage of a system hands its results to the next.

A writer holds its columns for as long as it works, so that no second writer can replace them. It also holds the
dataset, so that taskmask-preprocess --overwrite cannot. Readers see no new column until all of them are whole.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from taskmask.data.dataset import Column, Dataset, check_name, read_header
from taskmask.data.mapped import map_file
from taskmask.data.writer import ColumnWriter, column_entry, write_header
from taskmask.errors import DataError, TaskmaskError, storage_errors
from taskmask.system.locks import file_lock, folder_lock


def add_column(
    path: str | Path,
    split: str,
    name: str,
    column: Column,
    chunks: Iterable[Any],
    labels: list[str] | None = None,
    overwrite: bool = False,
) -> None:
    """Adds one column to one split of a dataset; see `ColumnsWriter`."""
    with ColumnsWriter(Dataset.open(path), [split], [name], overwrite) as writer:
        writer.write(split, name, column, chunks, labels)


class ColumnsWriter:
    """Adds columns to splits of a dataset, all at once: dataset.json names them when the `with` ends without an error.

    Args:
        dataset: the dataset.
        splits: the splits that get the columns.
        names: of the new columns.
        overwrite: replace columns of these names (never `tokens`).

    Raises:
        DataError: a column exists, or the dataset was replaced since it was opened.
        ConfigError: another process writes one of the columns, or replaces the dataset.
    """

    def __init__(self, dataset: Dataset, splits: Iterable[str], names: Iterable[str], overwrite: bool = False):
        self.dataset, self.splits, self.names, self.overwrite = dataset, tuple(splits), tuple(names), overwrite
        self._written: dict[tuple[str, str], Column] = {}
        self._labels: dict[str, list[str] | None] = {}
        self._held = contextlib.ExitStack()

    def __enter__(self) -> ColumnsWriter:
        folder = self.dataset.path
        with contextlib.ExitStack() as held:
            held.enter_context(storage_errors(folder))
            held.enter_context(folder_lock(folder, str(folder), shared=True))
            self._check(Dataset.open(folder))
            for split in self.splits:
                for name in self.names:
                    where = f"{folder}, column {name} of split {split}"
                    held.enter_context(file_lock(folder / split / f".{name}.lock", where, keep=False))
                    _remove_unnamed(folder, split, name)
            self._held = held.pop_all()
        return self

    def write(
        self, split: str, name: str, column: Column, chunks: Iterable[Any], labels: list[str] | None = None
    ) -> None:
        """Writes one column of one split.

        Args:
            split: name of the split.
            name: of the column.
            column: kind, dtype, and `of` or `width`.
            chunks: its rows in order, each chunk as `ColumnWriter.append` takes it.
            labels: names of its values, if they are labels.

        Raises:
            DataError: the column does not have as many values as the split has.
        """
        folder = self.dataset.path / split
        token = f".{secrets.token_hex(4)}" if os.path.lexists(folder / f"{name}.bin") else ""
        writer = ColumnWriter(folder / f"{name}{token}.bin", column)
        try:
            for chunk in chunks:
                writer.append(chunk)
            written = writer.close()
        finally:
            writer.close(sync=False)
        _check_length(self.dataset, split, name, written, writer.rows)
        self._written[split, name] = written
        self._labels[name] = labels

    def values(self, split: str, name: str) -> np.ndarray:
        """Returns the values of a column that was written."""
        column = self._written[split, name]
        file = column.files["values"]
        return map_file(self.dataset.path / file.path, file.bytes, column.dtype)

    def entries(self) -> dict[str, dict[str, Any]]:
        """Returns {split: {name: what dataset.json is to say of the column}} of those that were written."""
        found: dict[str, dict[str, Any]] = {split: {} for split in self.splits}
        for (split, name), column in self._written.items():
            found[split][name] = column_entry(column)
        return found

    def __exit__(self, kind: Any, error: Any, traceback: Any) -> None:
        with self._held:
            try:
                if kind is None:
                    self._register()
            finally:  # whatever dataset.json does not name now: of a failure, or of replaced columns
                with contextlib.suppress(TaskmaskError):
                    for split, name in self._pairs():
                        _remove_unnamed(self.dataset.path, split, name)

    def _pairs(self) -> list[tuple[str, str]]:
        return [(split, name) for split in self.splits for name in self.names]

    def _check(self, now: Dataset) -> None:
        """Raises a DataError if the dataset was replaced, or a column exists."""
        for split, name in self._pairs():
            _check_same(self.dataset, now, split)
            check_new(now, split, name, self.overwrite)

    def _register(self) -> None:
        """Writes the columns into dataset.json, one process at a time."""
        folder = self.dataset.path
        with folder_lock(folder / min(self.dataset.splits), str(folder), wait=True):
            self._check(Dataset.open(folder))
            header = read_header(folder)
            for split, columns in self.entries().items():
                header["splits"][split]["columns"] |= columns
            for name, labels in self._labels.items():
                header["labels"].pop(name, None)
                if labels is not None:
                    header["labels"][name] = labels
            write_header(folder, header)


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


def _check_same(dataset: Dataset, now: Dataset, split: str) -> None:
    """Raises a DataError if the split at the path is not the one that was opened."""
    before, after = (each.split(split).columns["tokens"].files for each in (dataset, now))
    if before != after or dataset.vocabulary_sha256 != now.vocabulary_sha256:
        what = f"split {split!r} was replaced by another during the work"
        raise DataError(what, where=str(dataset.path), fix="run the same command again")


def _remove_unnamed(folder: Path, split: str, name: str) -> None:
    """Removes the files of a column that dataset.json does not name: of killed writers, or of a replaced column."""
    columns = Dataset.open(folder).split(split).columns.values()
    files = {file.path for column in columns for file in column.files.values()}
    for file in (folder / split).glob(f"{name}.*bin"):
        if f"{split}/{file.name}" not in files:
            file.unlink(missing_ok=True)
