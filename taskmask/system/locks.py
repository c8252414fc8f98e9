"""Locks (`flock`): the kernel releases them when their process dies, and they work across containers."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import platform
import stat
import time
from collections.abc import Iterator
from pathlib import Path

from taskmask.errors import ConfigError, storage_error

_BUSY = "another process is at work in it"
_NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)


@contextlib.contextmanager
def file_lock(path: Path, where: str, keep: bool = True) -> Iterator[None]:
    """Holds the lock file `path` for the time of a `with`; the kernel releases it if the process dies.

    Args:
        path: the lock file; it is created, and names its holder. A link or a device is refused.
        where: what is locked, for errors.
        keep: leave the file there at the end.

    Raises:
        ConfigError: another process holds it.
        StorageError: it cannot be created.
    """
    while True:
        try:
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            descriptor = plain(os.open(path, flags, 0o666), path)
        except OSError as error:
            raise storage_error(path, error) from error
        file = os.fdopen(descriptor, "r+b", buffering=0)
        if not try_lock(descriptor):
            holder = file.read(200).decode(errors="replace").strip()
            file.close()
            raise ConfigError(f"{_BUSY} ({holder})", where=where, fix="wait until it ends, or name another")
        if is_at(descriptor, path):
            if os.fstat(descriptor).st_nlink <= 1:
                break
            path.unlink()  # a hard link: our name would overwrite the file that shares its bytes
        file.close()  # else its holder removed it between our open and our lock
    os.register_at_fork(after_in_child=file.close)  # else workers that outlive this process would hold the lock
    with file:
        file.truncate(0)
        file.write(f"{platform.node()}, process {os.getpid()}, since {time.strftime('%Y-%m-%d %H:%M:%S')}".encode())
        try:
            yield
        finally:
            if not keep:
                path.unlink(missing_ok=True)


@contextlib.contextmanager
def folder_lock(folder: Path, where: str, shared: bool = False, wait: bool = False) -> Iterator[None]:
    """Locks a folder itself: `shared` by those who add to it, alone by the one who replaces it.

    Raises:
        ConfigError: another process holds it, unless `wait`.
    """
    held = [os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)]

    def close() -> None:
        if held:
            os.close(held.pop())

    os.register_at_fork(after_in_child=close)  # else workers that outlive this process would hold the lock
    try:
        if not try_lock(held[0], shared=shared, wait=wait):
            raise ConfigError(_BUSY, where=where, fix="wait until it ends, or name another")
        yield
    finally:
        close()


def try_lock(descriptor: int, shared: bool = False, wait: bool = False, unknown: bool = True) -> bool:
    """Tries to lock a descriptor; returns `unknown` if the file system has no locks."""
    kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    try:
        fcntl.flock(descriptor, kind if wait else kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        return unknown
    return True


def is_at(descriptor: int, path: Path) -> bool:
    """Returns whether the open file is still the one at `path`."""
    opened = os.fstat(descriptor)
    try:
        there = os.lstat(path)
    except FileNotFoundError:
        return False
    return (opened.st_dev, opened.st_ino) == (there.st_dev, there.st_ino)


def plain(descriptor: int, path: Path) -> int:
    """Returns the descriptor if it is of a plain file; closes it and raises an OSError otherwise."""
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return descriptor
    os.close(descriptor)
    raise OSError(errno.EINVAL, "not a plain file", str(path))
