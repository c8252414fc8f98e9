"""What has no label teaches nothing and is not measured, in every task that learns from labels."""

import json

import pytest
from training_help import DENOISING, WORDS, make

from taskmask.errors import DataError
from taskmask.inference.evaluate import evaluate
from taskmask.training.train import train
from taskmask_cli.preprocess import main as preprocess

TEXTS = [" ".join(WORDS[at : at + 4]) for at in range(16)]
SEQ2SEQ = {"model": DENOISING["model"], "task": {"name": "seq2seq", "max_length": 16}}
CASES = {
    "classification": ({}, "label", lambda at: at % 2, (-1, None, ""), []),
    "regression": ({}, "label", lambda at: at / 4, (None, float("nan"), ""), ["--number", "label"]),
    "tagging": ({}, "tags", lambda at: [at % 2, "x", 1, 0], ([-100, "_", "-", None], None), []),
    "seq2seq": (SEQ2SEQ, "answers", lambda at: [WORDS[at]], ([], None), ["--text", "text", "--list", "answers"]),
    "joint_mlm": ({"task": {"name": "joint_mlm", "mlm": False}}, "label", lambda at: at % 2, (-1, None), []),
}


def records(task, known, missing):
    """The rows of a split: those with a label, and after each of them one without, if `missing` has marks."""
    field, label, marks = CASES[task][1:4]
    for number, text in enumerate(TEXTS):
        given = {"words": text.split()} if task == "tagging" else {"text": text}
        if known:
            yield {**given, field: label(number)}
        if missing:
            yield {**given, field: marks[number % len(marks)]}


@pytest.fixture(params=CASES)
def prepared(request, tmp_path, data):
    """(task, a dataset of which the split train has labels, valid half of them, and test and blind none)."""
    task, options = request.param, CASES[request.param][4]
    splits = {"train": (True, False), "valid": (True, True), "test": (False, True)}
    for name, rows in splits.items():
        (tmp_path / f"{name}.jsonl").write_text("\n".join(map(json.dumps, records(task, *rows))))
    words = [word for name in splits for word in (f"--{name}", str(tmp_path / f"{name}.jsonl"))]
    preprocess([*words, *options, "--vocab", str(data), "--out", str(tmp_path / "bin"), "--workers", "0"])
    return task, tmp_path / "bin"


def test_rows_without_labels_change_no_metric(prepared, tmp_path, data):
    task, path = prepared
    run = str(tmp_path / "run")
    train(make(path, run, **{"task": task, "train": {"steps": 2}, **CASES[task][0]}))
    half, whole = (evaluate(run, split=split) for split in ("valid", "train"))
    assert half["targets"] == whole["targets"] > 0
    assert half["loss"] == pytest.approx(whole["loss"], rel=1e-4)
    with pytest.raises(DataError, match=r"split test: no (row|token) has a .* predict and annotate need no labels"):
        evaluate(run, split="test")


def test_a_split_that_has_no_column_of_labels(prepared, tmp_path, data):
    task, path = prepared
    field = CASES[task][1]
    (tmp_path / "test.jsonl").write_text('{"words": ["a"], "text": "a"}')
    words = ["--train", str(tmp_path / "train.jsonl"), "--test", str(tmp_path / "test.jsonl"), *CASES[task][4]]
    preprocess([*words, "--vocab", str(data), "--out", str(path), "--overwrite", "--workers", "0"])
    run = str(tmp_path / "run")
    train(make(path, run, **{"task": task, "train": {"steps": 1, "valid_every": None}, **CASES[task][0]}))
    with pytest.raises(
        DataError, match=rf"split test: there is no column '{field}', which the split train has; .*predict"
    ):
        evaluate(run, split="test")
