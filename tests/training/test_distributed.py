"""Several processes of one run: the same bits as one, and no hang when one of them fails."""

import json
import math
import signal
import subprocess
import sys
import time

import pytest
from training_help import DENOISING, WORDS, Launch, last, make, rows, same, same_runs, tables, wait_for_step

from taskmask.checkpoints import checkpoint
from taskmask.config.settings import RunSettings
from taskmask.errors import ConfigError
from taskmask.training import distributed
from taskmask.training.distributed import World
from taskmask.training.train import train
from taskmask_cli.preprocess import main as preprocess

RICH = {
    "train": {"steps": 6, "micro_batches_per_step": 2, "valid_every": 3, "ema": 0.9},
    "run": {"log_every": 4, "save_every": 1, "keep_last": 9},
}


@pytest.fixture(scope="module")
def alone(data, tmp_path_factory):
    """A run in one process."""
    folder = tmp_path_factory.mktemp("alone") / "run"
    train(make(data, folder, **RICH))
    return folder


def nearly(a, b):
    """Asserts that two logs say the same: sums over other groups of rows differ in the last digits."""
    assert [list(row) for row in a] == [list(row) for row in b]
    for x, y in zip(a, b, strict=True):
        numbers = {k: v for k, v in x.items() if isinstance(v, float)}
        assert numbers == pytest.approx({k: y[k] for k in numbers}, rel=1e-6)
        assert {k: v for k, v in x.items() if k not in numbers} == {k: v for k, v in y.items() if k not in numbers}


def weights(folder):
    state = last(folder)
    return {name: state[name] for name in ("step", "model", "average", "optimizer", "loss_scale")}


def test_two_processes_are_one_with_two_micro_batches(alone, data, tmp_path):
    launch = Launch(tmp_path, tables(data, tmp_path / "run", **RICH), ranks=2)
    assert launch.wait() == [0, 0], launch.text()
    same(weights(alone), weights(tmp_path / "run"))
    nearly(rows(alone), rows(tmp_path / "run"))
    assert "step 4/6" not in launch.text(1) and "trained" not in launch.text(1), "one process speaks"


def test_two_processes_denoise_as_one(data, tmp_path):
    given = {**RICH, **DENOISING, "train": {**RICH["train"], "steps": 3}}
    train(make(data, tmp_path / "one", **given))
    launch = Launch(tmp_path, tables(data, tmp_path / "two", **given), ranks=2)
    assert launch.wait() == [0, 0], launch.text()
    same(weights(tmp_path / "one"), weights(tmp_path / "two"))
    nearly(rows(tmp_path / "one"), rows(tmp_path / "two"))


def test_two_processes_write_answers_as_one(data, tmp_path):
    """Answers are generated in every validation, and the best checkpoint is that of the most right ones."""
    asked = [json.dumps({"question": f"the {word}", "answers": [word, "none"]}) for word in WORDS]
    (tmp_path / "asked.jsonl").write_text("\n".join(asked) + "\n")
    files = ["--train", str(tmp_path / "asked.jsonl"), "--valid", str(tmp_path / "asked.jsonl"), "--workers", "0"]
    words = ["--text", "question", "--list", "answers", "--vocab", str(data), "--out", str(tmp_path / "data")]
    assert preprocess([*files, *words]) == 0
    given = {
        "task": {"name": "seq2seq", "validate": True, "max_length": 6},
        "model": DENOISING["model"],
        "train": {**RICH["train"], "metric": "exact_match"},
        "run": RICH["run"],
    }
    train(make(tmp_path / "data", tmp_path / "one", **given))
    launch = Launch(tmp_path, tables(tmp_path / "data", tmp_path / "two", **given), ranks=2)
    assert launch.wait() == [0, 0], launch.text()
    same(weights(tmp_path / "one"), weights(tmp_path / "two"))
    nearly(rows(tmp_path / "one"), rows(tmp_path / "two"))
    assert sum("exact_match" in row for row in rows(tmp_path / "two")) == 2


