"""One update of the weights from the micro-batches of a step; or none, where it would do harm."""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import torch

from taskmask.checkpoints import checkpoint
from taskmask.config.settings import Settings
from taskmask.data.batch import Batch
from taskmask.data.rng import hash_integers
from taskmask.errors import ConfigError, DivergedError
from taskmask.system.console import say
from taskmask.system.failpoints import reach
from taskmask.system.hardware import is_out_of_memory
from taskmask.training import distributed
from taskmask.training.data_loader import Ticket
from taskmask.training.distributed import World
from taskmask.training.objective import Objective, weighted_total
from taskmask.training.optim import Average, adamw, freeze, gradient_norm, is_spike, learning_rate, scale_and_clip
from taskmask.training.precision import LossScale, autocast


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What came of a step.

    Args:
        updated: whether the weights have changed; the same in every process.
        lack_of_memory: whether memory ran out, in any process.
        norm: norm of the gradient over all processes, before clipping.
        sums: the sums of the losses over the micro-batches of this process.
    """

    updated: bool
    lack_of_memory: bool
    norm: float
    sums: dict[str, float]


class Updater:
    """Makes the update of a step. Holds the optimizer, the loss scale and the average of the weights.

    Args:
        settings: the settings of the run.
        objective: model and criterion, on the device.
        world: this process among those of the run.
        device: where the objective lives.
    """

    def __init__(self, settings: Settings, objective: Objective, world: World, device: torch.device):
        self.settings, self.objective, self.world, self.device = settings, objective, world, device
        freeze(objective, settings.optim.freeze)
        self.wrapped = distributed.wrap(objective, world)
        self.optimizer = adamw(objective, settings.optim)
        self.parameters = [p for p in objective.parameters() if p.requires_grad]
        self.average = Average(objective, settings.train.ema) if settings.train.ema else None
        self.scale = LossScale(settings.train.precision)
        self.parts_checked = world.size == 1

    @property
    def rate(self) -> float:
        """The learning rate of the last step: the highest of all groups, that of the heads."""
        return max(group["lr"] for group in self.optimizer.param_groups)

    def __call__(
        self, micro_batches: list[tuple[Ticket, Batch]], counts: dict[str, float], step: int, norms: Sequence[float]
    ) -> Outcome:
        """Does one update, or skips it where the gradient is not finite or a spike; the same in every process.

        Args:
            micro_batches: those of this process.
            counts: targets of each loss over all micro-batches and processes.
            step: number of the step, from 1.
            norms: norms of the gradient in the steps before.

        Raises:
            DivergedError: memory ran out in the middle of the update.
            LossScaleAtFloor: gradients overflow fp16 even with the smallest scale.
        """
        rate = learning_rate(self.settings.optim, step, self.settings.train.steps)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["scale"]
        self.optimizer.zero_grad(set_to_none=True)
        sums = self._gradients(micro_batches, counts, step)
        self._check_parts()
        # the norm of the first process counts: others may have added up in another order
        norm = gradient_norm(self.parameters, self.scale.value) if self.world.is_first else 0.0
        norm, lacking = self.world.sum([norm, float(self._warn_of_lack(step))])
        figures = {name: float(value) for name, value in sums.items()}  # before the update, so that a GPU goes on alone
        finite = math.isfinite(norm) and not lacking
        update = finite and not is_spike(norm, norms, self.settings.train.skip_spikes)
        if update:
            scale_and_clip(self.parameters, norm, self.scale.value, self.settings.optim.clip)
            self._update()
        if not lacking:
            self.scale.update(finite)
        return Outcome(update, bool(lacking), norm if not lacking else math.nan, figures)

    def load(self, state: dict[str, Any]) -> None:
        """Takes back what a checkpoint holds of optimizer, loss scale and average."""
        checkpoint.put_moments(self.optimizer, state["optimizer"])
        checkpoint.check_like(state["loss_scale"], self.scale.state_dict())
        self.scale.load_state_dict(state["loss_scale"])
        if self.average and state["average"]:
            self.average.load(state["average"], state["step"] - state["progress"]["skipped_steps"])

    def _gradients(
        self, micro_batches: list[tuple[Ticket, Batch]], counts: dict[str, float], step: int
    ) -> dict[str, torch.Tensor]:
        """Runs forward and backward; returns the sums of the losses."""
        train = self.settings.train
        sums: dict[str, torch.Tensor] = {}
        for index, (ticket, batch) in enumerate(micro_batches):
            # dropout follows from (seed, step, micro-batch), so a resume needs no state of any generator
            torch.manual_seed(int(hash_integers(train.seed, step, ticket.number)[0] >> 1))
            last = index == len(micro_batches) - 1
            with contextlib.nullcontext() if last or self.world.size == 1 else self.wrapped.no_sync():  # type: ignore[operator]
                with autocast(self.device, train.precision):
                    parts = self.wrapped(batch)
                loss = weighted_total(parts, counts, self.objective.criterion.weights)
                if reach("step.loss") == "nan":
                    loss = loss * math.nan
                # an infinite loss may have a finite gradient: NaN makes every process skip the step
                self._backward(loss * torch.where(loss.isfinite(), self.scale.value, math.nan))
            for name, value in parts.items():
                value = value.detach().double()
                sums[name] = sums[name] + value if name in sums else value
        return sums

    def _backward(self, loss: torch.Tensor) -> None:
        """Runs the backward pass. A process alone survives it that memory runs out.

        Among several processes it must be: half-way through, the others have part of this one's gradients.
        """
        try:
            reach("step.backward")
            loss.backward()
        except (MemoryError, RuntimeError) as error:
            if self.world.size > 1 or not is_out_of_memory(error):
                raise
            self.objective.lack_of_memory = str(error).split("\n")[0]

    def _warn_of_lack(self, step: int) -> bool:
        """Says so where memory has run out in this process; returns whether it has."""
        lack, self.objective.lack_of_memory = self.objective.lack_of_memory, ""
        if lack:
            if self.device.type == "cuda":
                torch.cuda.empty_cache()
            say(f"warning: step {step} is skipped, not enough memory in process {self.world.rank}: {lack}")
        return bool(lack)

    def _check_parts(self) -> None:
        """Raises a ConfigError where DDP would fail at the next step: at parameters that the loss does not reach."""
        if self.parts_checked:
            return
        self.parts_checked = True
        apart = [name for name, p in self.objective.named_parameters() if p.requires_grad and p.grad is None]
        if apart:
            raise ConfigError(
                f"the loss does not depend on {', '.join(apart[:5])}{' ...' if len(apart) > 5 else ''}",
                where=f"--model {self.settings.model.name}",
                expected="a part for every parameter, as training in several processes needs it",
                fix="set requires_grad to False on those that are not trained, or leave them out",
            )

    def _update(self) -> None:
        try:
            reach("step.update")
            self.optimizer.step()
            if self.average:
                self.average.update()
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            raise DivergedError(
                f"not enough memory in the middle of an update, so that some weights have changed and others have not: "
                f"{str(error).splitlines()[0]}",
                where="--model",
                fix="the same command goes on from the last checkpoint; on a machine with more memory, or take a "
                "smaller model",
            ) from error
        if reach("step.weights") == "bend":
            with torch.no_grad():
                self.parameters[0].view(-1)[0] += 1e-3
