"""Faults on order, so that tests can show what happens when things go wrong at the worst instant.

`TASKMASK_FAULT="kill@save.rename#2,rank=1"` ends process 1 with SIGKILL where it is about to rename its second
checkpoint. Without the variable nothing here does anything. Several faults are joined by semicolons.
"""

from __future__ import annotations

import collections
import errno
import os
import re
import signal

from taskmask.errors import ConfigError

POINTS = (
    "data.read", "data.write", "data.rename", "step.begin", "step.forward", "step.loss", "step.backward", "step.update",
    "step.gradients", "step.weights", "validation.batch", "annotate.chunk", "annotate.merge",
    "save.write", "save.fsync", "save.rename", "save.prune", "resume.load", "log.write", "file.fsync", "file.rename",
)  # fmt: skip
SIGNALS = {
    "kill": signal.SIGKILL,
    "hang": signal.SIGSTOP,
    "term": signal.SIGTERM,
    "int": signal.SIGINT,
    "usr1": signal.SIGUSR1,
}
ERRORS = {
    "error": RuntimeError("a fault on order"),
    "full": OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
    "memory": MemoryError("a fault on order"),
}
LEFT_TO_THE_PLACE = ("nan", "skip", "bend")

_SPEC = re.compile(r"(?P<action>\w+)@(?P<point>[\w.]+)(?:#(?P<time>\d+))?(?:,rank=(?P<rank>\d+))?")
_times: collections.Counter[str] = collections.Counter()


def reach(point: str) -> str:
    """Says that the program has come to `point`, where a fault may have been ordered.

    Returns:
        "" or the action, where it is one that only the place itself can do: "nan", "skip", "bend".

    Raises:
        ConfigError: TASKMASK_FAULT cannot be read.
        Exception: the error that was ordered.
    """
    orders = os.environ.get("TASKMASK_FAULT")
    if not orders or os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") != "0":
        return ""
    _times[point] += 1
    for action, place, time, rank in [_read(order) for order in orders.split(";")]:
        if (place, time, rank) != (point, _times[point], int(os.environ.get("RANK", "0"))):
            continue
        if action in SIGNALS:
            os.kill(os.getpid(), SIGNALS[action])
        elif action in ERRORS:
            raise ERRORS[action]
        else:
            return action
    return ""


def _read(order: str) -> tuple[str, str, int, int]:
    """Returns action, point, the how-manieth time and the process of an order."""
    match = _SPEC.fullmatch(order.strip())
    if not match or match["point"] not in POINTS or match["action"] not in {*SIGNALS, *ERRORS, *LEFT_TO_THE_PLACE}:
        raise ConfigError(
            f"is {order!r}",
            where="environment variable TASKMASK_FAULT",
            expected=f"ACTION@POINT#TIME,rank=R with an action of {', '.join([*SIGNALS, *ERRORS, *LEFT_TO_THE_PLACE])} "
            f"and a point of {', '.join(POINTS)}",
            fix="unset it: it is for tests",
        )
    return match["action"], match["point"], int(match["time"] or 1), int(match["rank"] or 0)