@pytest.mark.fault(44)
@pytest.mark.parametrize("first, second", [(1, 2), (2, 1)])
def test_a_run_goes_on_with_another_number_of_processes(first, second, alone, data, tmp_path):
    config = tables(data, tmp_path / "run", **RICH)
    faults = [("stop", 4, first - 1)]
    assert Launch(tmp_path, config, first, faults).wait() == [75] * first
    launch = Launch(tmp_path, config, second)
    assert launch.wait() == [0] * second, launch.text()
    same(weights(alone), weights(tmp_path / "run"))
    nearly(rows(alone), rows(tmp_path / "run"))


def test_bad_steps_around_saves_and_signals_are_agreed_upon(alone, data, tmp_path):
    """A signal right after a resume or a save, a bad step right after a save: what waits to be logged differs then."""
    config = tables(data, tmp_path / "run", **RICH)
    nan = ("nan", 4, 1)
    for faults in ([("SIGUSR1", 2, 1)], [("stop", 2, 0)], [nan, ("SIGTERM", 5, 0)]):
        launch = Launch(tmp_path, config, 2, faults)
        assert launch.wait() == [75, 75], launch.text() + launch.text(1)
    launch = Launch(tmp_path, config, 2)
    assert launch.wait() == [0, 0], launch.text()
    files = checkpoint.all_of(tmp_path / "run")
    assert [checkpoint.step_of(file) for file in files] == [1, 2, 3, 4, 5, 6]
    states = {checkpoint.step_of(file): checkpoint.load(file) for file in files}
    same(states[3]["model"], states[4]["model"])
    assert states[4]["progress"]["skipped_steps"] == 1
    whole = {checkpoint.step_of(file): checkpoint.load(file) for file in checkpoint.all_of(alone)}
    same(whole[3]["model"], states[3]["model"])
    logged = [row for row in rows(tmp_path / "run") if row["kind"] == "train"]
    assert [row["step"] for row in logged] == [4, 6] and all(math.isfinite(row["loss"]) for row in logged)


@pytest.mark.fault(48)
@pytest.mark.parametrize(
    "fault, code, message",
    [("raise", 1, "injected"), ("SIGKILL", -9, ""), ("leave", 0, "")],
)
def test_a_lost_process_ends_the_others_within_seconds(fault, code, message, data, tmp_path):
    config = tables(data, tmp_path / "run", **RICH)
    began = time.monotonic()
    launch = Launch(tmp_path, config, 2, [(fault, 3, 1)])
    codes = launch.wait(40)
    assert codes[1] == code and message in launch.text(1)
    assert codes[0] == 6 and time.monotonic() - began < 30
    ending = launch.text(0).strip().splitlines()[-1]
    assert ending.startswith("taskmask: error: lost process 1: ") and "the same command resumes" in ending
    assert "Traceback" not in launch.text(0)


@pytest.mark.fault(49)
def test_a_silent_process_is_given_up(data, tmp_path):
    config = tables(data, tmp_path / "run", **RICH)
    config["run"]["timeout_minutes"] = 0.05
    launch = Launch(tmp_path, config, 2, [("SIGSTOP", 3, 1)])
    assert launch.wait(20, ranks=[0]) == [6, None], launch.text()
    assert "lost process 1: " in launch.text().splitlines()[-1]


@pytest.mark.fault(36)
def test_a_full_disk_ends_all_and_the_checkpoint_before_is_whole(data, tmp_path):
    config = tables(data, tmp_path / "run", **RICH)
    launch = Launch(tmp_path, config, 2, [("full disk", 3, 0)])
    assert launch.wait(40) == [7, 6], launch.text()
    assert "No space left" in launch.text().splitlines()[-1]
    files = checkpoint.all_of(tmp_path / "run")
    assert [checkpoint.step_of(file) for file in files] == [1, 2] and all(checkpoint.load(file) for file in files)


