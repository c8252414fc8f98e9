"""taskmask-train, as its user meets it."""

import json
from pathlib import Path

import pytest

from taskmask.errors import ConfigError, DataError, StorageError
from taskmask.registry import MASKERS
from taskmask_cli import main as front
from taskmask_cli import preprocess, train


def test_help_shows_the_options_of_what_is_chosen(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    assert train.main(["--masker", "span", "--help"]) == 0
    shown = capsys.readouterr().out
    assert "--masker.longest integer" in shown and "--config FILE" in shown and "exit codes: 0 done" in shown
    assert train.main(["-h"]) == 0
    assert "--masker.longest" not in (shown := capsys.readouterr().out) and "--dry-run" in shown


def test_trains_and_says_what_is_next(data, tmp_path, tiny, capsys):
    run = str(tmp_path / "run")
    words = ["--run", run, "--data", data, *tiny, "--masker.never", "the", "of", "--optim.clip", "0.5", "--run.restart"]
    assert train.main(words) == 0
    out, err = capsys.readouterr()
    assert out == "" and f"taskmask evaluate --from {run} --split" in err and "trained       4 steps" in err
    saved = json.loads((tmp_path / "run" / "settings.json").read_text())
    assert saved["masker"]["never"] == ["the", "of"] and saved["data"]["path"] == data


def test_what_is_advised_can_be_done_where_there_is_no_validation_split(texts, tmp_path, tiny, capsys):
    words = ["--train", str(texts / "train.txt"), "--out", str(tmp_path / "data"), "--workers", "0"]
    assert preprocess.main([*words, "--vocab-size", "330", "--documents", "line"]) == 0
    run = str(tmp_path / "run")
    assert train.main(["--run", run, "--data", str(tmp_path / "data"), *tiny]) == 0
    assert f"taskmask evaluate --from {run} --split train" in capsys.readouterr().err


def test_the_saved_settings_can_be_fed_back(trained, tmp_path, capsys):
    again = ["--config", f"{trained}/settings.json", "--run", str(tmp_path / "again")]
    assert train.main(again) == 0
    files = (Path(run, "settings.json") for run in (trained, tmp_path / "again"))
    first, second = ({**json.loads(file.read_text()), "run": 0} for file in files)
    assert first == second
    with pytest.raises(ConfigError, match=r"begun with other settings: optim\.lr was 0.001, is 0.1"):
        train.main([*again, "--optim.lr", "0.1"])


def test_dry_run_writes_nothing(data, tiny, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for words in ([*tiny, "--dry-run", "--data", data], ["--data", data, *tiny, "--masker", "span", "--dry-run"]):
        assert train.main(words) == 0
        shown = capsys.readouterr().out
        assert "masked rows" in shown and "[" in shown and "parameters" in shown
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--dryrun"], "unknown option --dryrun; did you mean 'dry-run'?"),
        (["--userdir", "x"], "did you mean 'user-dir'?"),
        (["--lr", "3"], "did you mean 'optim.lr'?"),
        (["span"], "'span' belongs to no option"),
        (["--user-dir"], "expected one argument"),
        (["--optim.lr", "-1e-3"], "optim.lr: is -0.001; expected more than 0"),
        (["--optim.lr=-1"], "optim.lr: is -1.0"),
        (["--train.seed", "-1"], "train.seed: is -1"),
        (["--data"], "--data: data.path has no value"),
        (["--data", "d"], "no run folder is named"),
        (["--run", "r"], "no dataset is named"),
        (["--config", "/nowhere.toml"], "/nowhere.toml: cannot be read: No such file or directory"),
    ],
)
def test_wrong_options_are_one_line(words, says, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert front.run(train.main, words) == 2
    shown = capsys.readouterr().err
    assert says in shown and shown.startswith("taskmask: error: ") and shown.count("\n") == 1


def test_bad_data_and_bad_places(data, tiny, tmp_path, capsys):
    with pytest.raises(DataError, match="no dataset"):
        train.main(["--data", str(tmp_path), "--run", str(tmp_path / "r"), *tiny])
    (tmp_path / "file").write_text("x")
    with pytest.raises(StorageError, match="cannot be written"):
        train.main(["--data", data, "--run", str(tmp_path / "file" / "r"), *tiny])
    with pytest.raises(ConfigError, match="is not empty and no run folder"):
        train.main(["--data", data, "--run", str(tmp_path), *tiny])
    assert front.run(train.main, ["--data", data, "--run", str(tmp_path / "r"), *tiny, "--train.init_from", "/no"]) == 4
    assert "no such checkpoint" in capsys.readouterr().err


STOPPER = """
import os, signal
from taskmask import register_masker
from taskmask.maskers.base import sample_tokens

@register_masker("stopping")
def choose(batch, rng, *, budget):
    if os.environ.get("STOP") and rng.epoch:
        os.kill(os.getpid(), signal.SIGTERM)
    return sample_tokens(batch.maskable * 1.0, budget, rng.uniform("x", batch.shape[1]))
"""


def test_a_signal_ends_with_75_and_the_same_command_goes_on(data, tiny, tmp_path, monkeypatch, capsys):
    run, stopper = str(tmp_path / "run"), tmp_path / "stopper.py"
    stopper.write_text(STOPPER)
    words = ["--data", data, "--run", run, *tiny, "--user-dir", str(stopper), "--masker", "stopping"]
    monkeypatch.setitem(MASKERS._entries, "stopping", MASKERS.get("uniform"))  # taken back after the test
    MASKERS._entries.pop("stopping")
    monkeypatch.setenv("STOP", "1")
    assert front.run(train.main, words) == 75
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("taskmask: stopped: ")
    monkeypatch.delenv("STOP")
    assert front.run(train.main, words) == 0
    assert f"taskmask evaluate --from {run} --user-dir {stopper} --split" in capsys.readouterr().err
