"""Number formats: the loss scale as a machine, and bf16 and fp16 beside fp32."""

import math

import pytest
import torch
from training_help import last, rows

from taskmask.errors import DivergedError
from taskmask.training.precision import LossScale, LossScaleAtFloor, speed_up_fp32
from taskmask.training.train import train


def test_scale_halves_on_overflow_and_doubles_after_a_window(monkeypatch):
    monkeypatch.setattr(LossScale, "window", 3)
    scale = LossScale("fp16")
    assert scale.value == 2.0**15
    scale.update(False)
    assert scale.value == 2.0**14
    for _ in range(3):
        scale.update(True)
    assert scale.value == 2.0**15
    scale.update(True)
    scale.update(True)
    scale.update(False)
    scale.update(True)
    assert scale.value == 2.0**14, "the window starts again after an overflow"


def test_the_floor_is_an_error_that_says_what_to_try():
    scale = LossScale("fp16")
    with pytest.raises(LossScaleAtFloor, match=r"overflow fp16 even at a loss scale of 0\.0625; try bf16"):
        for _ in range(100):
            scale.update(False)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_other_formats_have_no_scale(precision):
    scale = LossScale(precision)
    for _ in range(50):
        scale.update(False)
    assert scale.value == 1


def test_state_survives():
    scale, other = LossScale("fp16"), LossScale("fp16")
    scale.update(False)
    scale.update(True)
    other.load_state_dict(scale.state_dict())
    assert (other.value, other.good_steps) == (scale.value, scale.good_steps) == (2.0**14, 1)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_short_formats_follow_fp32(precision, settings, tmp_path):
    long = {"steps": 40, "valid_every": 20}
    train(settings("fp32", train=long, optim={"lr": 3e-3}))
    train(settings(precision, train={**long, "precision": precision}, optim={"lr": 3e-3}))
    losses = [[row["loss"] for row in rows(tmp_path / name)] for name in ("fp32", precision)]
    assert losses[0] == pytest.approx(losses[1], rel=0.02)
    assert losses[0][-1] < losses[0][0] - 0.3
    weights = last(tmp_path / precision)["model"]
    assert all(tensor.dtype == torch.float32 for tensor in weights.values())


def test_overflow_in_training_halves_the_scale_and_skips(settings, tmp_path, monkeypatch):
    monkeypatch.setattr(LossScale, "initial", 2.0**60)
    monkeypatch.setattr(LossScale, "floor", 2.0**56)
    with pytest.raises(DivergedError, match="overflow fp16"):
        train(settings(train={"precision": "fp16", "steps": 20}))
    logged = [row for row in rows(tmp_path / "run") if row["kind"] == "train"]
    assert [row["skipped_steps"] for row in logged] == [1, 2, 3, 4]
    assert [math.log2(row["loss_scale"]) for row in logged] == [59, 58, 57, 56]


def test_fast_fp32_stays_fp32():
    speed_up_fp32(torch.device("cpu"))
    torch.manual_seed(1)
    for rows_, inner, columns in ((7, 33, 5), (64, 128, 512), (300, 1024, 31)):
        a, b = torch.randn(rows_, inner), torch.randn(inner, columns)
        exact = a.double() @ b.double()
        assert ((a @ b).double() - exact).norm() / exact.norm() < 1e-5
    assert not speed_up_fp32(torch.device("meta"))
