"""train.precision auto, formats that are slow on this machine, and trained models that come from another one."""

import json
import os
import shutil
import subprocess
import sys

import pytest
import torch
from training_help import make, write_labelled

import taskmask
from taskmask.errors import ConfigError
from taskmask.inference.annotate import annotate
from taskmask.inference.multi_seed import train_seeds
from taskmask.training import auto_precision
from taskmask.training.auto_precision import Speed, begun_with, for_training, measure
from taskmask.training.dry_run import dry_run
from taskmask.training.train import train

FAST, SLOW = 0.001, 0.031
CPU = torch.device("cpu")


@pytest.fixture
def machine(monkeypatch):
    """machine(seconds) makes this a machine on which a layer takes so long in bf16 and fp16, and 2 ms in fp32."""

    def becomes(seconds):
        monkeypatch.setattr(auto_precision, "measure", lambda precision: Speed(precision, seconds, 0.002))

    return becomes


def saved(folder):
    return json.loads((folder / "settings.json").read_text())["train"]["precision"]


@pytest.mark.parametrize(("seconds", "expected"), [(FAST, "bf16"), (SLOW, "fp32")])
def test_auto_takes_the_faster_format_and_says_why(seconds, expected, machine, settings, tmp_path, capsys):
    machine(seconds)
    train(settings(train={"precision": "auto"}))
    assert saved(tmp_path / "run") == expected
    said = capsys.readouterr().err
    both = f"{1000 * seconds:.1f} ms in bf16, 2.0 ms in fp32"
    assert f"taskmask: precision {expected}: a layer takes {both} here" in said and f"cpu, {expected}" in said
    assert taskmask.load(str(tmp_path / "run")).settings.train.precision == expected


def test_a_run_keeps_what_it_began_with(machine, settings, tmp_path, capsys):
    machine(FAST)
    train(settings(train={"precision": "auto", "steps": 2}))
    machine(SLOW)
    capsys.readouterr()
    train(settings(train={"precision": "auto", "steps": 4}))
    assert saved(tmp_path / "run") == "bf16"
    said = capsys.readouterr().err
    assert "warning: precision bf16 is slow: a layer takes 31.0 ms in bf16, 2.0 ms in fp32 here; the run began" in said
    with pytest.raises(ConfigError, match="precision was 'bf16', is 'fp32'"):
        train(settings(train={"precision": "fp32", "steps": 4}))
    train(settings(train={"precision": "auto", "steps": 4}), restart=True)
    assert saved(tmp_path / "run") == "fp32"


def test_all_seeds_have_the_same(machine, settings, tmp_path):
    machine(FAST)
    chosen = settings(train={"precision": "auto", "steps": 2})
    train_seeds(chosen, [3])
    machine(SLOW)
    train_seeds(chosen, [1, 3, 2])
    assert [saved(tmp_path / "run" / f"seed-{seed}") for seed in (1, 2, 3)] == ["bf16"] * 3


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_a_format_that_is_slower_here_is_named(precision, machine, settings, capsys):
    machine(SLOW)
    train(settings(train={"precision": precision, "steps": 1}))
    text = f"a layer takes 31.0 ms in {precision}, 2.0 ms in fp32 here; --train.precision auto takes the faster one"
    assert f"taskmask: warning: precision {precision} is slow: {text}" in capsys.readouterr().err
    assert any(
        f"warning: precision {precision} is slow" in line
        for line in dry_run(settings("dry", train={"precision": precision}))
    )
    machine(FAST)
    train(settings("fast", train={"precision": precision, "steps": 1}))
    assert "warning" not in capsys.readouterr().err


def test_a_dry_run_chooses_as_the_run_will(machine, settings):
    machine(SLOW)
    lines = dry_run(settings(train={"precision": "auto"}))
    assert any("precision fp32: a layer takes 31.0 ms in bf16" in line for line in lines)
    assert any("a second a process, cpu, fp32" in line for line in lines)


