"""AdamW with the field's parameter groups, gradient clipping, and an average of the weights."""

from __future__ import annotations

import contextlib
import math
import statistics
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from taskmask.config.settings import OptimSettings
from taskmask.errors import ConfigError
from taskmask.training.objective import Objective

DEFAULT_WARMUP_SHARE = 0.06


def depths(objective: Objective) -> dict[str, int]:
    """Returns {name of a parameter: how deep it lies}: embeddings 0, layers from 1, heads and the criterion on top."""
    inside = {f"model.{name}": objective.model.depth(name) for name, _ in objective.model.named_parameters()}
    top = max(inside.values(), default=0)
    return {name: inside.get(name, top) for name, _ in objective.named_parameters()}


def freeze(objective: Objective, layers: int | None) -> None:
    """Ends the training of the embeddings and of the lowest `layers`; None leaves all as it is.

    Raises:
        ConfigError: the model has fewer layers.
    """
    if layers is None:
        return
    depth = depths(objective)
    most = max(depth.values()) - 1
    if layers > most:
        raise ConfigError(f"is {layers}", where="optim.freeze", expected=f"at most {most}, the layers of the model")
    for name, parameter in objective.named_parameters():
        if depth[name] <= layers:
            parameter.requires_grad_(False)


def adamw(objective: Objective, settings: OptimSettings) -> torch.optim.AdamW:
    """Returns AdamW over the trainable parameters: matrices decay, vectors (norms, biases) do not.

    Each group has a "scale", the factor of its learning rate. With N layers it is, in powers of `optim.layer_decay`: 0
    for the heads and all that is above the layers, 2 for the highest layer, N + 1 for the lowest, N + 2 for embeddings.

    **Source:** Loshchilov and Hutter 2019; the groups follow Devlin et al. 2019. Layer-wise decay of the learning rate:
    Clark et al. 2020 (ELECTRA), with the powers of google-research/electra, `model/optimization.py`; the idea is that
    of Howard and Ruder 2018 (ULMFiT), section 3.2, whose highest layer has power 1.
    """
    depth = depths(objective) if settings.layer_decay < 1 else {}
    top = max(depth.values(), default=0)
    found: dict[tuple[int, bool], list[nn.Parameter]] = {}
    for name, p in objective.named_parameters():
        if p.requires_grad:
            found.setdefault((top - depth.get(name, 0), p.dim() < 2), []).append(p)
    groups = [
        {
            "params": found[below, is_vector],
            "weight_decay": 0.0 if is_vector else settings.weight_decay,
            "scale": settings.layer_decay ** (below + 1 if below else 0),
        }
        for below, is_vector in sorted(found)
    ]
    return torch.optim.AdamW(
        groups,
        lr=settings.lr,
        betas=(settings.beta1, settings.beta2),
        eps=settings.epsilon,
        fused=True,
    )


def gradient_norm(parameters: list[nn.Parameter], loss_scale: float) -> float:
    """Returns the norm of all gradients together, the loss scale taken off; infinite or NaN where a gradient is."""
    return float(torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])) / loss_scale


def scale_and_clip(parameters: list[nn.Parameter], norm: float, loss_scale: float, clip: float) -> None:
    """Takes the loss scale off the gradients and clips their norm, in place.

    Args:
        parameters: those with gradients.
        norm: `gradient_norm` of them.
        loss_scale: what the loss was multiplied by.
        clip: largest norm; 0 = no clipping.
    """
    factor = 1.0 / loss_scale
    if clip and norm > clip:
        factor *= clip / norm
    if factor != 1.0:
        torch._foreach_mul_([p.grad for p in parameters if p.grad is not None], factor)


SPIKE_WINDOW = 128


def is_spike(norm: float, before: Sequence[float], deviations: float) -> bool:
    """Tells a gradient whose norm lies far above those of the steps before.

    Args:
        norm: of this step.
        before: norms of the last `SPIKE_WINDOW` steps; with fewer than half of them nothing is a spike.
        deviations: how many standard deviations above their mean is far; 0 = nothing is.
    """
    if not deviations or len(before) < SPIKE_WINDOW // 2:
        return False
    return norm > statistics.fmean(before) + deviations * statistics.pstdev(before)


class Average:
    """Exponential moving average of a module's weights after each update, without those that it began with.

    After t updates the weights of update s count (1 - decay) decay ** (t - s) / (1 - decay ** t). These shares sum to
    1: after one update the average is the weights themselves.

    **Source:** Kingma and Ba 2015 (arXiv 1412.6980), section 3 (correction of the bias), for the average of the weights
    section 7.2.

    Args:
        module: the module that is trained.
        decay: share of the average that stays at each update, but for the correction.

    Attributes:
        weights: the average, by name; before the first update the weights of the module.
        updates: how many updates it is of.
    """

    def __init__(self, module: nn.Module, decay: float):
        self.decay, self.updates = decay, 0
        self.live = {name: p for name, p in module.named_parameters() if p.requires_grad}
        self.weights = {name: p.detach().clone() for name, p in self.live.items()}

    @torch.no_grad()
    def update(self) -> None:
        """Moves the average towards the weights of now, after an update."""
        self.updates += 1
        share = (1 - self.decay) / (1 - self.decay**self.updates)
        torch._foreach_lerp_(list(self.weights.values()), list(self.live.values()), share)

    @contextlib.contextmanager
    def in_place(self) -> Iterator[None]:
        """Puts the average into the module for the time of a `with`."""
        kept = {name: p.detach().clone() for name, p in self.live.items()}
        self._put(self.weights)
        try:
            yield
        finally:
            self._put(kept)

    def load(self, weights: dict[str, Tensor], updates: int) -> None:
        """Takes a saved average of so many updates."""
        self.updates = updates
        for name, tensor in weights.items():
            self.weights[name].copy_(tensor)

    @torch.no_grad()
    def _put(self, weights: dict[str, Tensor]) -> None:
        for name, parameter in self.live.items():
            parameter.copy_(weights[name])


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
