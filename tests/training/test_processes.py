"""Processes that drift apart, hang, are left alone or restarted; stops at awkward instants; data that is cut."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time

import pytest
from training_help import Launch, last, make, rows, same, same_runs, tables, wait_for_step, write_dataset

from taskmask.checkpoints import checkpoint
from taskmask.training.train import train

SHORT = {
    "train": {"steps": 6, "micro_batches_per_step": 2, "valid_every": 3},
    "run": {"log_every": 2, "save_every": 2, "keep_last": 9, "timeout_minutes": 0.1},
}
LONG = {**SHORT, "train": {"steps": 100_000, "micro_batches_per_step": 2, "valid_every": 0}}
LONG["run"] = {**SHORT["run"], "save_every": 100_000}


def ending(launch, rank=0):
    assert "Traceback" not in launch.text(rank), launch.text(rank)
    return launch.text(rank).strip().splitlines()[-1]


def end_of(run):
    return json.loads((run / "exit.json").read_text())


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "run"
    train(make(data, folder, **SHORT))
    assert end_of(folder) == {"exit_code": 0, "message": ""}
    return folder


# several processes


@pytest.mark.fault(50)
def test_a_process_that_skips_an_exchange_is_found_in_the_same_step(data, tmp_path):
    launch = Launch(tmp_path, tables(data, tmp_path / "run", **SHORT), 2, order="skip@step.gradients#3,rank=1")
    codes = launch.wait(40)
    assert 6 in codes and 0 not in codes, launch.text() + launch.text(1)
    assert [checkpoint.step_of(file) for file in checkpoint.all_of(tmp_path / "run")] == [2]


@pytest.mark.fault(51)
def test_weights_that_drift_apart_are_found_before_they_are_saved(data, tmp_path):
    config = tables(data, tmp_path / "run", **{**SHORT, "run": {**SHORT["run"], "log_every": 1}})
    launch = Launch(tmp_path, config, 2, order="bend@step.weights#5,rank=1")
    assert launch.wait() == [6, 6]
    for rank in (0, 1):
        assert "the weights of process 1 differ from those of process 0; at step 4 they did not" in ending(launch, rank)
    assert end_of(tmp_path / "run")["exit_code"] == 6
    assert [checkpoint.step_of(file) for file in checkpoint.all_of(tmp_path / "run")][-1] == 4
    assert Launch(tmp_path, config, 2).wait() == [0, 0]


@pytest.mark.fault(51)
def test_a_single_bit_is_enough(trainer):
    import torch

    from taskmask.training.distributed import World, check_replicas

    objective, seen = trainer().objective, []

    class Two(World):
        def gather(self, value):
            seen.append(value)
            return [seen[0], value]

    check_replicas(objective, Two(size=2), 0)
    check_replicas(objective, Two(size=2), 0)
    weight = next(objective.parameters())
    weight.data.view(torch.int32).view(-1)[7] ^= 1
    with pytest.raises(Exception, match="process 1 differ"):
        check_replicas(objective, Two(size=2), 0)


PLUG_IN = """
import torch
from taskmask import register_model
from taskmask.models import EncoderConfig
from taskmask.models.encoder import Encoder

@register_model("idle", config=EncoderConfig)
class Idle(Encoder):
    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.idle = torch.nn.Parameter(torch.zeros(3))
