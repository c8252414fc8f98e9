"""Writing a binarized dataset, as a stream: a dataset appears under its name only when it is whole.

Everything is written to a sibling folder `OUT.partial-XXXXXXXX`, dataset.json last, and renamed at the end.
"""

from __future__ import annotations

import contextlib
import json
import os
import zlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from taskmask.data.dataset import (
    DTYPES,
    FORMAT,
    HEADER_FILE,
    KINDS,
    VERSION,
    Column,
    DataFile,
    check_name,
    checksum_of,
)
from taskmask.errors import DataError, StorageError, storage_errors
from taskmask.system.failpoints import reach
from taskmask.system.files import as_utf8, atomic_write, create_file, sync_folder
from taskmask.system.folders import atomic_directory, check_output, resolve_folder
from taskmask.tokenizer.backend import TOKENIZER_FILE, VOCABULARY_FILE
from taskmask.tokenizer.tokenizer import Vocabulary

Chunk = Mapping[str, "np.ndarray | tuple[np.ndarray, np.ndarray]"]


class FileWriter:
    """Appends arrays to one flat file, keeping its size and crc32.

    Args:
        path: the new file; nothing may be there.
        dtype: numpy type of its values; written little-endian.
    """

    def __init__(self, path: Path, dtype: str):
        self.path, self.dtype = path, np.dtype(dtype).newbyteorder("<")
        self.bytes = self.crc32 = 0
        with storage_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file: BinaryIO = os.fdopen(create_file(path), "wb", buffering=0)  # closed by `close`

    def append(self, values: np.ndarray) -> None:
        """Writes the values in order.

        Raises:
            DataError: a value does not fit the type of the file.
        """
        values = np.ascontiguousarray(values)
        cast = values.astype(self.dtype, copy=False)
        if values.dtype != cast.dtype and self.dtype.kind != "f" and not np.array_equal(cast, values):
            raise DataError(
                f"a value does not fit the type {self.dtype.name}",
                where=self.path.name,
                expected=f"{np.iinfo(self.dtype).min} to {np.iinfo(self.dtype).max}",
            )
        data = memoryview(cast.reshape(-1).view(np.uint8).data)
        self.crc32 = zlib.crc32(data, self.crc32)
        self.bytes += len(data)
        with storage_errors(self.path):
            reach("data.write")
            while data:
                data = data[self._file.write(data) :]

    def close(self, sync: bool = True) -> DataFile:
        """Closes the file; `sync` waits until it is on the disk. The path in the result is relative to the dataset."""
        with storage_errors(self.path):
            if sync and not self._file.closed:
                os.fsync(self._file.fileno())
            self._file.close()
        return DataFile(f"{self.path.parent.name}/{self.path.name}", self.bytes, self.crc32)


class ColumnWriter:
    """Writes one column chunk by chunk.

    Args:
        path: of its values; offsets go beside it.
        column: kind, dtype, width.
    """

    def __init__(self, path: Path, column: Column):
        if column.kind not in KINDS or column.dtype not in DTYPES:
            raise ValueError(f"no such column: kind {column.kind!r}, dtype {column.dtype!r}")
        self.column = column
        self.rows = self.num_values = 0
        self._values = FileWriter(path, column.dtype)
        self._offsets = None
        if column.kind == "ragged":
            self._offsets = FileWriter(path.with_suffix(".offsets.bin"), "int64")
            self._offsets.append(np.zeros(1, np.int64))

    def append(self, chunk: np.ndarray | tuple[np.ndarray, np.ndarray]) -> None:
        """Appends rows: (flat values, row lengths) for a ragged column, values for the other kinds."""
        if self._offsets is not None:
            values, lengths = chunk
            offsets = np.cumsum(lengths, dtype=np.int64)
            if (len(lengths) and offsets[-1] != len(values)) or np.any(np.asarray(lengths) < 0):
                raise ValueError(f"the row lengths sum to {offsets[-1:]}, but there are {len(values)} values")
            self._offsets.append(offsets + self.num_values)
            self.rows += len(lengths)
        else:
            values = np.asarray(chunk)
            self.rows += values.size // self.column.width
        self._values.append(values)
        self.num_values += values.size

    def close(self, sync: bool = True) -> Column:
        """Closes the files and returns the column with its files."""
        files = {"values": self._values.close(sync)}
        if self._offsets is not None:
            files["offsets"] = self._offsets.close(sync)
        return replace(self.column, files=files)


class SplitWriter:
    """Writes the columns of one split together; made by `DatasetWriter.split`."""

    def __init__(self, folder: Path, columns: Mapping[str, Column]):
        for name in columns:
            check_name(name, "column")
        self.folder = folder
        self._writers = {name: ColumnWriter(folder / f"{name}.bin", column) for name, column in columns.items()}
        self._closed: dict[str, Column] = {}

    @property
    def rows(self) -> int:
        """Rows written so far."""
        return self._writers["tokens"].rows

    def append(self, chunk: Chunk) -> None:
        """Appends rows: every column, each as `ColumnWriter.append` takes it."""
        for name, writer in self._writers.items():
            writer.append(chunk[name])
        for name, writer in self._writers.items():
            if writer.column.kind == "aligned":
                right = writer.num_values == self._writers[writer.column.of].num_values
            else:
                right = writer.rows == self.rows
            if not right:
                raise ValueError(f"column {name!r} does not have as many rows as 'tokens'")

    def rewrite(self, name: str, change: Callable[[np.ndarray], np.ndarray]) -> None:
        """Replaces the values of a column that is not ragged by what `change` makes of them, with bounded memory."""
        old = self._writers[name]
        provisional = self.folder / f"{name}.provisional"
        with storage_errors(provisional):
            file = old.close(sync=False).files["values"]
            os.replace(self.folder / f"{name}.bin", provisional)
            new = self._writers[name] = ColumnWriter(self.folder / f"{name}.bin", old.column)
            new.rows = old.rows
            values = np.memmap(provisional, old.column.dtype, mode="r") if file.bytes else np.zeros(0, np.int64)
            for start in range(0, len(values), 1 << 20):
                new._values.append(change(values[start : start + (1 << 20)]))
            os.remove(provisional)

    def close(self, sync: bool = True) -> dict[str, Any]:
        """Closes all files; the split's entry in dataset.json."""
        columns = {name: column_entry(writer.close(sync)) for name, writer in self._writers.items()}
        if sync:
            sync_folder(self.folder)
        tokens = self._writers["tokens"]
        return {"rows": tokens.rows, "tokens": tokens.num_values, "columns": columns}


