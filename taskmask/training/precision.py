"""Number formats: autocast, dynamic loss scaling, and the fast path of fp32 matrix products on CPUs."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from typing import Any

import torch

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def autocast(device: torch.device, precision: str) -> contextlib.AbstractContextManager:
    """Returns the context in which the forward pass runs: weights stay fp32, products run in `precision`."""
    if precision == "fp32":
        return contextlib.nullcontext()
    return torch.autocast(device.type, dtype=DTYPES[precision])


class LossScaleAtFloor(ArithmeticError):
    """Gradients overflow fp16 however small the loss is made."""


class LossScale:
    """The factor on the loss that keeps small fp16 gradients from vanishing; always 1 in the other formats.

    It halves when a gradient overflows and doubles after `window` steps without one. Halving below `floor` ends the
    run, where torch's own scaler would go on to 0 and train nothing.

    **Source:** Micikevicius et al. 2018, "Mixed precision training", section 3.2.
    """

    initial = 2.0**15
    window = 2000
    floor = 2.0**-4

    def __init__(self, precision: str):
        self.enabled = precision == "fp16"
        self.value = self.initial if self.enabled else 1.0
        self.good_steps = 0

    def update(self, finite: bool) -> None:
        """Takes note of a step whose gradients were finite, or were not.

        Raises:
            LossScaleAtFloor: the gradients overflow with the smallest scale, too.
        """
        if not self.enabled:
            return
        if finite:
            self.good_steps += 1
            if self.good_steps % self.window == 0:
                self.value *= 2
            return
        self.good_steps = 0
        self.value /= 2
        if self.value < self.floor:
            raise LossScaleAtFloor(f"gradients overflow fp16 even at a loss scale of {self.value * 2:g}; try bf16")

    def state_dict(self) -> dict[str, Any]:
        """Value and count."""
        return {"value": self.value, "good_steps": self.good_steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes what `state_dict` gave."""
        self.value, self.good_steps = state["value"], state["good_steps"]


def speed_up_fp32(device: torch.device) -> bool:
    """Lets fp32 products on a CPU run in oneDNN, where that is exact, and says whether they now do.

    torch hands fp32 products to MKL, which takes a slow path on some CPUs. Allowing oneDNN "bf16" moves them to oneDNN,
    whose kernels stay in fp32 on CPUs without bf16 matrix units, at twice the speed; on the others they would round,
    which a product against float64 shows, and then nothing is changed.
    """
    if device.type != "cpu" or not torch.backends.mkldnn.is_available():
        return False
    setting: Any = torch.backends.mkldnn
    before, setting.matmul.fp32_precision = setting.matmul.fp32_precision, "bf16"
    if max(_error(*shape) for shape in ((256, 256, 256), (37, 65, 129), (2, 1024, 512))) < 1e-5:
        return True
    setting.matmul.fp32_precision = before
    return False


@contextlib.contextmanager
def fast_fp32(device: torch.device) -> Iterator[None]:
    """Speeds up fp32 products as `speed_up_fp32` does, but only inside a `with`: the setting is global."""
    setting: Any = torch.backends.mkldnn
    if not _can_speed_up(device.type):
        yield
        return
    before, setting.matmul.fp32_precision = setting.matmul.fp32_precision, "bf16"
    try:
        yield
    finally:
        setting.matmul.fp32_precision = before


@functools.cache
def _can_speed_up(kind: str) -> bool:
    """What `speed_up_fp32` returns, measured once; it leaves the setting as it was."""
    setting: Any = torch.backends.mkldnn
    before = setting.matmul.fp32_precision
    try:
        return speed_up_fp32(torch.device(kind))
    finally:
        setting.matmul.fp32_precision = before


def _error(rows: int, inner: int, columns: int) -> float:
    """Returns the relative error of one fp32 product, as a linear layer computes it, against float64."""
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(rows, inner, generator=generator), torch.randn(columns, inner, generator=generator)
    exact = a.double() @ b.double().t()
    return float((torch.nn.functional.linear(a, b).double() - exact).norm() / exact.norm())