"""


@pytest.mark.fault(33)
def test_a_parameter_that_takes_no_part_is_named(data, tmp_path):
    (tmp_path / "plug_in.py").write_text(PLUG_IN)
    config = tables(data, tmp_path / "run", **SHORT)
    model = {"name": "idle", "layers": 1, "width": 32, "heads": 2}
    arguments = ["--user-dir", str(tmp_path / "plug_in.py")]
    arguments += [f"--model{'' if k == 'name' else '.' + k}={v}" for k, v in model.items()]
    del config["model"]
    launch = Launch(tmp_path, config, 2, arguments=arguments)
    assert launch.wait() == [2, 2], launch.text()
    assert "the loss does not depend on model.idle" in ending(launch)


@pytest.mark.fault(21)
@pytest.mark.parametrize("lines", [1, 3])
def test_fewer_rows_than_processes_or_than_a_batch(lines, data, tmp_path):
    small = write_dataset(tmp_path / "small", lines, 0, "--vocab", str(data))
    config = tables(small, tmp_path / "run", **{**SHORT, "data": {"blocks": "sentence"}})
    launch = Launch(tmp_path, config, 2)
    assert launch.wait() == [0, 0], launch.text()
    assert last(tmp_path / "run")["progress"]["position"]["epoch"] >= 6


@pytest.mark.fault(57)
@pytest.mark.parametrize("begun", [True, False])
def test_processes_that_do_not_share_the_run_folder_are_told_so(begun, data, tmp_path):
    if begun:
        Launch(tmp_path, tables(data, tmp_path / "a", **SHORT), 2, [("stop", 4, 0)]).wait()
    configs = [tables(data, tmp_path / name, **SHORT) for name in "ab"]
    launch = Launch(tmp_path, configs, 2)
    assert launch.wait(40) == [6, 6]
    for rank, name in enumerate("ab"):
        assert f"--run {tmp_path / name}: the processes do not find the same run there" in ending(launch, rank)
        assert f"of steps [{3 * begun}, -1]" in ending(launch, rank)


@pytest.mark.fault(57)
def test_a_port_that_is_taken_is_said(data, tmp_path, monkeypatch):
    import socket

    from taskmask.config.settings import RunSettings
    from taskmask.errors import DistributedError
    from taskmask.training import distributed

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        for name, value in {"RANK": 0, "WORLD_SIZE": 2, "LOCAL_RANK": 0, "MASTER_ADDR": "127.0.0.1"}.items():
            monkeypatch.setenv(name, str(value))
        monkeypatch.setenv("MASTER_PORT", str(taken.getsockname()[1]))
        with pytest.raises(DistributedError, match="no connection to the other processes") as error:
            distributed.join(RunSettings(timeout_minutes=0.05))
    assert error.value.exit_code == 6


# under torchrun


def torchrun(config, tmp_path, *options, **environment):
    """Starts two processes by the real launcher; returns it and the file of what it prints."""
    file = tmp_path / f"torchrun-{time.monotonic_ns()}.json"
    patient = {**config["run"], "timeout_minutes": 2}  # a loaded machine starts them seconds apart
    file.write_text(json.dumps({**config, "run": patient}))
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", *options, "-m", "--"]
    command += ["taskmask_cli.main", "train", "--config", str(file)]
    output = file.with_suffix(".txt")
    with open(output, "w") as stream:
        return subprocess.Popen(command, stdout=stream, stderr=stream, env={**os.environ, **environment}), output


@pytest.mark.fault(56)
@pytest.mark.slow
def test_torchrun_restarts_a_killed_run_to_the_same_bits(whole, data, tmp_path):
    config = tables(data, tmp_path / "run", **SHORT)
    fault = {"TASKMASK_FAULT": "kill@step.update#5,rank=1"}
    process, output = torchrun(config, tmp_path, "--standalone", "--max-restarts", "1", **fault)
    assert process.wait(90) == 0, output.read_text()
    assert "resuming" in output.read_text() and "at step 4" in output.read_text()
    same(
        {k: last(whole)[k] for k in ("model", "optimizer")},
        {k: last(tmp_path / "run")[k] for k in ("model", "optimizer")},
    )
    assert end_of(tmp_path / "run")["exit_code"] == 0


@pytest.mark.fault(48)
@pytest.mark.slow
def test_under_torchrun_a_lost_process_is_named_and_the_end_noted(data, tmp_path):
    """torchrun ends the others as soon as it sees that one is gone."""
    fault = {"TASKMASK_FAULT": "kill@step.update#5,rank=1"}
    process, output = torchrun(tables(data, tmp_path / "run", **SHORT), tmp_path, "--standalone", **fault)
    assert process.wait(90) == 1
    assert "taskmask: error: lost process 1: " in output.read_text()
    assert end_of(tmp_path / "run")["exit_code"] == 6


@pytest.mark.fault(55)
@pytest.mark.slow
def test_when_torchrun_is_killed_its_processes_save_and_leave(data, tmp_path):
    process, output = torchrun(tables(data, tmp_path / "run", **LONG), tmp_path, "--standalone")
    wait_for_step(tmp_path / "run", 4, 60)
    process.kill()
    process.wait()
    limit = time.monotonic() + 30
    while not (tmp_path / "run" / "exit.json").exists() and time.monotonic() < limit:
        time.sleep(0.1)
    assert end_of(tmp_path / "run")["exit_code"] == 75, output.read_text()
    assert "torchrun is gone" in output.read_text()
    assert len(checkpoint.all_of(tmp_path / "run")) == 1


# stops at awkward instants


@pytest.mark.fault(53)
@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.parametrize(
    "place", ["validation.batch#1", "save.write#1", "step.begin#1", "step.begin#6", "save.prune#1"]
)
def test_a_signal_at_an_awkward_instant(place, ranks, whole, data, tmp_path):
    few = {**SHORT, "run": {**SHORT["run"], "keep_last": 1, "keep_best": 0}}
    config = tables(data, tmp_path / "run", **few)
    launch = Launch(tmp_path, config, ranks, order=f"term@{place}")
    codes = launch.wait(40)
    in_the_last_step = place == "step.begin#6"
    assert codes in ([75] * ranks, [0] * ranks if in_the_last_step else None), launch.text()
    if codes[0] == 75:
        assert "SIGTERM" in ending(launch) and end_of(tmp_path / "run")["exit_code"] == 75
        assert len(checkpoint.all_of(tmp_path / "run")) == 1
    assert Launch(tmp_path, config, ranks).wait(40) == [0] * ranks
    if ranks == 1:
        same_runs(whole, tmp_path / "run")
    for part in ("model", "optimizer"):
        same(last(whole)[part], last(tmp_path / "run")[part])


@pytest.mark.fault(53)
def test_a_validation_is_left_at_once_and_done_after_the_resume(data, tmp_path):
    """A validation may outlast the patience of a scheduler."""
    config = tables(data, tmp_path / "run", **SHORT)
    launch = Launch(tmp_path, config, order="term@validation.batch#1")
    assert launch.wait() == [75] and "validation  loss" not in launch.text()
    (file,) = [file for file in checkpoint.all_of(tmp_path / "run") if checkpoint.step_of(file) == 3]
    assert checkpoint.score_of(file) is None
    assert Launch(tmp_path, config).wait() == [0]
    assert [row["step"] for row in rows(tmp_path / "run") if row["kind"] == "valid"] == [3, 6]


@pytest.mark.fault(54)
def test_the_time_is_over(data, tmp_path):
    config = tables(data, tmp_path / "run", **LONG)
    config["run"]["stop_after_minutes"] = 0.02
    steps = []
    for _ in range(2):
        launch = Launch(tmp_path, config)
        assert launch.wait(30) == [75], launch.text()
        assert "run.stop_after_minutes have passed" in ending(launch)
        steps.append(checkpoint.step_of(checkpoint.all_of(tmp_path / "run")[-1]))
    assert 0 < steps[0] < steps[1]
    assert end_of(tmp_path / "run")["exit_code"] == 75


@pytest.mark.fault(41)
def test_a_run_folder_that_is_removed_ends_the_run_with_7(data, tmp_path):
    launch = Launch(tmp_path, tables(data, tmp_path / "run", **{**LONG, "run": {**LONG["run"], "save_every": 300}}))
    wait_for_step(tmp_path / "run", 2)
    shutil.rmtree(tmp_path / "run")
    assert launch.wait(40) == [7], launch.text()
    assert "the run folder is gone" in ending(launch)


# data


def cut(folder):
    file = folder / "train" / "tokens.bin"
    os.truncate(file, 0)
    return file


@pytest.mark.fault(18)
def test_a_file_that_shrinks_while_workers_read_it_is_named(data, tmp_path):
    copy = shutil.copytree(data, tmp_path / "bin")
    config = tables(copy, tmp_path / "run", **LONG)
    config["run"]["workers"] = 1
    launch = Launch(tmp_path, config)
    wait_for_step(tmp_path / "run", 2)
    file = cut(copy)
    assert launch.wait(40) == [3], launch.text()
    assert str(file.relative_to(copy)) in ending(launch) and "bytes" in ending(launch)


@pytest.mark.fault(18)
def test_a_file_that_shrinks_under_the_run_itself_is_named_by_the_next(data, tmp_path):
    copy = shutil.copytree(data, tmp_path / "bin")
    config = tmp_path / "config.json"
    config.write_text(json.dumps(tables(copy, tmp_path / "run", **LONG)))
    command = [sys.executable, "-m", "taskmask_cli.main", "train", "--config", str(config)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    wait_for_step(tmp_path / "run", 2, 60)
    file = cut(copy)
    _, text = process.communicate(timeout=30)
    assert process.returncode == -signal.SIGBUS and "Bus error" in text and "padding.py" in text
    launch = Launch(tmp_path, json.loads(config.read_text()))
    assert launch.wait() == [3] and str(file.relative_to(copy)) in ending(launch)


@pytest.mark.fault(58)
def test_a_worker_that_hangs_is_given_up(data, tmp_path):
    config = tables(data, tmp_path / "run", **LONG)
    config["run"] |= {"workers": 1, "timeout_minutes": 0.05}
    launch = Launch(tmp_path, config, order="hang@data.read#9")
    assert launch.wait(40) == [3], launch.text()
    assert "run.workers: a process that prepares batches has died or hangs" in ending(launch)


PLUG_IN_TASK = """
from taskmask import register_task
from taskmask.tasks.masked_lm import MaskedLM, MaskedLMConfig

