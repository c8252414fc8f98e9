"""Signals to a real process: one checkpoint, exit code 75, and the same command goes on to the same bits."""

import os
import signal
import time

import pytest
from training_help import Launch, last, make, same, tables, wait_for_step

from taskmask.checkpoints import checkpoint
from taskmask.training.train import train

LONG = {"train": {"steps": 100_000, "valid_every": 0}}
SHORT = {"train": {"steps": 8}, "run": {"keep_last": 9}}


@pytest.fixture
def not_ignored():
    """Lets the processes of a test hear SIGHUP, which they ignore if these tests run under nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.fault(52)
@pytest.mark.parametrize("kind", ["SIGTERM", "SIGINT", "SIGUSR1", "SIGHUP"])
def test_a_signal_saves_once_and_the_same_command_goes_on(kind, data, tmp_path, not_ignored):
    train(make(data, tmp_path / "whole", **SHORT))
    config = tables(data, tmp_path / "run", **SHORT)
    launch = Launch(tmp_path, config, faults=[(kind, 6, 0)])
    assert launch.wait() == [75], launch.text()
    text = launch.text()
    assert f"{kind}: saving at the next step" in text and "Traceback" not in text
    assert text.strip().splitlines()[-1].startswith("taskmask: stopped: ")
    assert [checkpoint.step_of(file) for file in checkpoint.all_of(tmp_path / "run")][-1] == 5
    resumed = Launch(tmp_path, config)
    assert resumed.wait() == [0] and "at step 5" in resumed.text()
    same(last(tmp_path / "whole"), last(tmp_path / "run"))


def test_a_signal_at_any_time(data, tmp_path):
    """Sent from outside, wherever the process happens to be."""
    config = tables(data, tmp_path / "run", **LONG)
    for after in (2, 40):
        launch = Launch(tmp_path, config)
        wait_for_step(tmp_path / "run", after)
        os.kill(launch.processes[0].pid, signal.SIGTERM)
        assert launch.wait(20) == [75], launch.text()
    assert len(checkpoint.all_of(tmp_path / "run")) == 2


def test_a_signal_to_the_processes_that_prepare_batches_too(data, tmp_path):
    """As torchrun and job schedulers send it: to the whole group."""
    config = tables(data, tmp_path / "run", **SHORT)
    config["run"]["workers"] = 2
    faults = [("SIGTERM to the workers", 4, 0), ("SIGINT to the workers", 5, 0), ("SIGTERM", 6, 0)]
    launch = Launch(tmp_path, config, faults=faults)
    assert launch.wait(30) == [75], launch.text()
    assert launch.text().count("saving at the next step") == 1


def test_a_killed_worker_is_named_in_one_line(data, tmp_path):
    config = tables(data, tmp_path / "run", **LONG)
    config["run"]["workers"] = 1
    launch = Launch(tmp_path, config, faults=[("SIGKILL to the workers", 4, 0)])
    assert launch.wait(40) == [3], launch.text()
    assert "taskmask: error: run.workers: a process that prepares batches has died" in launch.text()


@pytest.mark.fault(52)
def test_a_second_signal_ends_at_once(data, tmp_path):
    config = tables(data, tmp_path / "run", **LONG)
    launch = Launch(tmp_path, config, faults=[("SIGINT", 5, 0), ("SIGINT", 5, 0)])
    assert launch.wait(20) == [130], launch.text()
    assert "interrupted" in launch.text().splitlines()[-1]


def test_a_signal_in_the_last_step_is_a_finished_run(data, tmp_path):
    config = tables(data, tmp_path / "run", **SHORT)
    launch = Launch(tmp_path, config)
    assert launch.wait() == [0]
    began = time.monotonic()
    assert Launch(tmp_path, config).wait() == [0] and time.monotonic() - began < 20


@pytest.mark.fault(42)
def test_a_second_run_in_the_folder_is_refused(data, tmp_path):
    config = tables(data, tmp_path / "run", **LONG)
    first = Launch(tmp_path / "first", config)
    wait_for_step(tmp_path / "run", 2)
    for arguments in ((), ("--run.restart",)):
        second = Launch(tmp_path / "second", config, arguments=arguments)
        assert second.wait() == [2]
        holder = f"({os.uname().nodename}, process {first.processes[0].pid}"
        assert f"another process is at work in it {holder}" in second.text()
    os.kill(first.processes[0].pid, signal.SIGTERM)
    assert first.wait(20) == [75]


def test_killed_at_once_goes_on_from_the_last_checkpoint(data, tmp_path):
    train(make(data, tmp_path / "whole", **SHORT))
    config = tables(data, tmp_path / "run", **SHORT)
    config["run"]["save_every"] = 3
    assert Launch(tmp_path, config, faults=[("SIGKILL", 6, 0)]).wait() == [-9]
    assert Launch(tmp_path, config).wait() == [0]
    same(last(tmp_path / "whole"), last(tmp_path / "run"))
