"""Lines for the user, on standard error."""

from __future__ import annotations

import os
import sys

from taskmask.errors import visible


def say(text: str) -> None:
    """Prints a line for people; where nobody reads any more, the program goes on in silence."""
    try:
        print(visible(f"taskmask: {text}"), file=sys.stderr, flush=True)
    except OSError:
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115 - for the rest of the process