@register_task("broken", config=MaskedLMConfig)
class Broken(MaskedLM):
    def make_batch(self, rows, rng):
        raise RuntimeError("a mistake of mine")
"""


@pytest.mark.fault(58)
def test_a_mistake_in_a_worker_comes_out_as_it_is_and_ends_the_run(data, tmp_path):
    (tmp_path / "plug_in.py").write_text(PLUG_IN_TASK)
    config = tables(data, tmp_path / "run", **LONG)
    config["run"]["workers"] = 2
    launch = Launch(tmp_path, config, arguments=["--user-dir", str(tmp_path / "plug_in.py"), "--task", "broken"])
    assert launch.wait(40) == [1], launch.text()
    assert "RuntimeError: a mistake of mine" in launch.text() and "has died" not in launch.text()


# how the run ended


def test_exit_json_is_of_this_end(data, tmp_path):
    copy = shutil.copytree(data, tmp_path / "bin")
    config = tables(copy, tmp_path / "run", **SHORT)
    assert Launch(tmp_path, config, order="kill@step.update#5").wait() == [-9]
    assert not (tmp_path / "run" / "exit.json").exists()
    assert Launch(tmp_path, config, order="term@step.begin#1").wait() == [75]
    assert end_of(tmp_path / "run")["exit_code"] == 75
    cut(copy)
    assert Launch(tmp_path, config).wait() == [3] and end_of(tmp_path / "run")["exit_code"] == 3


def test_restarted_by_torchrun_a_run_does_not_begin_anew_again(data, tmp_path, monkeypatch):
    train(make(data, tmp_path / "run", **SHORT))
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    assert train(make(data, tmp_path / "run", **SHORT), restart=True).step == 6
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_a_plug_in_that_has_changed_is_told(data, tmp_path):
    file = tmp_path / "plug_in.py"
    config = tables(data, tmp_path / "run", **SHORT)
    arguments = ["--user-dir", str(file)]
    file.write_text("A = 1")
    assert Launch(tmp_path, config, faults=[("stop", 4, 0)], arguments=arguments).wait() == [75]
    for text, warned in (("A = 1", False), ("A = 2", True), ("A = 2", False)):
        file.write_text(text)
        launch = Launch(tmp_path, config, arguments=arguments)
        assert launch.wait() == [0]
        assert (f"warning: {file} has changed since the run began" in launch.text()) == warned


JOINS = """
from taskmask.config.settings import RunSettings
from taskmask.training import distributed
for number in range(8):
    world, _ = distributed.join(RunSettings(timeout_minutes=0.5, threads=1))
    assert world.collect(number) == [number, number]
    distributed.leave()
"""


def test_processes_of_any_launcher_join_again_and_again():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        place = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
    processes = [
        subprocess.Popen([sys.executable, "-c", JOINS], env={**os.environ, **place, "RANK": n, "LOCAL_RANK": n})
        for n in "01"
    ]
    assert [process.wait(120) for process in processes] == [0, 0]
