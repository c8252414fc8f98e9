"""Where in a network a number stopped being finite: for the message that ends a diverged run."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from taskmask.data.batch import Batch
from taskmask.training.objective import Objective


def first_bad_place(objective: Objective, batch: Batch, autocast: contextlib.AbstractContextManager) -> str:
    """Runs a batch again and says where the first number that is not finite comes up.

    Looks at the weights, then at the outputs of the modules in the order of their computation, then at the gradients.

    Args:
        objective: model and criterion, in training mode; its gradients are lost.
        batch: on the device of the objective.
        autocast: the context of the forward pass.

    Returns:
        "in weight model.x", "in the output of model.x", "in the gradient of model.x", or "" where all is finite.
    """
    bad = [name for name, p in objective.named_parameters() if not _is_finite(p)]
    if bad:
        return f"in weight {bad[0]}"
    objective.zero_grad(set_to_none=True)
    with _outputs_watched(objective) as found, autocast:
        sums = objective(batch)
    if found:
        return f"in the output of {found[0]}"
    torch.stack([sums[name].double() for name in objective.criterion.weights]).sum().backward()
    # a gradient is computed from the last module to the first
    gone = [name for name, p in objective.named_parameters() if p.grad is not None and not _is_finite(p.grad)]
    return f"in the gradient of {gone[-1]}" if gone else ""


@contextlib.contextmanager
def _outputs_watched(objective: nn.Module) -> Iterator[list[str]]:
    """Gives a list that the names of modules with bad outputs come into, innermost and earliest first."""
    found: list[str] = []

    def watch(name: str) -> Any:
        def look(module: nn.Module, arguments: Any, output: Any) -> None:
            parts = output.values() if isinstance(output, dict) else [output]
            if not all(_is_finite(part) for part in parts if isinstance(part, Tensor)):
                found.append(name)

        return look

    handles = [module.register_forward_hook(watch(name)) for name, module in objective.named_modules() if name]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def _is_finite(tensor: Tensor) -> bool:
    return not tensor.is_floating_point() or bool(tensor.detach().isfinite().all())
