"""Verbs that are stopped at any point: nothing that they leave behind stops the same command, or is taken for a result.

Each is a real process, killed at a point of the program; then the same command is run again.
"""

import contextlib
import os
import shutil
import signal
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from compare_help import write_data, write_experiment
from training_help import SPAWN, Launch, tables

from taskmask.analysis.compare import runner as comparing
from taskmask.config.settings import Settings
from taskmask.data.dataset import Dataset
from taskmask.data.unfinished import unfinished
from taskmask.errors import ConfigError, DataError
from taskmask.inference.annotate import Work
from taskmask.training.train import train
from taskmask_cli import annotate, spans
from taskmask_cli import main as front
from taskmask_cli.list import main as listed


def in_a_process(words, order):
    with open(os.devnull, "w") as sys.stdout, open(os.devnull, "w") as sys.stderr:
        os.environ["TASKMASK_FAULT"] = order
        sys.exit(front.run(front.main, words))


def run(words, order=""):
    """Runs a command line in a process of its own, with a fault on order; returns its exit code."""
    process = SPAWN.Process(target=in_a_process, args=(list(map(str, words)), order))
    process.start()
    process.join(60)
    return process.exitcode


POINTS = ["data.write#1", "data.write#2", "data.write#3", "file.fsync", "file.rename"]
ENDS = {"kill": -signal.SIGKILL, "int": 130, "term": -signal.SIGTERM, "full": 7}


@pytest.mark.fault(80)
@pytest.mark.parametrize("end", ["kill", "int", "full"])
def test_spans_stopped_between_the_splits(end, labelled, tmp_path, capsys):
    words = ["--data", str(tmp_path / "d"), "--column", "salient", "--heuristic"]
    whole = None
    for point in ["", *POINTS]:
        shutil.rmtree(tmp_path / "d", ignore_errors=True)
        shutil.copytree(labelled, tmp_path / "d")
        if point:
            if end == "full" and not point.startswith("data"):
                continue
            assert run(["spans", *words], f"{end}@{point}") == ENDS[end]
            Dataset.open(tmp_path / "d").verify()
            if end == "kill":
                (line,) = unfinished(Dataset.open(tmp_path / "d"))
                assert "train/.salient.lock" in line and "the same command removes it" in line
        assert spans.main(words) == 0, point
        dataset = Dataset.open(tmp_path / "d")
        found = {name: np.array(split.values("salient")) for name, split in dataset.splits.items()}
        assert not unfinished(dataset)
        whole = whole or found
        assert all(np.array_equal(found[name], whole[name]) for name in whole)


@pytest.mark.fault(80)
def test_an_unfinished_annotation_is_named_and_goes_on(model, copy, capsys):
    words = ["--data", str(copy), "--from", model, "--column", "guess=label"]
    assert run(["annotate", *words], "kill@annotate.merge") == -signal.SIGKILL
    capsys.readouterr()
    assert listed(["--data", str(copy)]) == 0
    shown = capsys.readouterr().out
    assert "note: .annotate-" in shown and "taskmask annotate; the same command goes on with it, or remove it" in shown
    assert annotate.main(words) == 0 and "(0 tokens a second)" in capsys.readouterr().out
    assert listed(["--data", str(copy)]) == 0 and "note: " not in capsys.readouterr().out


@pytest.mark.fault(80)
@pytest.mark.parametrize("column", ["guess", "other"])
def test_the_folder_of_a_finished_annotation_is_removed_by_the_next_one(column, model, copy, monkeypatch):
    """It was killed after dataset.json named its column, and before its folder was removed."""
    words = ["--data", str(copy), "--from", model]
    assert run(["annotate", *words, "--column", "third=label"], "kill@annotate.merge") == -signal.SIGKILL
    (unfinished_one,) = copy.glob(".annotate-*")
    with monkeypatch.context() as patch:
        patch.setattr(Work, "remove", lambda *_: None)
        annotate.main([*words, "--column", "guess=label"])
    assert len(list(copy.glob(".annotate-*"))) == 2
    with contextlib.nullcontext() if column == "other" else pytest.raises(DataError, match="column 'guess' exists"):
        annotate.main([*words, "--column", f"{column}=label"])
    assert list(copy.glob(".annotate-*")) == [unfinished_one]
    assert {"guess", column} <= Dataset.open(copy).split("train").columns.keys()


@pytest.mark.fault(35)
def test_a_training_killed_before_its_first_checkpoint_takes_other_data(data, other_vocabulary, tmp_path):
    folder = tmp_path / "run"
    first = tables(data, folder)
    assert Launch(tmp_path, first, order="kill@save.write").wait() == [-signal.SIGKILL]
    (folder / "tokenizer.json").write_text("of a third dataset")
    assert (folder / "vocab.model").read_bytes() == Dataset.open(data).vocabulary().model_bytes
    train(Settings.of(tables(other_vocabulary, folder)))
    assert (folder / "vocab.model").read_bytes() == Dataset.open(other_vocabulary).vocabulary().model_bytes
    assert not (folder / "tokenizer.json").exists()


@pytest.mark.fault(35)
def test_a_training_killed_while_it_makes_its_folder(data, tmp_path):
    """Settings, environment, vocabulary, and the first checkpoint."""
    for number, point in enumerate([f"{kind}#{n}" for kind in ("file.fsync", "file.rename") for n in (1, 2, 3)]):
        config = tables(data, tmp_path / f"run-{number}", train={"steps": 1})
        assert Launch(tmp_path, config, order=f"kill@{point}").wait() == [-signal.SIGKILL], point
        assert train(Settings.of(config)).step == 1
        assert not list((tmp_path / f"run-{number}").glob(".*.tmp"))


@pytest.mark.fault(62)
def test_two_comparisons_in_one_folder(tmp_path):
    """The second one ends before any work, and names the first."""
    file = write_experiment(tmp_path, write_data(tmp_path))
    words = ["compare", str(file), "--run", str(tmp_path / "run")]
    first = SPAWN.Process(target=in_a_process, args=(words, "hang@file.rename"))
    first.start()
    while not (tmp_path / "run" / ".lock").exists() or state_of(first) != "T":
        assert first.is_alive()
        time.sleep(0.02)
    with pytest.raises(ConfigError, match=rf"run: another process is at work in it \(.*process {first.pid}"):
        comparing.compare(file, tmp_path / "run")
    first.kill()
    first.join()


def state_of(process):
    """The state of a process in the words of Linux: T is stopped."""
    return Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0]


@pytest.mark.fault(35)
def test_a_comparison_killed_at_its_start(tmp_path, monkeypatch):
    class Begun(Exception):
        pass

    def begin(*_):
        raise Begun

    file = write_experiment(tmp_path, write_data(tmp_path))
    for point in ("file.fsync#1", "file.rename#1", "file.fsync#2", "file.rename#3"):
        assert run(["compare", file, "--run", tmp_path / "run"], f"kill@{point}") == -signal.SIGKILL
        with monkeypatch.context() as patch, pytest.raises(Begun):
            patch.setattr(comparing, "walk", begin)
            comparing.compare(file, tmp_path / "run")
