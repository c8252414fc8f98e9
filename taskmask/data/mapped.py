"""Flat files, mapped into memory, each once in a process: what is mapped stays, whoever removes the file."""

from __future__ import annotations

import os
import weakref
from pathlib import Path

import numpy as np

from taskmask.errors import DataError, StorageError

REMEDY = "copy the dataset again, or make it anew with taskmask-preprocess"
_MAPS: weakref.WeakValueDictionary[tuple[int, int, int, str], np.ndarray] = weakref.WeakValueDictionary()


def map_file(path: Path, size: int, dtype: str) -> np.ndarray:
    """Returns the flat little-endian content of a file, read-only; the same array for the same file.

    Raises:
        DataError: the file is missing, or has not this size in bytes.
        StorageError: it cannot be read, or there is no address space for it.
    """
    check_size(path, size)
    little = np.dtype(dtype).newbyteorder("<")
    if not size:
        return np.zeros(0, little)
    try:
        with open(path, "rb") as file:
            found = os.fstat(file.fileno())
            key = (found.st_dev, found.st_ino, found.st_mtime_ns, dtype)
            array = _MAPS.get(key)
            if array is None:
                array = _MAPS[key] = np.memmap(file, little, mode="r", shape=(size // little.itemsize,)).view(
                    np.ndarray
                )
    except (OSError, ValueError) as error:  # a ValueError: the file was cut meanwhile
        what = f"cannot be mapped: {getattr(error, 'strerror', error)}"
        fix = "check its permissions, and the limits of the process (ulimit -v and -n)"
        raise StorageError(what, where=str(path), fix=fix) from error
    return array


def check_size(path: Path, size: int) -> None:
    """Raises a DataError unless the file is there and has exactly this many bytes."""
    try:
        found = os.stat(path).st_size
    except OSError as error:
        raise DataError(f"the file cannot be opened: {error.strerror}", where=str(path), fix=REMEDY) from error
    if found != size:
        raise DataError(f"the file has {found} bytes", where=str(path), expected=f"{size} bytes", fix=REMEDY)


def check_crc(found: int, expected: int, where: str) -> None:
    """Raises a DataError unless the content of a file has the checksum that dataset.json says."""
    if found != expected:
        raise DataError(f"the content has crc32 {found:08x}", where=where, expected=f"{expected:08x}", fix=REMEDY)
