"""Which number format to compute in: `train.precision auto`, and formats in which this machine is slow.

A CPU without units for bf16 computes it all the same, many times slower than fp32. So the time of a layer is taken, in
both formats: of one thread, which other programs hardly disturb, and as processor time, which they do not lengthen.
"""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Iterable
from pathlib import Path

import torch

from taskmask.config import Assignment, read_file
from taskmask.config.settings import Settings
from taskmask.errors import ConfigError
from taskmask.training.distributed import World, own_threads
from taskmask.training.precision import autocast

ROWS, WIDTH, INNER = 256, 256, 1024  # tokens and sizes of the layer
LEAST_TRIES, SECONDS = 4, 0.05
SLOWER = 1.2  # from this factor on a format is called slower


@dataclasses.dataclass(frozen=True)
class Speed:
    """How long a layer takes, forward and backward, on one core.

    Args:
        precision: a number format.
        seconds: in that format.
        fp32: in fp32.
    """

    precision: str
    seconds: float
    fp32: float

    @property
    def is_slower(self) -> bool:
        """Whether fp32 would be faster, by more than it may seem by chance."""
        return self.seconds > SLOWER * self.fp32

    def __str__(self) -> str:
        return f"a layer takes {1000 * self.seconds:.1f} ms in {self.precision}, {1000 * self.fp32:.1f} ms in fp32 here"


@functools.cache
def measure(precision: str) -> Speed:
    """Measures a format on this CPU, once in a process."""
    cpu = torch.device("cpu")
    x, weight = torch.ones(ROWS, WIDTH, requires_grad=True), torch.ones(INNER, WIDTH, requires_grad=True)

    def seconds_of(one: str) -> float:
        began = time.thread_time()
        with autocast(cpu, one):
            y = torch.nn.functional.linear(x, weight)
        torch.autograd.grad(y.float().sum(), (x, weight))
        return time.thread_time() - began

    with own_threads(), torch.enable_grad():
        torch.set_num_threads(1)
        tries: list[tuple[float, float]] = []
        began = time.thread_time()
        while len(tries) < LEAST_TRIES or time.thread_time() - began < SECONDS:
            tries.append((seconds_of(precision), seconds_of("fp32")))
    ours, fp32 = map(min, zip(*tries, strict=True))
    return Speed(precision, ours, fp32)


def begun_with(folders: Iterable[Path]) -> str:
    """Returns the number format that the first run among these folders has begun with; "" before any has."""
    for folder in folders:
        try:
            found = [a.value for a in read_file(folder / "settings.json") if a.key == "train.precision"]
        except ConfigError:
            continue
        if found and found[0] != "auto":
            return str(found[0])
    return ""


def for_training(settings: Settings, kept: str, world: World, device: torch.device) -> tuple[Settings, list[str]]:
    """Chooses the format where the settings say auto; the first process does so for all.

    Args:
        settings: of the run.
        kept: the format that the run has begun with; "" where it has not.
        world: the processes of the run.
        device: of this process.

    Returns:
        The settings with the format, and what people should know of it.
    """
    asked = settings.train.precision
    chosen, notes = world.collect(_chosen(asked, kept, device) if world.is_first else None)[0]
    return with_precision(settings, chosen), notes


def for_trained(
    settings: Settings, given: Iterable[Assignment], world: World, device: torch.device
) -> tuple[Settings, list[str]]:
    """Chooses the format in which a trained model is asked: its own, or fp32 where that is faster and not less exact.

    Args:
        settings: of the run, with what differs.
        given: what differs. A format in it is taken, slow or not.
        world: the processes that share the work.
        device: of this process.

    Returns:
        As `for_training`.
    """
    own = settings.train.precision
    asked = any(one.key == "train.precision" for one in given)
    if asked or own == "fp32" or device.type != "cpu":
        return for_training(settings, "", world, device)
    speed = world.collect(measure(own) if world.is_first else None)[0]
    if not speed.is_slower:
        return settings, []
    why = f"not in {own} as in training: {speed}; --train.precision {own} keeps it"
    return with_precision(settings, "fp32"), [f"warning: computed in fp32, {why}"]


def with_precision(settings: Settings, precision: str) -> Settings:
    """Returns the settings with that number format."""
    return dataclasses.replace(settings, train=dataclasses.replace(settings.train, precision=precision))  # type: ignore[arg-type]


def _chosen(asked: str, kept: str, device: torch.device) -> tuple[str, list[str]]:
    """Returns the number format, and what people should know of it."""
    fix = "--train.precision auto takes the faster one"
    if asked == "auto" and kept:
        asked, fix = kept, "the run began with it and keeps it"
    elif asked == "auto" and device.type == "cuda":
        has_units = torch.cuda.is_bf16_supported(including_emulation=False)
        chosen = "bf16" if has_units else "fp32"
        return chosen, [f"precision {chosen}: the GPU has {'' if has_units else 'no '}units for bf16"]
    elif asked == "auto":
        speed = measure("bf16")
        chosen = "bf16" if speed.seconds < speed.fp32 else "fp32"
        return chosen, [f"precision {chosen}: {speed}"]
    if asked != "fp32" and device.type == "cpu" and (speed := measure(asked)).is_slower:
        return asked, [f"warning: precision {asked} is slow: {speed}; {fix}"]
    return asked, []
