"""Signals that ask a run to stop: noted at once, acted upon between two steps."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from typing import Any

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)


class StopRequest:
    """Notes the first of SIGTERM, SIGINT and SIGUSR1; a second one does what it did before.

    Attributes:
        made: whether a signal has come.
    """

    def __init__(self) -> None:
        self.made = False

    @contextlib.contextmanager
    def watched(self, announce: bool) -> Iterator[None]:
        """Handles the signals for the time of a `with`; outside the main thread Python allows no handlers.

        Args:
            announce: whether to say so when a signal comes.
        """

        def note(number: int, frame: Any) -> None:
            self.made = True
            signal.signal(number, before[number])
            if announce:  # by a plain write: a print may have been interrupted
                name = signal.Signals(number).name
                os.write(2, f"taskmask: {name}: saving at the next step; once more to quit at once\n".encode())

        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before: dict[int, Any] = {number: signal.signal(number, note) for number in SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
