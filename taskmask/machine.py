"""What the machine gives and refuses: cores, files that are written whole or not at all, memory."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from taskmask.errors import ConfigError, StorageError, TaskmaskError
from taskmask.faults import reach


def num_cores() -> int:
    """Returns the cores that this process may use, which in a container or a batch job are not all of the machine."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextlib.contextmanager
def written_whole(path: Path, kind: str = "file") -> Iterator[BinaryIO]:
    """Gives a file to write to; it appears at `path`, on the disk for good, when the `with` ends without an error.

    Args:
        path: where it is to appear.
        kind: what it is called where faults are ordered.

    Raises:
        StorageError: the disk is full, or the folder cannot be written; what was at `path` is as it was.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with storage_errors(path):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with open(temporary, "wb") as file:
                yield file
                file.flush()
                reach(f"{kind}.fsync")
                os.fsync(file.fileno())
            reach(f"{kind}.rename")
            os.replace(temporary, path)
            sync_folder(path.parent)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise


def check_new_folder(path: Path, where: str) -> None:
    """Raises a ConfigError unless there is nothing at `path`, or an empty folder; `where` names the option."""
    if path.exists() and not (path.is_dir() and not any(path.iterdir())):
        what = "is not empty" if path.is_dir() else "is there already and no folder"
        raise ConfigError(what, where=where, expected="a new or empty folder", fix="name another folder")


@contextlib.contextmanager
def folder_written_whole(path: Path) -> Iterator[Path]:
    """Gives a folder to fill; it appears at `path`, new or empty until then, when the `with` ends without an error.

    Raises:
        StorageError: the disk is full, or the folder cannot be written.
    """
    path = Path(os.path.abspath(path))
    temporary = path.with_name(f".{path.name}.tmp")  # one name, so that the next one takes away what a kill left
    with storage_errors(path):
        made = [folder for folder in path.parents if not folder.exists()]
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir()
            yield temporary
            sync_folder(temporary)
            os.rename(temporary, path)
            sync_folder(path.parent)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            with contextlib.suppress(OSError):  # not empty: others have come to use it
                for folder in made:
                    folder.rmdir()
            raise


def sync_folder(folder: Path) -> None:
    """Waits until the names in a folder are on the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turns an OSError inside a `with` into a StorageError that names the path."""
    try:
        yield
    except OSError as error:
        raise storage_error(path, error) from error


def storage_error(path: Path, error: OSError) -> StorageError:
    """Says what an error of the system means for who wanted to write to `path`."""
    full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    fix = "make room and run the same command again" if full else "check the path and its permissions"
    what = f"cannot be written: {error.strerror or error}"
    with contextlib.suppress(OSError, StopIteration):
        folder = next(folder for folder in path.absolute().parents if folder.exists())
        what += f" ({shutil.disk_usage(folder).free / 2**20:,.0f} MiB free)" if full else ""
    return StorageError(what, where=str(path), fix=fix)


_NO_MEMORY = "can't allocate memory"


def is_out_of_memory(error: BaseException) -> bool:
    """Tells the errors by which Python and torch, on CPU and GPU, say that there is no more memory."""
    return isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError" or _NO_MEMORY in str(error)


def in_our_words(error: BaseException) -> TaskmaskError | None:
    """Says what an error of the system or of PyTorch means for the user; None where it is a bug of ours."""
    text = str(error).split("\n")[0]
    if isinstance(error, TaskmaskError):
        return error
    if is_out_of_memory(error):
        fix = "lower --train.max_tokens, or take a smaller model"
        return StorageError(f"not enough memory: {text or type(error).__name__}", fix=fix)
    if type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
        return ConfigError(f"torch.compile failed: {text}", where="run.compile", fix="leave --run.compile out")
    if isinstance(error, OSError) and error.errno:
        path = str(error.filename or "")
        return StorageError(error.strerror or text, where=path, fix=storage_error(Path(path), error).fix)
    return None
