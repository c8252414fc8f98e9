"""Files that appear whole or not at all.

A file is made under a temporary name beside its final one, with O_EXCL and O_NOFOLLOW, so that a link which somebody
has put there is never followed. Its writer locks it. So the next writer can tell the temporary files of killed
processes, also of other containers, and removes them.
"""

from __future__ import annotations

import contextlib
import errno
import glob
import io
import os
import secrets
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from taskmask.errors import ConfigError, DataError, storage_errors
from taskmask.system.failpoints import reach
from taskmask.system.locks import is_at, plain, try_lock

DATASET_HEADER = "dataset.json"
OF_DATA = (".bin", ".pt", ".model", ".safetensors", ".json", ".jsonl", ".toml")  # no page, list or table is called so
MIB = 1 << 20
SMALL = 64 * MIB
"""Bytes of the largest header, record or file of settings of others."""
LARGE = 256 * MIB
"""Bytes of the largest vocabulary, log or list."""


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

    Call it before the work, and give what it returns to `write_output`. A device or a pipe is fine, too.

    Raises:
        ConfigError: the path is a folder, a link that leads nowhere, or holds data, weights or settings.
        StorageError: its folder cannot be written.
    """
    named, path = Path(path), Path(os.path.realpath(path))
    where = f"{option} {named}"
    with storage_errors(named):
        if named.is_dir():
            raise ConfigError("is a folder", where=where, expected="a file", fix="name a file")
        if _is_written_as_it_is(named):
            return named
        if named.is_symlink() and not path.exists():
            raise ConfigError("is a link that leads nowhere", where=where, fix="remove the link, or name another file")
        if path.name == DATASET_HEADER or (path.suffix in OF_DATA and path.exists()):
            raise ConfigError("would replace data, weights or settings", where=where, fix="name another file")
        folder = next(folder for folder in path.parents if os.path.lexists(folder))  # others are made at the end
        temporary, descriptor = _new_file(folder / path.name)
        os.close(descriptor)
        temporary.unlink()
    return path


@contextlib.contextmanager
def write_output(path: Path) -> Iterator[BinaryIO]:
    """Yields a file to write to: atomic for a plain file, links resolved; a device or a pipe is written to as it is.

    Raises:
        StorageError: it cannot be written.
        DataError: a folder was made there since `resolve_output`; the message says where the finished file is.
    """
    if _is_written_as_it_is(path):
        with storage_errors(path), open(path, "wb", opener=_opened_as_it_is) as file:
            yield file
        return
    path = Path(os.path.realpath(path))
    free = first_free(f"{path}.new") if path.is_dir() else path
    with atomic_write(free) as file:
        yield file
    if free != path:
        fix = f"the finished file is kept as {free}: move it where you want it"
        raise DataError("was made a folder during the work", where=str(path), fix=fix)


def write_text(path: Path, text: str) -> None:
    """Writes a text to an output; see `write_output` and `as_utf8`."""
    with write_output(path) as file:
        file.write(as_utf8(text))


def as_utf8(text: str) -> bytes:
    """Returns a text for a file. What is no Unicode is written as \\udcXX, as JSON does: a path may hold any bytes."""
    return text.encode("utf-8", "backslashreplace")


def first_free(name: str) -> Path:
    """Returns the first of NAME-1, NAME-2, ... at which nothing is."""
    return next(path for number in range(1, 10**6) if not os.path.lexists(path := Path(f"{name}-{number}")))


def _is_written_as_it_is(path: Path) -> bool:
    """Returns whether a path is a device or a pipe, or the file that standard output or error goes to."""
    if path.is_file():
        return _standard_stream(path) is not None
    return path.exists() and not path.is_dir()


def _standard_stream(path: str | Path) -> int | None:
    """Returns 1 or 2 if a path is what standard output or error goes to."""
    for descriptor in (1, 2):
        with contextlib.suppress(OSError):
            if os.path.samestat(os.fstat(descriptor), os.stat(path)):
                return descriptor
    return None


def _opened_as_it_is(path: str, flags: int) -> int:
    """Opens a device or a pipe. A standard stream is shared, so that both writers have one place in the file."""
    stream = _standard_stream(path)
    if stream is None:
        return os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    for standard in (sys.stdout, sys.stderr):
        if standard:
            standard.flush()
    return os.dup(stream)


def read_bounded(path: Path, most: int = SMALL, streams: bool = False) -> bytes:
    """Reads a file whole, but none that is larger than its kind ever is: such a file costs neither time nor memory.

    Args:
        path: the file.
        most: bytes of the largest.
        streams: whether a pipe or a device is read, too: `--config <(...)` gives one.

    Raises:
        OSError: there is none, it is larger, or it is no plain file.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | (0 if streams else os.O_NONBLOCK))
    with open(descriptor, "rb") as file:
        found, parts, left = os.fstat(descriptor), list[bytes](), most + 1
        if not (streams or stat.S_ISREG(found.st_mode)):
            raise OSError(errno.EINVAL, "no plain file", str(path))
        while found.st_size <= most and left and (part := file.read(min(left, MIB))):
            parts.append(part)
            left -= len(part)
    if found.st_size > most or not left:
        raise OSError(errno.EINVAL, f"larger than {most // MIB} MiB, as no such file is", str(path))
    return b"".join(parts)


def read_text(path: Path, most: int = SMALL, streams: bool = False, encoding: str = "utf-8") -> str:
    """Reads a text file as `read_bounded` does; line breaks of all kinds become line feeds."""
    return io.TextIOWrapper(io.BytesIO(read_bounded(path, most, streams)), encoding).read()


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
