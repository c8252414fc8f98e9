"""Standard output and error that cannot stop the work: a dead reader or a full disk makes the program silent."""

from __future__ import annotations

import io
import os
import sys


class _SilentFile(io.FileIO):
    """A file descriptor whose failed writes count as done."""

    def write(self, data: object) -> int:
        try:
            return super().write(data)  # type: ignore[arg-type]
        except OSError:
            return memoryview(data).nbytes  # type: ignore[arg-type]


def open_closed_descriptors() -> None:
    """Opens descriptors 0 to 2 on the null device if the caller closed them: no file of ours may get their numbers."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)


def guard_streams() -> None:
    """Makes sys.stdout and sys.stderr encode any text as UTF-8; failed writes to stderr are ignored from now on."""
    open_closed_descriptors()
    sys.stderr = _stream(_SilentFile(2, "w", closefd=False))
    if sys.stdout is None:
        sys.stdout = _stream(_SilentFile(1, "w", closefd=False))
    elif isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace")


def ignore_lost_output() -> None:
    """Ignores failed writes to stdout, too: for verbs whose result is a file, not the text that they print."""
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.fileno() == 1:
        sys.stdout.flush()
        sys.stdout = _stream(_SilentFile(1, "w", closefd=False))


def _stream(raw: io.FileIO) -> io.TextIOWrapper:
    return io.TextIOWrapper(io.BufferedWriter(raw), encoding="utf-8", errors="backslashreplace", line_buffering=True)
