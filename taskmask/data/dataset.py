"""Reading a binarized dataset: dataset.json, and memory-mapped columns.

A dataset is a folder: `dataset.json`, `vocab.model` or `tokenizer.json`, and per split flat little-endian files. A
column is

- *ragged*: rows of any length, with `rows + 1` offsets (uint64) of its own,
- *aligned*: one value per value of a ragged column, whose offsets it shares (`of`),
- *row*: `width` values a row.

`tokens` holds the text: rows without `<s>`; the last row of every document ends with `</s>`. If documents have several
rows, the row column `document` numbers them; without it each row is a document. Written by `taskmask.data.writer`.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from taskmask.data.mapped import REMEDY, check_crc, check_size, map_file
from taskmask.data.value_checks import CHECKED_AT_ONCE, check_all_values, check_offsets, check_tokens, check_values
from taskmask.errors import DataError, did_you_mean
from taskmask.system.folders import leftovers
from taskmask.system.json_input import read_json
from taskmask.tokenizer.tokenizer import TOKENIZER_FILE, VOCABULARY_FILE, Vocabulary

HEADER_FILE = "dataset.json"
FORMAT, VERSION = "taskmask-dataset", 1
KINDS = ("ragged", "aligned", "row")
DTYPES = ("uint8", "uint16", "uint32", "int8", "int16", "int32", "int64", "float16", "float32")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,63}")


@dataclass(frozen=True)
class DataFile:
    """A file of a column: path inside the dataset, size in bytes, crc32 of its content."""

    path: str
    bytes: int
    crc32: int


@dataclass(frozen=True)
class Column:
    """A column of a split.

    Args:
        kind: "ragged", "aligned" or "row".
        dtype: name of its numpy type, one of `DTYPES`; little-endian in the file.
        width: values a row, for kind "row".
        of: the ragged column it is aligned to, for kind "aligned".
        files: "values", and "offsets" for kind "ragged"; filled in by the writer.
    """

    kind: str
    dtype: str
    width: int = 1
    of: str = ""
    files: dict[str, DataFile] = field(default_factory=dict)

    @property
    def num_values(self) -> int:
        """Values in the file."""
        return self.files["values"].bytes // np.dtype(self.dtype).itemsize


def check_name(name: str, what: str, where: str = "") -> None:
    """Raises DataError unless `name` can name a column or a split (letters, digits, `_`, `-`)."""
    if not _NAME.fullmatch(name):
        raise DataError(
            f"{name!r} cannot be the name of a {what}", where=where, expected="a letter, then letters, digits, _ or -"
        )


def checksum_of(header: dict[str, Any]) -> str:
    """sha256 of a header (the content of dataset.json) without its own "checksum", hexadecimal."""
    content = {key: value for key, value in header.items() if key != "checksum"}
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def read_header(folder: Path) -> dict[str, Any]:
    """Reads dataset.json and checks its format, version and checksum."""
    path = folder / HEADER_FILE
    try:
        header = read_json(path)
    except OSError as error:
        fix = "make one with taskmask-preprocess"
        if unfinished := [*leftovers(folder, "replaced"), *leftovers(folder, "partial")]:
            fix = f"wait for taskmask-preprocess, or run it again if it was killed ({unfinished[0].name} is left of it)"
        raise DataError(f"this is no dataset: {error.strerror}", where=str(path), fix=fix) from error
    except ValueError as error:
        raise DataError(f"not valid JSON: {error}", where=str(path), fix=REMEDY) from error
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise DataError("this is no taskmask dataset", where=str(path), expected=f'"format": "{FORMAT}"', fix=REMEDY)
    if header.get("version") != VERSION:
        raise DataError(
            f"the dataset has format version {header.get('version')!r}",
            where=str(path),
            expected=f"version {VERSION}",
            fix="make it anew with this version of taskmask-preprocess",
        )
    if header.get("checksum") != checksum_of(header):
        raise DataError(
            "the file is damaged, or was changed by hand",
            where=str(path),
            expected="its content to fit its checksum",
            fix=REMEDY,
        )
    return header


class Split:
    """Rows of one split, e.g. "train". Files are mapped when first asked for; pickling keeps only the paths.

    Attributes:
        name: of the split.
        rows: number of stored rows.
        num_tokens: number of stored values of the column `tokens`, `</s>` included.
        columns: name -> Column.
        num_labels: {column: number of its labels}.
        vocab_size: number of pieces in the vocabulary.
    """

    def __init__(
        self,
        folder: Path,
        name: str,
        rows: int,
        num_tokens: int,
        columns: dict[str, Column],
        num_labels: Mapping[str, int] | None = None,
        vocab_size: int = 0,
    ):
        self.folder, self.name, self.rows, self.num_tokens, self.columns = folder, name, rows, num_tokens, columns
        self.num_labels, self.vocab_size = num_labels or {}, vocab_size
        self._mapped: dict[str, np.ndarray] = {}
        self._checked: set[str] = set()  # paths of files

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_mapped": {}, "_checked": set()}

    def column(self, name: str) -> Column:
        """The column of that name.

        Raises:
            DataError: the split has none; names those it has.
        """
        if name not in self.columns:
            raise DataError(
                f"there is no column {name!r}",
                where=f"{self.folder}, split {self.name}",
                expected=f"one of {', '.join(self.columns)}",
                fix=did_you_mean(name, self.columns),
            )
        return self.columns[name]

    def values(self, name: str) -> np.ndarray:
        """All values of a column, mapped read-only: flat, or [rows, width] for a row column wider than 1.

        Raises:
            DataError: a value is out of range, or the file is damaged; see `_read`.
        """
        column = self.column(name)
        values = self._read(column.files["values"], column.dtype, lambda values: check_values(self, name, values))
        return values.reshape(self.rows, column.width) if column.kind == "row" and column.width > 1 else values

    def tokens(self, start: int, stop: int) -> np.ndarray:
        """Stored tokens, from `start` up to `stop`, all of which are in the vocabulary.

        Raises:
            DataError: one is not.
        """
        tokens = self.values("tokens")[start:stop]
        check_tokens(self, tokens, start)
        return tokens

    def offsets(self, name: str) -> np.ndarray:
        """Row i of a ragged or aligned column is `values[offsets[i]:offsets[i + 1]]`; int64 [rows + 1], mapped.

        Raises:
            DataError: the offsets are damaged; see `_read`.
        """
        column = self.column(name)
        if column.kind == "row":
            raise DataError(f"column {name!r} has no offsets, it is a row column", where=str(self.folder))
        if column.kind == "aligned":
            return self.offsets(column.of)
        file = column.files["offsets"]
        where = str(self.folder / file.path)
        return self._read(file, "int64", lambda offsets: check_offsets(offsets, column.num_values, where))

    def hold(self) -> None:
        """Maps all files, so that this split stays what it is, whoever replaces or removes them."""
        for column in self.columns.values():
            for part, file in column.files.items():
                self._map(file, "int64" if part == "offsets" else column.dtype)

    def _read(self, file: DataFile, dtype: str, check: Callable[[np.ndarray], None]) -> np.ndarray:
        """Returns the content of a file, checked when it is first asked for.

        Its values are checked, which tells the place of most damage, and its checksum, which tells all other damage, if
        it is no larger than `CHECKED_AT_ONCE`.
        """
        values = self._map(file, dtype)
        if file.path not in self._checked:
            check(values)
            if file.bytes <= CHECKED_AT_ONCE:
                check_crc(zlib.crc32(values.data), file.crc32, str(self.folder / file.path))
            self._checked.add(file.path)
        return values

    def _map(self, file: DataFile, dtype: str) -> np.ndarray:
        if file.path not in self._mapped:
            self._mapped[file.path] = map_file(self.folder / file.path, file.bytes, dtype)
        return self._mapped[file.path]


class Dataset:
    """A binarized dataset, opened by `Dataset.open`.

    Attributes:
        path: its folder.
        splits: name -> Split.
        labels: row column -> names of its labels; id i is name i.
        fingerprint: sha256 over vocabulary, labels and the checksums of all columns, hexadecimal.
    """

    def __init__(self, path: Path, header: dict[str, Any]):
        self.path = path
        try:
            self.labels = {name: [str(label) for label in names] for name, names in header["labels"].items()}
            self.vocabulary_sha256 = str(header["vocabulary"]["sha256"])
            self.vocabulary_file = str(header["vocabulary"].get("file", VOCABULARY_FILE))
            self.vocabulary_size = _natural(header["vocabulary"]["size"])
            self.fingerprint = str(header["checksum"])
            facts = {name: len(names) for name, names in self.labels.items()}, self.vocabulary_size
            self.splits = {name: _read_split(path, name, entry, *facts) for name, entry in header["splits"].items()}
            if self.vocabulary_file not in (VOCABULARY_FILE, TOKENIZER_FILE):
                raise ValueError(f"the vocabulary is in {self.vocabulary_file!r}")
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DataError(
                f"an entry is missing or of the wrong type ({type(error).__name__}: {error})",
                where=str(path / HEADER_FILE),
                fix=REMEDY,
            ) from error

    @classmethod
    def open(cls, path: str | Path) -> Dataset:
        """Opens a dataset: checks names, versions and the size of every file, reads no data.

        Raises:
            DataError: it is none, or is damaged; names the file.
        """
        path = Path(path)
        return cls(path, read_header(path))

    @classmethod
    def open_to_read(cls, path: str | Path) -> Dataset:
        """Opens a dataset and maps its files, so that it stays what it is, whoever replaces or removes it meanwhile."""
        while True:
            dataset, failure = cls.open(path), None
            try:
                for split in dataset.splits.values():
                    split.hold()
            except DataError as error:
                failure = error
            if read_header(dataset.path)["checksum"] == dataset.fingerprint:  # else it was replaced in between
                if failure:
                    raise failure
                return dataset

    def split(self, name: str) -> Split:
        """The split of that name.

        Raises:
            DataError: the dataset has none; names those it has.
        """
        if name not in self.splits:
            raise DataError(
                f"there is no split {name!r}",
                where=str(self.path),
                expected=f"one of {', '.join(self.splits)}",
                fix=did_you_mean(name, self.splits),
            )
        return self.splits[name]

    def vocabulary(self) -> Vocabulary:
        """Its vocabulary.

        Raises:
            DataError: the file is not the one the dataset was made with.
        """
        vocabulary = Vocabulary.load(self.path / self.vocabulary_file)
        if vocabulary.fingerprint != self.vocabulary_sha256 or vocabulary.size != self.vocabulary_size:
            raise DataError(
                f"the vocabulary has fingerprint {vocabulary.fingerprint[:12]}",
                where=str(self.path),
                expected=f"{self.vocabulary_sha256[:12]}, as in {HEADER_FILE}",
                fix=REMEDY,
            )
        return vocabulary

    def verify(self, show_progress: bool = False) -> dict[str, int]:
        """Reads everything and checks every checksum, all offsets, and that every token is in the vocabulary.

        Returns:
            {"files": number, "bytes": number}.

        Raises:
            DataError: names the first file that is damaged.
        """
        from tqdm import tqdm

        self.vocabulary()
        files = [
            (split, name, file)
            for split in self.splits.values()
            for name, column in split.columns.items()
            for file in column.files.values()
        ]
        total = sum(file.bytes for _, _, file in files)
        with tqdm(total=total, unit="B", unit_scale=True, disable=not show_progress, desc="verify") as bar:
            for split, name, file in files:
                where = f"{self.path / file.path}, column {name} of split {split.name}"
                crc = 0
                for chunk in _read_chunks(self.path / file.path):
                    crc = zlib.crc32(chunk, crc)
                    bar.update(len(chunk))
                check_crc(crc, file.crc32, where)
        for split in self.splits.values():
            check_all_values(split)
        return {"files": len(files), "bytes": total}


def _read_chunks(path: Path) -> Iterator[bytes]:
    with open(path, "rb") as file:
        while chunk := file.read(1 << 22):
            yield chunk


def _natural(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 1 << 62:
        raise ValueError(f"{value!r} is no count")
    return value


def _read_split(
    folder: Path, name: str, entry: dict[str, Any], num_labels: Mapping[str, int], vocab_size: int
) -> Split:
    rows, num_tokens = _natural(entry["rows"]), _natural(entry["tokens"])
    columns = {key: _read_column(folder, key, value) for key, value in entry["columns"].items()}
    check_name(name, "split", str(folder))
    for key, column in columns.items():
        if column.kind == "aligned":
            num_values = columns[column.of].num_values if columns[column.of].kind == "ragged" else -1
        else:
            num_values = rows * column.width if column.kind == "row" else column.num_values
        expected = {"values": num_values * np.dtype(column.dtype).itemsize}
        if column.kind == "ragged":
            expected["offsets"] = (rows + 1) * 8
        if {part: file.bytes for part, file in column.files.items()} != expected:
            raise ValueError(f"column {key!r} of split {name!r} does not have the size of {rows} rows")
    if not columns["tokens"].dtype.startswith("uint"):  # a negative id would count from the end
        raise ValueError(f"tokens of split {name!r} have dtype {columns['tokens'].dtype}")
    if columns["tokens"].kind != "ragged" or columns["tokens"].num_values != num_tokens:
        raise ValueError(f"split {name!r} does not have {num_tokens} tokens")
    return Split(folder, name, rows, num_tokens, columns, num_labels, vocab_size)


def _read_column(folder: Path, name: str, entry: dict[str, Any]) -> Column:
    check_name(name, "column", str(folder))
    files = {
        part: DataFile(str(file["path"]), _natural(file["bytes"]), _natural(file["crc32"]))
        for part, file in entry["files"].items()
    }
    column = Column(entry["kind"], entry["dtype"], _natural(entry.get("width", 1)), str(entry.get("of", "")), files)
    if column.kind not in KINDS or column.dtype not in DTYPES:
        raise ValueError(f"column {name!r} has kind {column.kind!r} and dtype {column.dtype!r}")
    root = os.path.realpath(folder)
    for file in files.values():
        plain = os.path.normpath(os.path.join(root, file.path))
        if not plain.startswith(root + os.sep) or os.path.realpath(plain) != plain:
            raise DataError(
                f"the path {file.path!r} leaves the dataset",
                where=str(folder / HEADER_FILE),
                expected="plain files inside the folder",
                fix="do not use this dataset",
            )
        check_size(folder / file.path, file.bytes)
    return column
