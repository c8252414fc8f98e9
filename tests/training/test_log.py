"""log.jsonl and the TensorBoard files: whole, in order, without doubles, also after a crash."""

import contextlib
import fcntl
import io
import json
import math
import os
import pty
import shutil
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest
from training_help import Crash, rows, tables, train_until

from taskmask.training.monitor.run_log import RunLog, cut_log, duration, read_log
from taskmask.training.train import train

FIGURES = {"loss": 1.0, "lr": 0.1, "grad_norm": 1.0, "tokens_per_second": 5.0, "skipped_steps": 0}


def steps_of(file, kind="train"):
    return [record["step"] for record in read_log(file, kind)]


@pytest.mark.fault(47)
@pytest.mark.parametrize(
    "tail",
    ["", '{"kind": "train", "st', '{"kind": "train", "step": 2}', "\x00\x00", "[]\n", '{"kind": "train"'],
    ids=repr,
)
def test_later_lines_and_a_torn_line_are_cut(tail, tmp_path):
    file = tmp_path / "log.jsonl"
    lines = "".join(json.dumps({"kind": "train", "step": step}) + "\n" for step in (1, 2, 3, 4))
    file.write_text(lines + tail)
    cut_log(file, 3, 3)
    expected = [1, 2, 3, *([2] if tail.endswith('"step": 2}') else [])]
    assert steps_of(file) == expected
    assert file.read_text().endswith("\n") and list(tmp_path.iterdir()) == [file]


def test_bytes_that_are_no_utf8_are_cut(tmp_path):
    file = tmp_path / "log.jsonl"
    file.write_bytes(b'{"kind": "train", "step": 1}\n\xff\xfe\x00')
    cut_log(file, 9, 9)
    assert steps_of(file) == [1]


def test_no_log_is_no_error(tmp_path):
    cut_log(tmp_path / "log.jsonl", 3, 3)


def test_numbers_that_are_not_finite_are_null(tmp_path, capsys):
    log = RunLog(tmp_path, 10, 0, -1, tensorboard=True)
    log.train(1, {**FIGURES, "loss": math.nan, "grad_norm": math.inf})
    log.valid(1, {"loss": -math.inf}, 10, False, 0.1)
    log.close()
    text = (tmp_path / "log.jsonl").read_text()
    assert "NaN" not in text and "Infinity" not in text
    assert [json.loads(line)["loss"] for line in text.splitlines()] == [None, None]


def test_without_a_terminal_there_are_plain_lines_and_no_bar(tmp_path, capsys):
    log = RunLog(tmp_path, 10, 0, -1, tensorboard=False)
    log.train(5, FIGURES)
    log.advance()
    log.close()
    shown = capsys.readouterr()
    assert shown.out == "" and "\r" not in shown.err and "\x1b" not in shown.err
    assert shown.err.startswith("step 5/10  loss 1.000") and shown.err.count("\n") == 1


@pytest.mark.fault(47)
def test_resume_after_a_crash_logs_no_step_twice(settings, tmp_path, monkeypatch):
    chosen = settings(run={"save_every": 3}, train={"steps": 8, "valid_every": 3})
    assert isinstance(train_until(chosen, "crash", 6, monkeypatch), Crash)
    with open(tmp_path / "run" / "log.jsonl", "a") as file:
        file.write('{"kind": "train", "step": 6, "lo')
    train(chosen)
    assert steps_of(tmp_path / "run" / "log.jsonl") == list(range(1, 9))
    assert steps_of(tmp_path / "run" / "log.jsonl", "valid") == [3, 6, 8]


@pytest.mark.fault(59)
def test_training_goes_on_when_nobody_reads_its_lines(settings, tmp_path, monkeypatch):
    class Closed(io.StringIO):
        def write(self, text):
            if "step 2" in text:
                raise BrokenPipeError
            return super().write(text)

    monkeypatch.setattr(sys, "stderr", Closed())
    assert train(settings(train={"steps": 4})).step == 4
    assert steps_of(tmp_path / "run" / "log.jsonl") == [1, 2, 3, 4]


def events(folder):
    """What TensorBoard shows: {tag: steps} of scalars and texts."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    board = EventAccumulator(str(folder), size_guidance={"tensors": 0, "scalars": 0})
    board.Reload()
    tags = board.Tags()
    found = {tag: [event.step for event in board.Scalars(tag)] for tag in tags["scalars"]}
    found |= {tag: [event.step for event in board.Tensors(tag)] for tag in tags["tensors"]}
    return found


def hparams(folder):
    """The tags of the hyper-parameter plug-in."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    board = EventAccumulator(str(folder))
    board.Reload()
    return board.PluginTagToContent("hparams")


@pytest.mark.parametrize("save_every, crash", [(2, 6), (100, 3)], ids=["from a checkpoint", "from the start"])
def test_tensorboard_after_a_crash_shows_no_step_twice(save_every, crash, settings, tmp_path, monkeypatch):
    chosen = settings(
        run={"tensorboard": True, "save_every": save_every, "keep_best": 0}, train={"steps": 8, "valid_every": 4}
    )
    assert isinstance(train_until(chosen, "crash", crash, monkeypatch), Crash)
    train(chosen)
    shown = events(tmp_path / "run" / "tensorboard")
    assert shown["train/loss"] == shown["optim/lr"] == shown["speed/tokens_per_second"] == list(range(1, 9))
    assert shown["valid/loss"] == shown["guesses/text_summary"] == [4, 8]
    assert shown["settings/text_summary"] == [0]
    found = hparams(tmp_path / "run" / "tensorboard")
    assert b"valid/loss" in found["_hparams_/experiment"] and b"model" in found["_hparams_/session_start_info"]


