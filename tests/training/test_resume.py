"""A run that was stopped and gone on with is the run that never stopped: the same bits, the same log."""

import os
import shutil

import pytest
from training_help import DENOISING, FEW_EVERY_DAY, TOUCHED, Crash, last, rows, same, same_runs, train_until

from taskmask.checkpoints import checkpoint
from taskmask.errors import CheckpointError, ConfigError, Interrupted
from taskmask.training.train import train

RICH = {
    "train": {"steps": 6, "micro_batches_per_step": 2, "valid_every": 2, "patience": 9, "ema": 0.9},
    "run": {"log_every": 2, "save_every": 3, "keep_last": 9},
}
# components that need more than a plain dataset give their options here
OPTIONS = {}


def check_every_stop(settings, tmp_path, monkeypatch, kind, **changes):
    """Runs once without a stop, and once with a stop at each step."""
    tables = {**changes, **{name: {**RICH[name], **changes.get(name, {})} for name in RICH}}
    whole = settings("whole", **tables)
    steps = train(whole).step
    for step in range(1, steps + 1):
        stopped = settings(f"stopped-{step}", **tables)
        error = train_until(stopped, kind, step, monkeypatch)
        assert isinstance(error, Interrupted if kind == "stop" else Crash), error
        train(stopped)
        same_runs(tmp_path / "whole", tmp_path / f"stopped-{step}")


@pytest.mark.parametrize("masker", FEW_EVERY_DAY)
def test_stopped_at_every_step_by_a_signal_for_every_masker(masker, settings, tmp_path, monkeypatch):
    check_every_stop(settings, tmp_path, monkeypatch, "stop", masker={"name": masker, **OPTIONS.get(masker, {})})


@pytest.mark.fault(43)
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_crashed_at_every_step_in_every_precision(precision, settings, tmp_path, monkeypatch):
    check_every_stop(settings, tmp_path, monkeypatch, "crash", train={"precision": precision, "steps": 5})


def test_denoising_by_an_encoder_decoder_stopped_at_every_step(settings, tmp_path, monkeypatch):
    check_every_stop(settings, tmp_path, monkeypatch, "crash", **DENOISING, train={"steps": 3})


def test_early_stopping_stops_alike_and_stays_stopped(settings, tmp_path, monkeypatch):
    changes = {"train": {"patience": 2, "steps": 40, "valid_every": 2}, "optim": {"lr": 1e-30}}
    check_every_stop(settings, tmp_path, monkeypatch, "stop", **changes)
    assert last(tmp_path / "whole")["step"] == 6  # a first validation, and two that are no better
    before = {file: file.stat().st_mtime_ns for file in (tmp_path / "whole").rglob("*") if file.name not in TOUCHED}
    whole = settings("whole", **{**changes, "train": {**RICH["train"], **changes["train"]}, "run": RICH["run"]})
    assert train(whole).step == 6
    after = {file: file.stat().st_mtime_ns for file in (tmp_path / "whole").rglob("*") if file.name not in TOUCHED}
    assert before == after


def test_interrupted_over_and_over(settings, tmp_path, monkeypatch):
    train(settings("whole", **RICH))
    chosen = settings("stopped", **RICH)
    for step in (1, 1, 3, 4, 4, 6):
        assert isinstance(train_until(chosen, "stop", step, monkeypatch), Interrupted)
    train(chosen)
    same_runs(tmp_path / "whole", tmp_path / "stopped")


def test_loss_scale_is_resumed_in_the_middle_of_overflows(settings, tmp_path, monkeypatch):
    changes = {"train": {"precision": "fp16", "steps": 6}}
    monkeypatch.setattr("taskmask.training.precision.LossScale.window", 2)
    monkeypatch.setattr("taskmask.training.precision.LossScale.initial", 2.0**40)
    check_every_stop(settings, tmp_path, monkeypatch, "stop", **changes)
    assert last(tmp_path / "whole")["loss_scale"]["value"] > 2.0**15


@pytest.mark.fault(43)
def test_resume_without_a_checkpoint_starts_over(settings, tmp_path, monkeypatch):
    train(settings("whole"))
    chosen = settings("crashed")
    assert isinstance(train_until(chosen, "crash", 4, monkeypatch), Crash)
    assert checkpoint.all_of(tmp_path / "crashed") != []  # validation was better: saved at 2
    for file in checkpoint.all_of(tmp_path / "crashed"):
        file.unlink()
    train(chosen)
    same_runs(tmp_path / "whole", tmp_path / "crashed")


@pytest.mark.parametrize(
    "changes",
    [
        {"workers": 2},
        {"log_every": 4},
        {"save_every": 1, "keep_last": 1, "keep_best": 0},
        {"keep_best": 3},
        {"tensorboard": True},
        {"timeout_minutes": 1},
    ],
    ids=str,
)
def test_settings_of_run_leave_the_weights_as_they_are(changes, settings, tmp_path):
    train(settings("plain"))
    train(settings("other", run=changes))
    plain, other = last(tmp_path / "plain"), last(tmp_path / "other")
    same(plain, other)


