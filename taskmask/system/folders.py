"""Folders that appear whole or not at all, and never in the place of something else."""

from __future__ import annotations

import contextlib
import glob
import os
import secrets
import shutil
import stat
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from taskmask.errors import ConfigError, DataError, TaskmaskError, storage_errors
from taskmask.system.failpoints import reach
from taskmask.system.files import first_free, sync_folder
from taskmask.system.locks import file_lock, folder_lock


@contextlib.contextmanager
def atomic_directory(path: Path, option: str, replaces: Callable[[Path], None] | None = None) -> Iterator[Path]:
    """Yields a folder to fill; it appears at `path` when the `with` ends without an error.

    One writer at a time: `path` is locked meanwhile. Right before the end the place is checked again. If somebody has
    taken it, the finished folder is kept beside it.

    Args:
        path: the final name; new or an empty folder, unless `replaces` allows more. A link is resolved first.
        option: the option that names it, for errors.
        replaces: raises an error if the folder that exists may not be replaced; None: it may not.

    Raises:
        ConfigError: another process writes to `path`, or the link leads nowhere.
        StorageError: the disk is full or cannot be written.
        DataError: the place was taken meanwhile; the message names the finished folder.
    """
    path, where = resolve_folder(path, option), f"{option} {path}"
    with contextlib.ExitStack() as held:
        held.enter_context(storage_errors(path))
        held.enter_context(_made_parents(path))
        held.enter_context(_alone(path, option))
        _check_free(path, option, replaces)
        if seen := _identity(path):
            held.enter_context(folder_lock(path, where))
        partial = path.with_name(f"{path.name}.partial-{secrets.token_hex(4)}")
        partial.mkdir()
        held.callback(shutil.rmtree, partial, ignore_errors=True)
        yield partial
        sync_folder(partial)
        _move_into_place(partial, path, option, replaces, seen)


@contextlib.contextmanager
def _made_parents(path: Path) -> Iterator[None]:
    """Makes the folders above `path`; removes them again after an error, unless they are in use."""
    made = [folder for folder in path.parents if not folder.exists()]
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield
    except BaseException:
        with contextlib.suppress(OSError):  # not empty
            for folder in made:
                folder.rmdir()
        raise


def resolve_folder(path: str | Path, option: str) -> Path:
    """Returns the folder that an option names, links resolved.

    Raises:
        ConfigError: it is a link that leads nowhere, or the root.
    """
    resolved = Path(os.path.realpath(path))
    if resolved == resolved.parent:
        raise ConfigError("is the root of the file system", where=f"{option} {path}", fix="name another folder")
    if os.path.islink(path) and not resolved.exists():
        fix = "remove the link, or name another folder"
        raise ConfigError("is a link that leads nowhere", where=f"{option} {path}", fix=fix)
    return resolved


def refuse_links(folder: Path, names: Iterable[str], option: str) -> None:
    """Raises a ConfigError if one of these names in a folder is a link, a device or a pipe.

    A folder may come from strangers. What is written to it must not get elsewhere, and what is read must end.
    """
    for name in names:
        with contextlib.suppress(FileNotFoundError):
            mode = os.lstat(folder / name).st_mode
            if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
                what = f"{name} in it is {'a link' if stat.S_ISLNK(mode) else 'no plain file'}, which is not followed"
                raise ConfigError(what, where=f"{option} {folder}", fix="remove it; the folder itself may be a link")


def check_output(path: str | Path, option: str, replaces: Callable[[Path], None] | None = None) -> None:
    """Raises an error if `atomic_directory` would refuse the path. Cheap: call it before any long work."""
    path = resolve_folder(path, option)
    if path.parent.is_dir():
        with storage_errors(path), _alone(path, option):
            _check_free(path, option, replaces)


@contextlib.contextmanager
def _alone(path: Path, option: str) -> Iterator[None]:
    """Locks the name `path` against other writers, and first clears up after killed ones."""
    with file_lock(path.with_name(f".{path.name}.lock"), f"{option} {path}", keep=False):
        restore(path)
        yield


def _check_free(path: Path, option: str, replaces: Callable[[Path], None] | None) -> None:
    """Raises an error unless nothing is at `path`, or an empty folder, or something that `replaces` accepts."""
    if not path.exists() or (path.is_dir() and not any(path.iterdir())):
        return
    if replaces:
        return replaces(path)
    what = "is not empty" if path.is_dir() else "exists and is not a folder"
    raise ConfigError(what, where=f"{option} {path}", expected="a new or empty folder", fix="name another folder")


def _move_into_place(
    partial: Path, path: Path, option: str, replaces: Callable[[Path], None] | None, seen: tuple[int, int] | None
) -> None:
    """Renames `partial` to `path`; keeps it under another name if the place was taken since it was `seen`."""
    occupied = os.path.lexists(path) and not (path.is_dir() and not any(path.iterdir()))
    try:
        if occupied and (path.is_symlink() or _identity(path) != seen):
            raise ConfigError("was taken by another program during the work", where=f"{option} {path}")
        _check_free(path, option, replaces)
    except TaskmaskError as error:
        kept = first_free(f"{path}.new")
        os.rename(partial, kept)
        raise DataError(
            f"{error.what}, so it is not touched",
            where=f"{option} {path}",
            fix=f"the finished result is kept as {kept}: move it where you want it",
        ) from error
    old = None
    if occupied:
        old = path.with_name(f"{path.name}.replaced-{secrets.token_hex(4)}")
        os.rename(path, old)
    try:
        reach("data.rename")
        os.rename(partial, path)
        sync_folder(path.parent)
    except BaseException:
        if old and not path.exists():
            os.rename(old, path)
        raise
    finally:
        if old and path.exists():
            shutil.rmtree(old, ignore_errors=True)


def restore(path: Path) -> None:
    """Removes the folders that killed writers of `path` left, and puts back one that was being replaced.

    Call it while `path` is locked.
    """
    for old in leftovers(path, "replaced"):
        if path.exists():
            shutil.rmtree(old, ignore_errors=True)
        else:
            os.rename(old, path)
    for partial in leftovers(path, "partial"):
        shutil.rmtree(partial, ignore_errors=True)


def leftovers(path: Path, kind: str) -> list[Path]:
    """Returns the folders beside `path` of a kind, "partial" or "replaced", that a living or killed writer made."""
    found = path.parent.glob(f"{glob.escape(path.name)}.{kind}-" + "[0-9a-f]" * 8)
    return sorted(folder for folder in found if folder.is_dir() and not folder.is_symlink())


def _identity(path: Path) -> tuple[int, int] | None:
    """Returns device and inode; None if nothing is there."""
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino
