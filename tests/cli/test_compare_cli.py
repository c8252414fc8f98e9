"""taskmask compare, as its user meets it."""

import json
import sys

import pytest
from compare_help import EXPERIMENT, STAGES, no_report, write_data, write_experiment

from taskmask_cli import main as front
from taskmask_cli.compare import main


@pytest.fixture(scope="module")
def experiment(tmp_path_factory):
    """The tiny experiment, and the folder that it goes into."""
    folder = tmp_path_factory.mktemp("experiment")
    tasks = {"half": None, "uniform": EXPERIMENT["tasks"]["half"]}  # a task may be called like a masker
    file = write_experiment(folder, write_data(folder / "data"), seeds=[1], points=1, tasks=tasks)
    return str(file), str(folder / "out")


@pytest.fixture(autouse=True)
def reports(monkeypatch):
    monkeypatch.setitem(sys.modules, "taskmask.analysis.compare.export", no_report())


def asked(capsys, *words):
    capsys.readouterr()
    assert main([*words, "--json"]) == 0
    out = capsys.readouterr().out
    assert out.count("\n") == 1  # one JSON object and nothing else
    return json.loads(out, parse_constant=pytest.fail)


def test_from_the_rehearsal_to_the_report(experiment, capsys):
    file, folder = experiment
    planned = asked(capsys, file, "--run", folder, "--dry-run")["stages"]
    assert [one["state"] for one in planned] == ["to do"] * 6 and planned[0]["updates"] == 3
    assert main([file, "--run", folder]) == 0
    out, err = capsys.readouterr()
    assert "3 scores" in out and f"{folder}/report.html" in out and f"tensorboard --logdir {folder}/by-name" in out
    lines = err.splitlines()
    assert "taskmask: 6 stages, 0 of them done before" in lines and "next:" not in err
    assert "taskmask: [1/6] pre-training: 3 steps" in lines
    assert sum("[" in line for line in lines) == 6  # one line a stage
    found = asked(capsys, file, "--run", folder)
    assert found["experiment"] == "tiny" and len(found["scores"]) == 3 and found["failures"] == []
    assert {(one["of"], one["metric"]) for one in found["scores"]} == {("uniform", "accuracy")}
    assert [one["state"] for one in asked(capsys, file, "--run", folder, "--dry-run")["stages"]] == ["done"] * 6


def test_the_table_of_the_rehearsal(experiment, tmp_path, capsys):
    assert main([experiment[0], "--run", str(tmp_path / "new"), "--dry-run"]) == 0
    head, first, *_, total = capsys.readouterr().out.splitlines()
    assert head.split() == ["stage", "state", "steps", "tokens", "targets", "FLOPs"]
    assert first.split()[:4] == ["pre-training", "to", "do", "3"] and total.startswith("6 stages, 6 to do: ")
    assert not (tmp_path / "new").exists() and STAGES > 6


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["none.toml"], 2, "none.toml: cannot be read"),
        ([], 2, "the following arguments are required: FILE"),
        (["x.toml", "--dry"], 2, "unknown option --dry"),
        (["x.toml", "--user-dir", "nowhere.py"], 2, "nowhere.py does not exist"),
    ],
)
def test_wrong_command_lines(words, code, message, capsys):
    assert front.run(main, words) == code
    err = capsys.readouterr().err
    assert message in err and err.count("\n") == 1 and "Traceback" not in err