class DatasetWriter:
    """Writes a dataset: `with DatasetWriter(out, vocabulary) as writer: writer.split("train", columns).append(...)`.

    On leaving the block without an exception the dataset appears at `out`; otherwise nothing is left.

    Args:
        out: folder of the dataset; must not exist (or be empty) unless `overwrite`.
        vocabulary: stored beside the data.
        overwrite: replace the dataset at `out`; the old one stays valid until the end.

    Raises:
        DataError: `out` exists.
        StorageError: the disk is full or cannot be written.
    """

    def __init__(self, out: str | Path, vocabulary: Vocabulary, overwrite: bool = False):
        self.out = resolve_folder(out, "--out")
        check_out(self.out, overwrite)
        self.vocabulary, self.overwrite = vocabulary, overwrite
        self.labels: dict[str, list[str]] = {}
        self._splits: dict[str, SplitWriter] = {}
        self._held = contextlib.ExitStack()

    def __enter__(self) -> DatasetWriter:
        with contextlib.ExitStack() as held:
            replaces = check_replaced if self.overwrite else check_absent
            self._partial = held.enter_context(atomic_directory(self.out, "--out", replaces))
            with atomic_write(self._partial / self.vocabulary.file_name) as file:
                file.write(self.vocabulary.model_bytes)
            self._held = held.pop_all()
        return self

    def split(self, name: str, columns: Mapping[str, Column]) -> SplitWriter:
        """Starts a split with these columns; `tokens` must be among them."""
        check_name(name, "split")
        self._splits[name] = SplitWriter(self._partial / name, columns)
        return self._splits[name]

    def __exit__(self, kind: Any, error: Any, traceback: Any) -> None:
        with self._held:
            if kind is None:
                self._finish()
                return
            with contextlib.suppress(StorageError):
                for split in self._splits.values():
                    split.close(sync=False)
            self._held.pop_all().__exit__(kind, error, traceback)

    def _finish(self) -> None:
        vocabulary = {
            "file": self.vocabulary.file_name,
            "sha256": self.vocabulary.fingerprint,
            "size": self.vocabulary.size,
        }
        header = {
            "format": FORMAT,
            "version": VERSION,
            "vocabulary": vocabulary,
            "labels": self.labels,
            "splits": {name: split.close() for name, split in self._splits.items()},
        }
        write_header(self._partial, header)


def check_out(out: Path, overwrite: bool) -> None:
    """Raises an error if a dataset may not be written to `out`. Cheap: call it before any long work."""
    check_output(out, "--out", check_replaced if overwrite else check_absent)


def check_absent(out: Path) -> None:
    """Raises a DataError for a folder that is not empty."""
    check_replaced(out)
    raise DataError("the dataset exists", where=f"--out {out}", fix="give --overwrite, or another --out")


def check_replaced(out: Path) -> None:
    """Raises a DataError unless a folder holds a dataset and nothing else: --overwrite deletes it."""
    if not out.is_dir():
        raise DataError("exists and is not a folder", where=f"--out {out}", fix="choose another --out")
    if not (out / HEADER_FILE).is_file():
        what = "the folder exists and is not a dataset, so it is not touched"
        raise DataError(what, where=f"--out {out}", fix="choose another --out")
    if foreign := sorted(file.name for file in out.iterdir() if not _is_ours(file)):
        what = f"the folder also holds {', '.join(foreign[:3])}, which a dataset does not have, so it is not touched"
        raise DataError(what, where=f"--out {out}", fix="move that away, or choose another --out")


def _is_ours(file: Path) -> bool:
    """Returns whether a file or folder in a dataset is one that taskmask makes there."""
    if file.is_dir() and not file.is_symlink():
        return file.name.startswith(".annotate-") or all(inner.suffix in (".bin", ".lock") for inner in file.iterdir())
    return file.name in (HEADER_FILE, VOCABULARY_FILE, TOKENIZER_FILE) or file.name.startswith(".")


def write_header(folder: Path, header: dict[str, Any]) -> None:
    """Writes dataset.json atomically, with its checksum."""
    header = {**header, "checksum": checksum_of(header)}
    with atomic_write(folder / HEADER_FILE) as file:
        file.write(as_utf8(json.dumps(header, indent=1, ensure_ascii=False) + "\n"))


def column_entry(column: Column) -> dict[str, Any]:
    """Returns what dataset.json says of a column."""
    entry = asdict(column)
    unused = {"ragged": ("width", "of"), "aligned": ("width",), "row": ("of",)}[column.kind]
    return {key: value for key, value in entry.items() if key not in unused}
