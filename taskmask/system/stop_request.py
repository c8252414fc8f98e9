"""What asks a run to stop: a signal, the clock, or the end of torchrun. Noted at once, acted upon between two steps."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGHUP)


class StopRequest:
    """Notes the first of SIGTERM, SIGINT, SIGUSR1 and SIGHUP; a second one does what it did before.

    A SIGHUP that is ignored, as under nohup, stays ignored.

    Args:
        minutes: time after which the run is to stop by itself; 0 = never.
    """

    def __init__(self, minutes: float = 0.0):
        self.noted = ""
        self.deadline = time.monotonic() + 60 * minutes if minutes else float("inf")
        # torchrun starts its processes itself; one whose parent changes was left alone by it
        self.parent = os.getppid() if "TORCHELASTIC_RUN_ID" in os.environ else None

    @property
    def reason(self) -> str:
        """Why this process is to stop; "" where it is not."""
        if not self.noted and time.monotonic() > self.deadline:
            self.noted = "run.stop_after_minutes have passed"
        if not self.noted and self.parent is not None and os.getppid() != self.parent:
            self.noted = "torchrun is gone"
        return self.noted

    @contextlib.contextmanager
    def watched(self, announce: bool) -> Iterator[None]:
        """Handles the signals for the time of a `with`; outside the main thread Python allows no handlers.

        Args:
            announce: whether to say so when a signal comes.
        """

        def note(number: int, frame: Any) -> None:
            self.noted = signal.Signals(number).name
            signal.signal(number, before[number])
            if announce:  # by a plain write: a print may have been interrupted
                text = f"taskmask: {self.noted}: saving at the next step; once more to quit at once\n"
                with contextlib.suppress(OSError):
                    os.write(2, text.encode())

        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before: dict[int, Any] = {number: signal.getsignal(number) for number in SIGNALS}
        if before[signal.SIGHUP] == signal.SIG_IGN:
            del before[signal.SIGHUP]
        try:
            for number in before:
                signal.signal(number, note)
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
