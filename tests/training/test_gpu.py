"""The same runs on a GPU: its losses are the CPU's, a resume is to the bit, and its checkpoints are for everyone."""

import pytest
import torch
from training_help import DENOISING, last, rows, same, same_runs, train_until

from taskmask.errors import Interrupted
from taskmask.inference.evaluate import evaluate
from taskmask.training.train import train

DEVICE = "cuda"
pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")]
# the two devices have different random numbers, so only a model without dropout is the same on both
PLAIN = {"model": {"dropout": 0.0, "attention_dropout": 0.0}, "train": {"steps": 12, "valid_every": 6}}


def losses(folder):
    return [row["loss"] for row in rows(folder)]


@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-4), ("bf16", 0.02), ("fp16", 0.01)])
def test_follows_the_loss_of_the_cpu(precision, tolerance, settings, tmp_path):
    tables = {**PLAIN, "optim": {"lr": 3e-3}}
    train(settings("cpu", **tables, run={"device": "cpu"}))
    on_gpu = {
        **tables,
        "train": {**PLAIN["train"], "precision": precision},
        "run": {"device": DEVICE, "tensorboard": True},
    }
    summary = train(settings("gpu", **on_gpu))
    assert losses(tmp_path / "gpu") == pytest.approx(losses(tmp_path / "cpu"), rel=tolerance)
    assert losses(tmp_path / "gpu")[-1] < losses(tmp_path / "gpu")[0] and summary.skipped_steps == 0
    assert all(tensor.dtype == torch.float32 for tensor in last(tmp_path / "gpu")["model"].values())


def test_an_encoder_decoder_follows_the_loss_of_the_cpu(settings, tmp_path):
    model = {**DENOISING["model"], **PLAIN["model"]}
    for device in ("cpu", DEVICE):
        train(settings(device, **{**PLAIN, **DENOISING, "model": model}, run={"device": device}))
    assert losses(tmp_path / DEVICE) == pytest.approx(losses(tmp_path / "cpu"), rel=1e-4)


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_resume_is_to_the_bit(precision, settings, tmp_path, monkeypatch):
    """With dropout, whose random numbers are the GPU's own, and an average of the weights."""
    tables = {
        "model": {"dropout": 0.1, "attention_dropout": 0.1},
        "train": {"precision": precision, "micro_batches_per_step": 2, "ema": 0.9},
        "run": {"device": DEVICE, "log_every": 2, "save_every": 3, "keep_last": 9},
    }
    train(settings("whole", **tables))
    for step in (1, 4, 5):
        chosen = settings(f"stopped-{step}", **tables)
        assert isinstance(train_until(chosen, "stop", step, monkeypatch), Interrupted)
        train(chosen)
        same_runs(tmp_path / "whole", tmp_path / f"stopped-{step}")


def test_a_checkpoint_of_the_gpu_is_evaluated_and_resumed_on_the_cpu(settings, tmp_path, monkeypatch):
    train(settings("gpu", **PLAIN, run={"device": DEVICE}))
    logged = [row for row in rows(tmp_path / "gpu") if row["kind"] == "valid"]
    best = min(logged, key=lambda row: row["loss"])
    for device in ("cpu", DEVICE):
        result = evaluate(str(tmp_path / "gpu"), run={"device": device})
        assert result["loss"] == pytest.approx(best["loss"], rel=1e-4) and result["targets"] > 0
    train(settings("cpu", **PLAIN, run={"device": "cpu"}))
    assert isinstance(
        train_until(settings("moved", **PLAIN, run={"device": DEVICE}), "stop", 4, monkeypatch), Interrupted
    )
    train(settings("moved", **PLAIN, run={"device": "cpu"}))
    assert losses(tmp_path / "moved") == pytest.approx(losses(tmp_path / "cpu"), rel=1e-4)


def test_workers_prepare_batches_for_the_gpu(settings, tmp_path):
    short = {"steps": 2, "valid_every": 2}
    for workers in (0, 2):
        train(settings(f"workers-{workers}", train=short, run={"device": DEVICE, "workers": workers}))
    same(last(tmp_path / "workers-0"), last(tmp_path / "workers-2"))


def test_settings_say_auto_and_the_gpu_is_taken(settings, capfd):
    train(settings(train={"steps": 1}))
    assert f"; {DEVICE}, fp32" in capfd.readouterr().err
