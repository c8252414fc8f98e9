"""One stage: what people see of it while it trains, and what is taken for done."""

import io
import json

import numpy as np
import pytest
from compare_help import write_data, write_experiment

from taskmask.analysis.compare import stage as running
from taskmask.analysis.compare.cost import bill
from taskmask.analysis.compare.predictions import Answered, Question
from taskmask.analysis.compare.runner import claimed, plan
from taskmask.analysis.compare.stage import Done, FewWords, look, quietly, run_stage
from taskmask.errors import DataError


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


def test_no_bit_of_what_a_stage_has_cost_can_change(trained):
    stage, done = trained
    file = stage.folder / "stage.json"
    whole = file.read_bytes()
    for bit in range(0, 8 * len(whole)):
        file.write_bytes(whole[: bit // 8] + bytes([whole[bit // 8] ^ 1 << bit % 8]) + whole[bit // 8 + 1 :])
        assert look(stage) in (None, done), bit
    file.write_bytes(whole)
    assert look(stage) == done


def test_no_bit_of_the_answers_that_are_kept_can_change(trained):
    question, answered = Question("uniform", trained[0], "valid", {}), Answered()
    file = answered.file_of(question)
    assert answered.kept(question) is None and answered.ask(question, is_first=True).size
    content = file.read_bytes()
    assert answered.kept(question).size and "mlm" in np.load(file)
    for bit in range(3, 8 * len(content), 41):
        file.write_bytes(content[: bit // 8] + bytes([content[bit // 8] ^ 1 << bit % 8]) + content[bit // 8 + 1 :])
        assert answered.kept(question) is None, bit
    file.unlink()


@pytest.mark.parametrize("content", [b"5", b"null", b"[1]", b'"x"', b"{", b"\xff"])
def test_a_damaged_record_of_an_experiment_is_written_anew(content, trained, tmp_path):
    planner, _ = plan(trained[0].folder.parents[2] / "tiny.json")
    (tmp_path / "experiment.json").write_bytes(content)
    with claimed(tmp_path, planner.experiment):
        assert json.loads((tmp_path / "experiment.json").read_bytes())["name"] == "tiny"


def test_a_damaged_log_is_no_cost(trained, tmp_path):
    stage, done = trained
    (tmp_path / "log.jsonl").write_bytes((stage.folder / "log.jsonl").read_bytes())
    assert bill(tmp_path, stage.shape, stage.length) == done.cost
    for text in ("[]", "{", "{}", '{"kind": "train", "step": 1}', '{"kind": "train", "tokens_per_second": "x"}'):
        (tmp_path / "log.jsonl").write_text(text)
        with pytest.raises(DataError, match=r"log\.jsonl: is damaged; remove .* trained anew"):
            bill(tmp_path, stage.shape, stage.length)


def test_a_stage_without_its_weights_is_not_done(trained, monkeypatch):
    monkeypatch.setattr(running.checkpoint, "all_of", lambda folder: [])
    assert look(trained[0]) is None


def test_a_failure_needs_no_weights(trained, monkeypatch):
    stage, done = trained
    file = stage.folder / "stage.json"
    whole = file.read_text()
    record = {**json.loads(whole), "failure": "diverged"}
    del record["checksum"]
    file.write_text(json.dumps({**record, "checksum": running._checksum(record)}))
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
