"""What belongs to the whole process and code of others may change by mistake: noted, compared, put back."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import random
import signal
import sys
import threading
from collections.abc import Iterator
from typing import Any

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGALRM)


@dataclasses.dataclass(frozen=True)
class ProcessState:
    """The state of the process at one moment.

    Args:
        parts: {what it is, in words: its value}; numpy and torch have parts if they were loaded.
    """

    parts: dict[str, Any]

    @staticmethod
    def now(generators: bool = True) -> ProcessState:
        """Returns the state of now, with the global generators of random numbers or without: they take most time."""
        parts: dict[str, Any] = {
            "the working directory": _folder(),
            "environment variables": dict(getattr(os.environb, "_data", os.environb)),  # a hundred times as fast
            "signal handlers": {number: signal.getsignal(number) for number in _SIGNALS},
        }
        if numpy := sys.modules.get("numpy"):
            parts["how numpy treats errors"] = numpy.geterr()
        if torch := sys.modules.get("torch"):
            parts |= {
                "the threads of torch": torch.get_num_threads(),
                "the number format of torch": torch.get_default_dtype(),
                "whether torch takes gradients": torch.is_grad_enabled(),
            }
        return ProcessState({**parts, **_random_numbers()} if generators else parts)

    def changes(self) -> list[str]:
        """Returns what is otherwise now, in words."""
        now = ProcessState.now("the random numbers of Python" in self.parts).parts
        return [name for name, value in self.parts.items() if now[name] != value]

    def restore(self) -> None:
        """Puts back what is otherwise now."""
        for name in self.changes():
            _put(name, self.parts[name])


@contextlib.contextmanager
def process_kept(generators: bool = False) -> Iterator[None]:
    """Leaves the process, at the end of a `with`, as it was: the code inside can do no harm to what comes after it."""
    before = ProcessState.now(generators)
    try:
        yield
    finally:
        before.restore()


@contextlib.contextmanager
def folder_kept() -> Iterator[None]:
    """Leaves the working directory, at the end of a `with`, as it was: relative paths lead where they led before."""
    before = _folder()
    try:
        yield
    finally:
        if _folder() != before:
            _put("the working directory", before)


def _folder() -> str:
    try:
        return os.getcwd()
    except OSError:  # it was removed
        return ""


def _random_numbers() -> dict[str, Any]:
    found: dict[str, Any] = {"the random numbers of Python": random.getstate()}
    if numpy := sys.modules.get("numpy"):
        kind, keys, *others = numpy.random.get_state(legacy=True)
        found["the random numbers of numpy"] = (kind, keys.tobytes(), *others)
    if torch := sys.modules.get("torch"):
        found["the random numbers of torch"] = torch.get_rng_state().numpy().tobytes()
    return found


def _put(name: str, value: Any) -> None:
    """Puts one part back."""
    numpy: Any = sys.modules.get("numpy")
    torch: Any = sys.modules.get("torch")
    match name:
        case "the working directory":
            if value:
                os.chdir(value)
        case "environment variables":
            os.environb.clear()
            os.environb.update(value)
        case "signal handlers":
            for number, handler in value.items():
                if handler is not None and threading.current_thread() is threading.main_thread():
                    signal.signal(number, handler)
        case "the random numbers of Python":
            random.setstate(value)
        case "the random numbers of numpy":
            kind, keys, *others = value
            numpy.random.set_state((kind, numpy.frombuffer(keys, numpy.uint32), *others))
        case "how numpy treats errors":
            numpy.seterr(**value)
        case "the random numbers of torch":
            torch.set_rng_state(torch.frombuffer(bytearray(value), dtype=torch.uint8))
        case "the threads of torch":
            torch.set_num_threads(value)
        case "the number format of torch":
            torch.set_default_dtype(value)
        case "whether torch takes gradients":
            torch.set_grad_enabled(value)