@pytest.mark.fault(30)
def test_too_many_bad_gradients_end_all(data, tmp_path):
    config = tables(data, tmp_path / "run", **{**RICH, "train": {**RICH["train"], "max_bad_steps": 2}})
    launch = Launch(tmp_path, config, 2, [("nan", 3, 0), ("nan", 4, 1)])
    assert launch.wait() == [5, 5], launch.text()
    assert "2 steps in a row were skipped, to step 4" in launch.text()


def test_a_folder_in_use_ends_all(data, tmp_path):
    config = tables(data, tmp_path / "run", **RICH)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.tex").touch()
    launch = Launch(tmp_path, config, 2)
    assert launch.wait(40) == [2, 6]
    assert "thesis.tex" in launch.text(0) and "lost process 0: " in launch.text(1)


def test_micro_batches_must_be_shared_out_evenly(data, tmp_path):
    launch = Launch(tmp_path, tables(data, tmp_path / "run"), 2)
    assert launch.wait(40) == [2, 2]
    assert "expected a multiple of the 2 processes" in launch.text()


@pytest.mark.parametrize("numbers", [("x", "2", "0"), ("2", "2", "0"), ("0", "", "0"), ("-1", "2", "0")], ids=str)
def test_nonsense_in_the_environment_is_named(numbers, monkeypatch):
    for name, value in zip(("RANK", "WORLD_SIZE", "LOCAL_RANK"), numbers, strict=True):
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=f"RANK={numbers[0]} WORLD_SIZE={numbers[1]}"):
        distributed.join(RunSettings())


@pytest.mark.parametrize("device", ["gpu", "meta", "mps", "cuda:x", "", "cuda:99"])
def test_a_device_that_is_none_is_named(device):
    with pytest.raises(ConfigError, match=r"run\.device"):
        distributed.join(RunSettings(device=device))


def test_sums_of_one_process_are_themselves():
    assert World().sum([0.1, 2.0**53 - 1]) == [0.1, 2.0**53 - 1] and World().sum([]) == []


@pytest.mark.fault(52)
@pytest.mark.slow
def test_torchrun_forwards_a_signal(data, tmp_path):
    """The real launcher: SIGTERM to it reaches the processes and theirs that prepare batches; the run is saved."""
    changes = {**RICH, "train": {**RICH["train"], "steps": 100_000}, "run": {"save_every": 100_000, "workers": 1}}
    config = tmp_path / "config.json"
    config.write_text(json.dumps(tables(data, tmp_path / "run", **changes)))
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone", "-m"]
    command += ["taskmask_cli.main", "train", "--config", str(config), "--train.valid_every", "0"]
    with open(tmp_path / "output", "w") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
        try:
            wait_for_step(tmp_path / "run", 5, 60)
            process.send_signal(signal.SIGTERM)
            assert process.wait(40) != 0
        finally:
            process.kill()
    text = (tmp_path / "output").read_text()
    assert text.count("taskmask: stopped: ") == 2, text
    (file,) = checkpoint.all_of(tmp_path / "run")
    assert f"at step {checkpoint.step_of(file)}, saved: SIGTERM" in text
    assert text.count("SIGTERM: saving at the next step") == 1


def test_resumed_in_two_processes_is_uninterrupted_in_two(data, tmp_path):
    """The log too, to the last bit."""
    assert Launch(tmp_path / "a", tables(data, tmp_path / "whole", **RICH), 2).wait() == [0, 0]
    config = tables(data, tmp_path / "stopped", **RICH)
    assert Launch(tmp_path / "b", config, 2, [("SIGINT", 3, 0)]).wait() == [75, 75]
    assert Launch(tmp_path / "b", config, 2).wait() == [0, 0]
    same_runs(tmp_path / "whole", tmp_path / "stopped")
