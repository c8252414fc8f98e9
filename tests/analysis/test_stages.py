"""One stage: what people see of it while it trains, and what is taken for done."""

import io
import json

import pytest
from compare_help import write_data, write_experiment

from taskmask.analysis import stages as running
from taskmask.analysis.compare import plan
from taskmask.analysis.stages import Done, FewWords, look, quietly, run_stage


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The pre-training of the tiny experiment, done."""
    folder = tmp_path_factory.mktemp("stage")
    _, stages = plan(write_experiment(folder, write_data(folder / "data")), folder / "out")
    return stages[0], run_stage(stages[0], "", "", set(), is_first=True)


def test_a_stage_that_is_done_is_found(trained):
    stage, done = trained
    assert look(stage) == done and done.failure == "" and done.cost.updates == 3


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "{}",
        '{"digest": 1, "cost": {}, "failure": ""}',
        '{"digest": "D", "cost": {"x": 1}, "failure": ""}',
    ],
)
def test_what_is_damaged_is_not_done(text, trained):
    stage, done = trained
    file = stage.folder / "stage.json"
    whole = file.read_text()
    file.write_text(text.replace("D", stage.digest))
    assert look(stage) is None
    file.write_text(whole)
    assert look(stage) == done


def test_a_stage_without_its_weights_is_not_done(trained, monkeypatch):
    monkeypatch.setattr(running.checkpoint, "all_of", lambda folder: [])
    assert look(trained[0]) is None


def test_a_failure_needs_no_weights(trained, monkeypatch):
    stage, done = trained
    file = stage.folder / "stage.json"
    whole = file.read_text()
    file.write_text(json.dumps({**json.loads(whole), "failure": "diverged"}))
    monkeypatch.setattr(running.checkpoint, "all_of", lambda folder: [])
    assert look(stage) == Done(done.cost, "diverged")
    file.write_text(whole)


def test_few_words(monkeypatch):
    clock, shown, said = [0.0], io.StringIO(), set()
    monkeypatch.setattr(running.time, "monotonic", lambda: clock[0])
    few = FewWords(shown, said)
    for text in (
        "taskmask: runs/a: model tiny",
        "step 1/9  loss 3",
        "taskmask: warning: odd",
        "taskmask: warning: odd",
    ):
        print(text, file=few)
    few.write("\r 10% |#   |")
    clock[0] = 61.0
    for step in (2, 3):
        print(f"step {step}/9  loss 3", file=few)
    assert shown.getvalue() == "taskmask: warning: odd\n\r 10% |#   |step 2/9  loss 3\n"
    print("taskmask: warning: odd", file=FewWords(shown, said))
    assert shown.getvalue().count("odd") == 1


def test_a_bar_is_taken_away(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    with quietly(set()):
        import sys

        assert sys.stderr.isatty()
        print("taskmask: the chatter of a run", file=sys.stderr)
        sys.stderr.write("\r100%|##|")
    assert terminal.getvalue() == "\r100%|##|\r\x1b[K"