@pytest.mark.fault(85)
def test_a_model_of_another_machine_is_evaluated_in_fp32(machine, settings, tmp_path, capsys):
    machine(FAST)
    train(settings(train={"precision": "bf16"}))
    train(settings("other", train={"precision": "fp32"}))
    run, other = str(tmp_path / "run"), str(tmp_path / "other")
    there = taskmask.evaluate(run)
    assert there["precision"] == "bf16"
    machine(SLOW)
    capsys.readouterr()
    here = taskmask.evaluate(run)
    assert here["precision"] == "fp32" and here["loss"] == pytest.approx(there["loss"], rel=0.01)
    said = capsys.readouterr().err
    assert "warning: computed in fp32, not in bf16 as in training: a layer takes 31.0 ms in bf16" in said
    assert taskmask.evaluate(run, train={"precision": "bf16"})["precision"] == "bf16"
    assert "warning: precision bf16 is slow" in capsys.readouterr().err
    assert taskmask.evaluate(run, train={"precision": "auto"})["precision"] == "fp32"
    capsys.readouterr()
    assert taskmask.evaluate(other)["precision"] == "fp32" and not capsys.readouterr().err


def test_it_annotates_in_fp32_too(machine, data, tmp_path):
    labelled = write_labelled(tmp_path, str(data))
    machine(FAST)
    run = train(make(labelled, tmp_path / "run", task={"name": "classification"}, train={"precision": "bf16"})).folder
    machine(SLOW)
    copy = shutil.copytree(labelled, tmp_path / "copy")
    done = annotate(run, str(copy), {"guess": "label"})
    assert any("warning: computed in fp32, not in bf16 as in training" in note for note in done.notes)


def test_hardness_is_computed_in_fp32_too(machine, settings, data, tmp_path, capsys):
    machine(FAST)
    train(settings(train={"precision": "bf16"}))
    machine(SLOW)
    capsys.readouterr()
    taskmask.inspect(str(data), ["uniform"], source=str(tmp_path / "run"), sample=20, draws=2)
    assert "warning: computed in fp32, not in bf16 as in training" in capsys.readouterr().err


def test_processes_agree(monkeypatch, settings):
    """The first one measures and tells the others."""

    class Other:
        is_first = False

        def collect(self, value):
            assert value is None
            return [("bf16", ["said"]), value]

    monkeypatch.setattr(auto_precision, "measure", None)
    chosen, notes = for_training(settings(train={"precision": "auto"}), "", Other(), CPU)
    assert chosen.train.precision == "bf16" and notes == ["said"]


def test_formats_that_runs_began_with(tmp_path):
    for name, text in {
        "a": "{",
        "b": "{}",
        "c": '{"train": {"precision": "auto"}}',
        "d": '{"train": {"precision": "bf16"}}',
    }.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "settings.json").write_text(text)
    assert begun_with(tmp_path / name for name in "xabc") == ""
    assert begun_with(tmp_path / name for name in "xabcd") == "bf16"


def test_the_measurement_leaves_everything_as_it_was():
    measure.cache_clear()
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    before = torch.get_num_threads()
    with torch.no_grad():
        found = measure("bf16")
        assert not torch.is_grad_enabled()
    assert torch.equal(torch.rand(2), expected) and torch.get_num_threads() == before
    assert 0 < found.fp32 < 1 and 0 < found.seconds < 10 and measure("bf16") is found


@pytest.mark.fault(85)
def test_on_an_old_processor(data, tmp_path):
    """oneDNN is told that this CPU has AVX2 alone, so it emulates bf16, many times slower."""
    old = {**os.environ, "ONEDNN_MAX_CPU_ISA": "AVX2"}
    small = [
        "--model",
        "tiny",
        "--model.layers",
        "1",
        "--model.width",
        "32",
        "--model.heads",
        "2",
        "--data.length",
        "32",
    ]
    small += ["--train.steps", "2", "--train.max_tokens", "256", "--run.tensorboard", "false", "--data", str(data)]

    def command(*words):
        line = [sys.executable, "-m", "taskmask_cli.main", *words]
        done = subprocess.run(line, env=old, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done

    said = command("train", *small, "--run", str(tmp_path / "auto"), "--train.precision", "auto").stderr
    assert saved(tmp_path / "auto") == "fp32" and "taskmask: precision fp32: a layer takes " in said
    said = command("train", *small, "--run", str(tmp_path / "bf16"), "--train.precision", "bf16").stderr
    assert "warning: precision bf16 is slow: a layer takes " in said
    done = command("evaluate", "--from", str(tmp_path / "bf16"), "--json")
    assert json.loads(done.stdout)["precision"] == "fp32" and "warning: computed in fp32" in done.stderr
