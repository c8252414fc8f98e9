"""What can go wrong, as types. Every message says where, what, what was expected and what to do."""

from __future__ import annotations

import contextlib
import difflib
import errno
import re
import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

LONGEST_MESSAGE = 4000  # characters


class TaskmaskError(Exception):
    """A mistake that the user can mend. The command line prints it in one line and exits with `exit_code`.

    Args:
        what: what is wrong, with the value that is wrong.
        where: setting, file:line, column or key.
        expected: what would have been right.
        fix: what to do next.
    """

    exit_code = 1

    def __init__(self, what: str, *, where: str = "", expected: str = "", fix: str = ""):
        self.what, self.where, self.expected, self.fix = what, where, expected, fix
        text = f"{where}: {what}" if where else what
        if expected:
            text += f"; expected {expected}"
        if fix:
            text += f"; {fix}"
        super().__init__(_in_one_line(text))


class ConfigError(TaskmaskError):
    """A setting or an option is wrong.

    Attributes:
        parts: the single errors, where it says several.
    """

    exit_code = 2
    parts: tuple[ConfigError, ...] = ()

    @classmethod
    def of(cls, parts: Sequence[ConfigError]) -> ConfigError:
        """Returns one error that says several, a line each."""
        error = cls(f"{len(parts)} settings are wrong")
        error.parts = tuple(parts)
        error.args = ("\n  ".join([f"{error.what}:", *map(str, parts)]),)
        return error


class RegistryError(ConfigError):
    """A component is unknown, registered twice, or its plug-in cannot be loaded."""


class DataError(TaskmaskError):
    """An input file, a vocabulary or a dataset is wrong."""

    exit_code = 3


class CheckpointError(TaskmaskError):
    """A checkpoint is damaged, or does not fit what is asked of it."""

    exit_code = 4


class DivergedError(TaskmaskError):
    """Training has left the finite numbers."""

    exit_code = 5


class DistributedError(TaskmaskError):
    """The processes of one run disagree or have lost each other."""

    exit_code = 6


class StorageError(TaskmaskError):
    """A disk is full or a file cannot be written."""

    exit_code = 7


class Interrupted(TaskmaskError):
    """Stopped after saving, by a signal, by the clock or because torchrun is gone; the same command goes on."""

    exit_code = 75


@contextlib.contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turns an OSError inside a `with` into a StorageError that names the path."""
    try:
        yield
    except OSError as error:
        raise storage_error(path, error) from error


def storage_error(path: Path, error: OSError) -> StorageError:
    """Returns the StorageError that explains an OSError to the user who wanted to write to `path`."""
    full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    fix = "make room and run the same command again" if full else "check the path and its permissions"
    what = f"cannot be written: {error.strerror or error}"
    if error.errno == errno.ELOOP:
        what, fix = "is a link, which is not followed", "remove it"
    with contextlib.suppress(OSError, StopIteration):
        folder = next(folder for folder in path.absolute().parents if folder.exists())
        what += f" ({shutil.disk_usage(folder).free / 2**20:,.0f} MiB free)" if full else ""
    return StorageError(what, where=str(path), fix=fix)


_HIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def _in_one_line(text: str) -> str:
    """Returns a message without the line breaks and without most of the very long words of strangers' files."""
    text = re.sub(r"\S{500,}", lambda found: f"{found[0][:200]}…{found[0][-100:]}", text.replace("\n", "\\n"))
    return text if len(text) <= LONGEST_MESSAGE else f"{text[: LONGEST_MESSAGE - 500]} … {text[-490:]}"


def visible(text: str) -> str:
    """Returns a text for people, with \\uXXXX for each character that they do not see but that changes what they see.

    These are control characters, which can steer a terminal, marks of the direction of writing, which can reorder a
    line, separators of lines other than the line feed, and lone surrogates.
    """
    return _HIDDEN.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def one_line(text: str) -> str:
    """Returns a text as a field of a table: any run of blanks and line breaks is one space, the rest `visible`."""
    return visible(" ".join(text.split()))


def did_you_mean(name: str, names: Iterable[str], words: bool = False) -> str:
    """Returns "did you mean 'x'?" for the name nearest to `name`, or an empty string.

    Args:
        name: an unknown name.
        names: the known ones.
        words: whether a known name that is one of the words of `name` comes first, as `tiny` for `bert_tiny`.
    """
    known = list(names)
    within = [one for one in known if words and one in re.split(r"[_\W]+", name.lower())]
    near = dict.fromkeys([*within, *difflib.get_close_matches(name, known, n=1, cutoff=0.6)])
    return f"did you mean {' or '.join(map(repr, near))}?" if near else ""
