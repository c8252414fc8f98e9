"""A run with relative paths works from any folder, and after it was moved together with its data."""

import json
import os
import shutil
from pathlib import Path

import pytest
import training_help as helpful

from taskmask import config
from taskmask.analysis.inspect.inspection import inspect
from taskmask.analysis.variance.measure import variance
from taskmask.checkpoints import checkpoint
from taskmask.config import settings
from taskmask.config.run_paths import find_data, home_of, places_of
from taskmask.errors import ConfigError, DataError
from taskmask.inference import loaded_model
from taskmask.inference.annotate import annotate
from taskmask.inference.evaluate import evaluate
from taskmask.training.train import train
from taskmask_cli import main as front


@pytest.fixture
def project(data, tmp_path, monkeypatch):
    """A folder with a dataset data-bin and a run runs/first that names it so; the work goes on in another folder."""
    folder = tmp_path / "project"
    shutil.copytree(data, folder / "data-bin")
    monkeypatch.chdir(folder)
    train(helpful.make("data-bin", "runs/first", train={"steps": 2}))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    return folder


def test_a_run_is_used_from_another_folder(project):
    run = str(project / "runs" / "first")
    here = os.path.relpath(run)
    assert evaluate(run) == {**evaluate(here), "checkpoint": evaluate(run)["checkpoint"]}
    assert evaluate(here)["rows"] > 0
    assert inspect(source=here, maskers=["uniform"], sample=20, draws=2).observed
    assert variance(here, ["uniform"], rows=4, draws=2).step == 2
    assert loaded_model.load(run).settings.data.path == str(project / "data-bin")


def test_a_run_and_its_data_are_moved_together(project, tmp_path):
    shutil.move(project, tmp_path / "moved")
    assert evaluate(str(tmp_path / "moved" / "runs" / "first"))["rows"] > 0
    shutil.move(tmp_path / "moved" / "runs" / "first", tmp_path / "moved" / "renamed")  # beside its data
    assert evaluate(str(tmp_path / "moved" / "renamed"))["rows"] > 0


def test_what_was_tried_is_said(project, tmp_path):
    shutil.rmtree(project / "data-bin")
    for attempt in (evaluate, lambda run: inspect(source=run), lambda run: variance(run, rows=4)):
        with pytest.raises(DataError) as error:
            attempt(str(project / "runs" / "first"))
        said = str(error.value)
        assert str(project / "data-bin") in said and " or data-bin" in said and "--data DIR" in said


def test_it_is_gone_on_with_from_another_folder(project, capfd):
    """With the settings.json of the run, which name its folder and its data as seen from where it began."""
    words = ["train", "--config", str(project / "runs" / "first" / "settings.json"), "--train.steps", "3"]
    assert front.run(front.main, words) == 0
    assert checkpoint.step_of(checkpoint.all_of(project / "runs" / "first")[-1]) == 3
    assert not Path("runs").exists() and "resuming" in capfd.readouterr().err
    assert front.run(front.main, [*words[:3], "--run", "second", "--train.steps", "1"]) == 0
    assert len(checkpoint.all_of(Path("second"))) == 1


def test_a_classifier_labels_data_and_leaves_its_own_tests_out(labelled, copy, tmp_path, monkeypatch):
    shutil.copytree(labelled, tmp_path / "project" / "bin")
    monkeypatch.chdir(tmp_path / "project")
    train(helpful.make("bin", "run", task="classification", train={"steps": 2}))
    monkeypatch.chdir(tmp_path)
    found = annotate("project/run", str(copy), {"mine": "label"})
    assert not [note for note in found.notes if "own data is not at" in note]


def test_settings_of_the_place_are_as_they_were(project, monkeypatch):
    monkeypatch.chdir(project)
    assert loaded_model.load("runs/first").settings.data.path == "data-bin"
    given = config.read_file("runs/first/settings.json")
    assert settings.inherit(given) == given
    other = project / "mine.json"
    other.write_text(json.dumps({"run": {"folder": "runs/first"}, "data": {"path": "data-bin"}}))
    monkeypatch.chdir(project.parent)
    assert settings.inherit(config.read_file(other)) == config.read_file(other)  # no settings of a run


@pytest.mark.parametrize(
    ("run", "folder", "home"),
    [
        ("/a/b/runs/x", "runs/x", "/a/b"),
        ("/a/b/runs/x", "./runs//x/", "/a/b"),
        ("/runs/x", "runs/x", "/"),
        ("/a/b/runs/y", "runs/x", None),
        ("/a/b/runs/x", "/a/b/runs/x", None),
        ("/a/b/runs/x", "../runs/x", None),
        ("/a/b/runs/x", "", None),
        ("/x", "runs/x", None),
    ],
)
def test_where_a_run_began(run, folder, home):
    assert home_of(Path(run), folder) == (home and Path(home))


def test_the_places_in_their_order(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert places_of("/d", Path("/a/runs/x"), "runs/x") == ["/d"]
    assert places_of("../d", Path("/a/b/runs/x"), "runs/x")[:2] == ["/a/d", "../d"]
    assert places_of("d", Path("/a/runs/y"), "runs/x")[:3] == ["d", "/a/runs/d", "/a/d"]
    assert find_data("d", Path("/a/runs/x"), "runs/x") == "d" and find_data("", Path("/a"), "a") == ""


def test_a_settings_file_does_not_undo_a_folder_of_the_command_line(tmp_path):
    """Its run would be gone on with in place of the new one."""
    file = tmp_path / "settings.json"
    file.write_text('{"data": {"path": "d"}, "run": {"folder": "old"}}')
    for flag, named in (("--run", "run: is new.* says old"), ("--data.path", "data.path: is new.* says d")):
        with pytest.raises(ConfigError, match=f"{named}; give --config before {flag}"):
            settings.inherit(config.read_flags([flag, "new", "--config", str(file)]))
        found = settings.inherit(config.read_flags(["--config", str(file), flag, "new"]))
        assert found[-1].value == "new"