def test_log_holds_all_that_the_trainer_knows(settings, tmp_path):
    train(settings(train={"steps": 2}))
    first = rows(tmp_path / "run")[0]
    assert set(first) == {
        "kind", "step", "loss", "perplexity", "accuracy", "lr", "grad_norm", "loss_scale", "skipped_steps", "epoch",
        "tokens", "targets",
    }  # fmt: skip


def test_duration():
    assert [duration(s) for s in (0, 59.6, 61, 5025)] == ["0:00", "1:00", "1:01", "1:23:45"]


@pytest.mark.fault(60)
@pytest.mark.parametrize("lack", ["package", "folder"])
def test_without_tensorboard_there_is_a_warning_once_and_the_log_is_whole(lack, settings, tmp_path, monkeypatch, capfd):
    if lack == "package":
        monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    else:
        (tmp_path / "run").mkdir()
        (tmp_path / "run" / ".lock").touch()
        monkeypatch.setattr("shutil.rmtree", lambda *arguments, **options: None)
        monkeypatch.setattr("os.makedirs", blocked)
        monkeypatch.setattr("tensorboard.compat.tensorflow_stub.io.gfile.makedirs", blocked)
    train(settings(run={"tensorboard": True}))
    assert capfd.readouterr().err.count("warning: nothing is written for TensorBoard") == 1
    assert steps_of(tmp_path / "run" / "log.jsonl") == [1, 2, 3, 4, 5, 6]


def blocked(*arguments, **options):
    raise PermissionError(13, "Permission denied", str(arguments[0]))


def on_a_terminal(command, environment, columns):
    """Runs a command on a terminal of so many columns; returns its exit code and all that it prints."""
    control, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    process = subprocess.Popen(command, stdout=terminal, stderr=terminal, env={**os.environ, **environment})
    os.close(terminal)
    shown = b""
    with contextlib.suppress(OSError):  # how a terminal says that everybody has left it
        while part := os.read(control, 4096):
            shown += part
    os.close(control)
    return process.wait(), shown.decode()


@pytest.mark.fault(59)
@pytest.mark.parametrize("term, columns", [("dumb", 80), ("xterm", 40)])
def test_narrow_and_dumb_terminals(term, columns, data, tmp_path):
    config = tmp_path / "config.json"
    config.write_text(json.dumps(tables(data, tmp_path / "run")))
    command = [sys.executable, "-m", "taskmask_cli.main", "train", "--config", str(config)]
    code, shown = on_a_terminal(command, {"TERM": term, "NO_COLOR": "1"}, columns)
    assert code == 0 and "validation  loss" in shown and "Traceback" not in shown
    assert "\x1b" not in shown.replace("\x1b[A", ""), "no colours"
    if term == "dumb":
        assert "step 6/6" in shown and "step/s" not in shown
    else:
        bars = [part for line in shown.split("\n") for part in line.split("\r") if "%|" in part]
        assert bars and max(map(len, bars)) <= columns


@pytest.mark.fault(59)
def test_a_closed_pipe_ends_in_no_traceback(data, tmp_path):
    command = f"{sys.executable} -m taskmask_cli.main list --data {data} | true"
    done = subprocess.run(["bash", "-c", command + "; exit ${PIPESTATUS[0]}"], capture_output=True, text=True)
    assert done.returncode == 0 and not done.stderr


@pytest.mark.fault(60)
def test_a_tensorboard_folder_that_vanishes_stops_nothing(tmp_path, capfd):
    log = RunLog(tmp_path, 10, 0, -1, tensorboard=True)
    log.valid(1, {"loss": 1.0}, 10, True, 0.1)
    log.flush()
    shutil.rmtree(tmp_path / "tensorboard")
    for step in range(2, 6):
        log.valid(step, {"loss": 1.0}, 10, True, 0.1)
        log.flush()
    log.text("guesses", ["a line"], 5)
    log.hparams({"model.name": "tiny"}, {"loss": 1.0})
    log.close()
    error = capfd.readouterr().err
    assert error.count("warning: nothing more is written for TensorBoard") == 1 and not log.board.works
    assert [record["step"] for record in read_log(tmp_path / "log.jsonl", "valid")] == [1, 2, 3, 4, 5]


def test_a_path_that_is_not_utf_8_leaves_the_log(tmp_path, capfd):
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/r\xff"))
    folder.mkdir()
    log = RunLog(folder, 10, 0, -1, tensorboard=True)
    log.valid(1, {"loss": 1.0}, 10, True, 0.1)
    log.close()
    assert capfd.readouterr().err.count("warning: nothing is written for TensorBoard") == 1
    assert [record["step"] for record in read_log(folder / "log.jsonl", "valid")] == [1]


def test_the_python_reader_of_tensorboard_shows_no_step_twice(settings, tmp_path, monkeypatch):
    """It takes the first session with a purge step for the beginning of the run (tensorboard 2.21)."""
    from tensorboard.backend.event_processing.plugin_event_accumulator import EventAccumulator

    chosen = settings(run={"tensorboard": True, "save_every": 2, "keep_best": 0}, train={"steps": 8})
    assert isinstance(train_until(chosen, "crash", 6, monkeypatch), Crash)
    train(chosen)
    board = EventAccumulator(str(tmp_path / "run" / "tensorboard"), size_guidance={"tensors": 0})
    board.Reload()
    assert [event.step for event in board.Tensors("train/loss")] == list(range(1, 9))