def test_threads_change_the_weights_by_rounding_at_most(settings, tmp_path):
    for threads in (3, 1):
        train(settings(f"threads-{threads}", run={"threads": threads}))
    one, three = ([row["loss"] for row in rows(tmp_path / f"threads-{threads}")] for threads in (1, 3))
    assert three == pytest.approx(one, rel=1e-4)


def test_settings_of_run_may_change_on_resume(settings, tmp_path, monkeypatch):
    train(settings("whole"))
    assert isinstance(train_until(settings("stopped"), "stop", 4, monkeypatch), Interrupted)
    train(settings("stopped", run={"workers": 1, "save_every": 2, "keep_last": 1}))
    same(last(tmp_path / "whole"), last(tmp_path / "stopped"))


def test_changed_settings_are_listed(settings, monkeypatch):
    train_until(settings(), "stop", 3, monkeypatch)
    changed = settings(optim={"lr": 0.1}, masker={"name": "span"}, train={"seed": 7})
    with pytest.raises(ConfigError) as error:
        train(changed)
    text = str(error.value)
    for part in ("optim.lr was 0.0005, is 0.1", "masker.name was 'uniform', is 'span'", "train.seed was 1, is 7"):
        assert part in text
    assert "--run.restart" in text


def test_more_steps_and_more_patience_go_on(settings, tmp_path):
    train(settings(train={"steps": 4}))
    summary = train(settings(train={"steps": 6, "patience": 5}))
    assert summary.step == 6
    assert [row["step"] for row in rows(tmp_path / "run") if row["kind"] == "train"] == [1, 2, 3, 4, 5, 6]


def test_a_later_interval_of_validation_gives_no_stale_score(settings, tmp_path, monkeypatch):
    train_until(settings(train={"valid_every": 2}), "stop", 4, monkeypatch)  # at step 3, validated at 2
    train_until(settings(train={"valid_every": 3}), "stop", 4, monkeypatch)
    assert (tmp_path / "run" / "checkpoints" / "step-3.pt").exists()
    assert len(checkpoint.all_of(tmp_path / "run")) == 2


def test_changed_data_is_refused(settings, other_data, monkeypatch):
    train_until(settings(), "stop", 3, monkeypatch)
    with pytest.raises(CheckpointError, match="was trained on data"):
        train(settings(data={"path": str(other_data)}))


def test_data_that_was_moved_goes_on(settings, data, tmp_path, monkeypatch):
    train_until(settings(), "stop", 3, monkeypatch)
    shutil.copytree(data, tmp_path / "moved")
    assert train(settings(data={"path": str(tmp_path / "moved")})).step == 6


def test_restart_keeps_the_old_run(settings, tmp_path, capfd):
    train(settings(train={"steps": 2}))
    log = (tmp_path / "run" / "log.jsonl").read_bytes()
    train(settings(train={"steps": 3}), restart=True)
    train(settings(train={"steps": 3}), restart=True)
    assert (tmp_path / "run.old-1" / "log.jsonl").read_bytes() == log
    assert (tmp_path / "run.old-2").exists() and last(tmp_path / "run")["step"] == 3
    assert "run.old-1" in capfd.readouterr().err


def test_a_folder_of_something_else_is_refused_and_never_moved(settings, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.tex").write_text("years of work")
    for restart in (False, True):
        with pytest.raises(ConfigError, match=r"thesis\.tex"):
            train(settings(), restart=restart)
    assert (tmp_path / "run" / "thesis.tex").read_text() == "years of work"
    assert not (tmp_path / "run.old-1").exists()


@pytest.mark.parametrize("content", ["", "[]", "{", '{"train": 5}'])
def test_damaged_settings_of_a_run_are_named(content, settings, tmp_path):
    train(settings(train={"steps": 1}))
    (tmp_path / "run" / "settings.json").write_text(content)
    with pytest.raises(ConfigError, match=r"settings\.json"):
        train(settings(train={"steps": 1}))


def test_killed_before_the_settings_were_written(settings, tmp_path, monkeypatch):
    """The first thing a run writes into its folder; a kill in between must not make the folder a strange one."""
    for call in range(2):
        with monkeypatch.context() as patch:
            calls = iter(range(9))

            def die(*names, calls=calls, call=call, replace=os.replace):
                if next(calls) == call:
                    raise Crash
                replace(*names)

            patch.setattr("os.replace", die)
            with pytest.raises(Crash):
                train(settings(train={"steps": 1}))
    assert train(settings(train={"steps": 1})).step == 1


def test_a_checkpoint_from_before_targets_were_counted(settings, tmp_path):
    train(settings(train={"steps": 3}))
    state = checkpoint.load(checkpoint.all_of(tmp_path / "run")[-1])
    assert state["progress"].pop("targets") > 0
    checkpoint.save(checkpoint.all_of(tmp_path / "run")[-1], state)
    assert train(settings(train={"steps": 5})).step == 5
    assert [row["targets"] for row in rows(tmp_path / "run") if row["kind"] == "train"][-1] > 0
