"""Links: those of users are resolved, those that strangers have put where files are made are not followed."""

import os
import shutil

import pytest
from compare_help import no_report, write_data, write_experiment

from taskmask.analysis.compare import runner as comparing
from taskmask.errors import ConfigError, StorageError
from taskmask.inference import annotate as annotating
from taskmask.inference.annotate import annotate
from taskmask.inference.multi_seed import train_seeds
from taskmask.training.monitor.tensorboard import Board
from taskmask.training.run_folder import lock
from taskmask.training.train import train


def paths(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


@pytest.mark.fault(63)
def test_a_run_folder_that_is_a_link(settings, tmp_path, capfd):
    """The run lies where the link leads; --run.restart moves it aside there, and the link stays."""
    (tmp_path / "disk").mkdir()
    (tmp_path / "run").symlink_to("disk/run")
    chosen = settings(train={"steps": 1, "valid_every": 1})
    for restart in (False, True):
        with pytest.raises(ConfigError, match=r"--run .*: is a link that leads nowhere"):
            train(chosen, restart=restart)
    (tmp_path / "disk" / "run").mkdir()
    train(chosen)
    train(chosen, restart=True)
    assert (tmp_path / "run").is_symlink() and os.readlink(tmp_path / "run") == "disk/run"
    assert sorted(path.name for path in (tmp_path / "disk").iterdir()) == ["run", "run.old-1"]
    assert len(list((tmp_path / "disk" / "run" / "checkpoints").iterdir())) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["disk", "run"]


@pytest.mark.fault(64)
@pytest.mark.parametrize(
    "name", ["checkpoints", "tensorboard", "log.jsonl", "exit.json", "settings.json", "vocab.model", ".lock", "pipe"]
)
def test_links_in_a_run_folder_are_not_followed(name, settings, tmp_path):
    """A run folder of a stranger: no file of the victim is changed or removed, and nothing waits for a pipe."""
    train(settings(train={"steps": 1}))
    run, victim = tmp_path / "run", tmp_path / "victim"
    victim.mkdir()
    (victim / ".mine.tmp").write_text("precious")
    (victim / "file").write_text("precious")
    name, is_pipe = ("log.jsonl", True) if name == "pipe" else (name, False)
    if (run / name).is_dir():
        shutil.rmtree(run / name)
    else:
        (run / name).unlink(missing_ok=True)
    if is_pipe:
        os.mkfifo(run / name)
    else:
        (run / name).symlink_to(victim if name in ("checkpoints", "tensorboard") else victim / "file")
    before = paths(victim)
    with pytest.raises((ConfigError, StorageError), match=r"is a link, which is not followed|is no plain file"):
        train(settings(train={"steps": 2}, run={"tensorboard": True}))
    assert paths(victim) == before and (victim / "file").read_text() == "precious"


@pytest.mark.fault(64)
def test_hard_links_in_a_run_folder_are_not_written_through(settings, tmp_path):
    """Every file of a run also has a name elsewhere: going on makes new files, as in a copy made by `cp -al`."""
    train(settings(train={"steps": 2}, run={"save_every": 1}))
    run, copy = tmp_path / "run", tmp_path / "copy"
    (run / ".lock").write_text("precious")
    shutil.copytree(run, copy, copy_function=os.link)
    before = {path: path.read_bytes() for path in copy.rglob("*") if path.is_file()}
    (run / "exit.json").unlink()
    max((run / "checkpoints").glob("step-2*")).unlink()
    train(settings(train={"steps": 2}, run={"save_every": 1}))
    assert {path: path.read_bytes() for path in copy.rglob("*") if path.is_file()} == before


@pytest.mark.fault(64)
def test_runs_of_several_seeds_go_to_no_link(settings, tmp_path):
    (tmp_path / "victim").mkdir()
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "seed-2").symlink_to(tmp_path / "victim")
    with pytest.raises(ConfigError, match="seed-2 in it is a link, which is not followed"):
        train_seeds(settings(), [1, 2])
    assert paths(tmp_path / "run") == ["seed-2"] and not paths(tmp_path / "victim")


@pytest.mark.fault(64)
def test_a_tensorboard_folder_that_is_a_link_is_not_written_to(tmp_path):
    (tmp_path / "victim").mkdir()
    (tmp_path / "board").symlink_to("victim")
    said = []
    board = Board(tmp_path / "board", 3, said.append)
    board.scalars({"loss": 1.0}, 4)
    board.close()
    assert "is a link" in said[0] and not list((tmp_path / "victim").iterdir())


@pytest.mark.fault(64)
def test_chunks_of_an_annotation_go_to_no_link(model, copy, tmp_path, monkeypatch):
    (tmp_path / "victim").mkdir()
    monkeypatch.setattr(annotating.Work, "key", lambda *_: "known")
    (copy / ".annotate-known").symlink_to(tmp_path / "victim")
    with pytest.raises(ConfigError, match=r"\.annotate-known in it is a link, which is not followed"):
        annotate(model, str(copy), {"guess": "label"})
    assert not list((tmp_path / "victim").iterdir())


@pytest.mark.fault(62, 64)
def test_a_comparison_follows_no_link_and_is_alone(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "taskmask.analysis.compare.export", no_report())
    monkeypatch.setattr(comparing, "walk", lambda *_: {})
    folder, victim = tmp_path / "run", tmp_path / "victim"
    file = write_experiment(tmp_path, write_data(tmp_path))
    folder.mkdir()
    victim.mkdir()
    (victim / "link").symlink_to("somewhere")
    for name in ("by-name", "stages", "report.html", "experiment.json"):
        (folder / name).symlink_to(victim)
        with pytest.raises(ConfigError, match=f"{name} in it is a link, which is not followed"):
            comparing.compare(file, folder)
        (folder / name).unlink()
    (folder / "stages").mkdir()
    (folder / "stages" / "finetuning-0").symlink_to(victim)
    with pytest.raises(ConfigError, match="stages/finetuning-0 in it is a link"):
        comparing.compare(file, folder)
    (folder / "stages" / "finetuning-0").unlink()
    assert paths(victim) == ["link"]
    with lock(folder), pytest.raises(ConfigError, match=r"--run .*run: another process is at work in it \(.*process"):
        comparing.compare(file, folder)
