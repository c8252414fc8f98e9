"""The rehearsal: says what a run will be, and leaves nothing behind."""

import os
import tempfile

import pytest
from training_help import TABLES

from taskmask.errors import ConfigError
from taskmask.training.dry_run import dry_run
from taskmask.training.train import open_data, train


def test_it_prints_its_lines_and_leaves_nothing(settings, tmp_path, monkeypatch):
    place = tmp_path / "temporary"
    place.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    lines = dry_run(settings(train={"steps": 1000, "micro_batches_per_step": 2, "ema": 0.9}))
    heads = [line.split()[0] for line in lines[:8]]
    assert heads == ["model", "data", "step", "speed", "time", "memory", "checkpoint", "masked"]
    assert f"{len(open_data(settings()).sources['train']):,} rows" in lines[1]
    assert len(lines) == 11 and all("[" in line for line in lines[8:])
    assert os.listdir(tmp_path) == ["temporary"] and not os.listdir(place)


def test_it_disturbs_no_run_that_is_there(settings, tmp_path):
    train(settings())
    before = {file: file.stat().st_mtime_ns for file in (tmp_path / "run").rglob("*")}
    dry_run(settings(optim={"lr": 1e-3}))
    assert before == {file: file.stat().st_mtime_ns for file in (tmp_path / "run").rglob("*")}


def test_without_a_run_folder_and_without_data(settings, data):
    from taskmask.config.settings import Settings

    assert dry_run(Settings.of({"data": {"path": str(data)}, "model": TABLES["model"]}))
    with pytest.raises(ConfigError, match="no dataset is named"):
        dry_run(Settings.of({}))
