"""Files that appear whole or not at all.

A file is made under a temporary name beside its final one, with O_EXCL and O_NOFOLLOW, so that a link which somebody
has put there is never followed. Its writer locks it. So the next writer can tell the temporary files of killed
processes, also of other containers, and removes them.
"""

from __future__ import annotations

import contextlib
import glob
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from taskmask.errors import ConfigError, storage_errors
from taskmask.faults import reach
from taskmask.locks import is_at, plain, try_lock

DATASET_HEADER = "dataset.json"


@contextlib.contextmanager
def atomic_write(path: Path, kind: str = "file") -> Iterator[BinaryIO]:
    """Yields a file to write to; it appears at `path`, synced to the disk, when the `with` ends without an error.

    A link at `path` is replaced, not followed.

    Args:
        path: the final name.
        kind: its name in the points where tests order faults.

    Raises:
        StorageError: the disk is full, or the folder cannot be written; `path` is unchanged.
    """
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary, descriptor = _new_file(path)
        try:
            with open(temporary, "wb", opener=lambda *_: descriptor) as file:
                yield file
                file.flush()
                reach(f"{kind}.fsync")
                os.fsync(file.fileno())
                reach(f"{kind}.rename")
                os.replace(temporary, path)
            sync_folder(path.parent)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


def resolve_output(path: str | Path, option: str) -> Path:
    """Returns the file that an option names, links resolved, after trying that it can be written.

    Call it before the work. An existing device or pipe is fine: `write_output` writes to it as it is.

    Raises:
        ConfigError: the path is a folder, a link that leads nowhere, or the header of a dataset.
        StorageError: its folder cannot be written.
    """
    named, path = Path(path), Path(os.path.realpath(path))
    where = f"{option} {named}"
    if path.is_dir():
        raise ConfigError("is a folder", where=where, expected="a file", fix="name a file")
    if named.is_symlink() and not path.exists():
        raise ConfigError("is a link that leads nowhere", where=where, fix="remove the link, or name another file")
    if path.name == DATASET_HEADER:
        raise ConfigError("would replace the header of a dataset", where=where, fix="name another file")
    if path.exists() and not path.is_file():
        return path
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary, descriptor = _new_file(path)
        os.close(descriptor)
        temporary.unlink()
    return path


@contextlib.contextmanager
def write_output(path: Path) -> Iterator[BinaryIO]:
    """Yields a file to write to: atomic for a plain file, links resolved; a device or a pipe is written to as it is."""
    path = Path(os.path.realpath(path))
    if path.exists() and not path.is_file():
        with storage_errors(path), open(path, "wb") as file:
            yield file
        return
    with atomic_write(path) as file:
        yield file


def create_file(path: Path) -> int:
    """Creates a file that must not exist, following no link; returns its descriptor, open for reading and writing."""
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)


def open_to_append(path: Path) -> BinaryIO:
    """Opens a plain file for appending, creating it if it is missing; a link or a device is refused.

    Raises:
        OSError: the path is a link, or cannot be written.
    """
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    descriptor = os.open(path, flags, 0o666)
    return os.fdopen(plain(descriptor, path), "ab")


def _new_file(path: Path) -> tuple[Path, int]:
    """Removes abandoned temporary files of `path`, then makes and locks one; returns its name and descriptor."""
    remove_abandoned(path)
    while True:
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
        descriptor = create_file(temporary)
        if try_lock(descriptor) and is_at(descriptor, temporary):
            return temporary, descriptor
        os.close(descriptor)  # another writer took the new file, not yet locked, for an abandoned one


def remove_abandoned(path: Path) -> None:
    """Removes the temporary files beside `path` whose writers are gone; keeps them if files cannot be locked."""
    for file in path.parent.glob(f".{glob.escape(path.name)}.*.tmp"):
        with contextlib.suppress(OSError):
            descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            try:
                if try_lock(descriptor, unknown=False) and is_at(descriptor, file):
                    file.unlink()
            finally:
                os.close(descriptor)


def sync_folder(folder: Path) -> None:
    """Waits until the names in a folder are on the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
