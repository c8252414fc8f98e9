"""Lines for the user, on standard error."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

from taskmask.errors import visible


def write_line(text: str, write: Callable[..., object] = print) -> None:
    """Writes a `visible` line to standard error. If nobody reads any more, the program continues in silence.

    Args:
        text: the line.
        write: called with the line and `file`; `tqdm.write` keeps a progress bar below the line.
    """
    try:
        write(visible(text), file=sys.stderr)
        sys.stderr.flush()
    except OSError:
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115 - for the rest of the process


def say(text: str) -> None:
    """Writes a line that begins with the name of the program; see `write_line`."""
    write_line(f"taskmask: {text}")
