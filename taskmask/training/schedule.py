"""The learning rate: a pure function of the step."""

from __future__ import annotations

import math

from taskmask.settings import OptimSettings

DEFAULT_WARMUP_SHARE = 0.06


def warmup_steps(settings: OptimSettings, steps: int) -> int:
    """Returns the steps of warm-up in a run of `steps`."""
    return int(DEFAULT_WARMUP_SHARE * steps) if settings.warmup_steps is None else settings.warmup_steps


def learning_rate(settings: OptimSettings, step: int, steps: int) -> float:
    """Returns the learning rate of update number `step`, counted from 1, in a run of `steps`.

    The warm-up rises linearly to `optim.lr`, reached at its last step. Then: linear, cosine and polynomial begin at
    `optim.lr` and fall towards `optim.lr_end`, which they would reach one step after the last; inverse_sqrt falls with
    the root of the step; constant stays. So every update changes the weights, the first and the last included.

    **Source:** linear: Devlin et al. 2019, whose code gives the first update after the warm-up the highest rate;
    inverse square root: Vaswani et al. 2017, section 5.3; polynomial: Liu et al. 2019; cosine: Loshchilov and Hutter
    2017. Differs from the code of Devlin et al.: the warm-up is one step ahead, as its first update there has rate 0.
    """
    warmup = warmup_steps(settings, steps)
    if step <= warmup:
        return settings.lr * step / warmup
    if settings.schedule == "constant":
        return settings.lr
    if settings.schedule == "inverse_sqrt":
        return settings.lr * math.sqrt(max(warmup, 1) / step)
    over = min(1.0, (step - 1 - warmup) / max(1, steps - warmup))  # of the decay, before this update
    left = {
        "linear": 1 - over,
        "cosine": (1 + math.cos(math.pi * over)) / 2,
        "polynomial": (1 - over) ** settings.power,
    }[settings.schedule]
    return settings.lr_end + (settings.lr - settings.lr_end) * left
