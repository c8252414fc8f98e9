"""A text that is there and that a task does not read is named once, with the option that would read it."""

import io
import json
import sys

import numpy as np
import pytest
from training_help import make

from taskmask.config.settings import Settings
from taskmask.inference.annotate import annotate
from taskmask.inference.evaluate import examine
from taskmask.inference.loaded_model import load
from taskmask.inference.multi_seed import report
from taskmask.tokenizer.tokenizer import Vocabulary
from taskmask.training.build import build_data, build_task
from taskmask.training.train import notes, open_data, train
from taskmask.training.unread import unread_after_tab, unread_fields
from taskmask_cli.predict import main as predict
from taskmask_cli.preprocess import main as preprocess

PLACE = "the dataset has the text column 'place', which task classification does not read; to read it as the second "
PLACE += "text of a pair: --task.pair place"


def unread(data, folder, **changes):
    return build_data(make(data, folder, **changes), ["train", "valid"]).unread


def test_a_second_text_that_is_not_read(labelled, tmp_path):
    assert unread(labelled, tmp_path, task="classification") == PLACE
    assert unread(labelled, tmp_path, task={"name": "classification", "pair": "place"}) == ""
    of_number = unread(labelled, tmp_path, task={"name": "regression", "label": "number"})
    assert "which task regression does not read; to read it" in of_number and "--task.pair place" in of_number
    alone = unread(labelled, tmp_path, task="masked_lm")
    assert alone == "the dataset has the text column 'place', which task masked_lm does not read"


def test_labels_numbers_and_lists_are_no_texts(tmp_path, labelled, other_data):
    file = tmp_path / "rows.jsonl"
    file.write_text('{"text": "amber basin", "label": "a", "id": 3, "names": ["one two", "three"]}\n' * 2
                    + '{"text": "amber", "label": "b", "id": 4, "names": ["one"]}\n')  # fmt: skip
    words = ["--train", str(file), "--valid", str(file), "--vocab", str(labelled), "--workers", "0", "--list", "names"]
    assert preprocess([*words, "--label", "label", "id", "--out", str(tmp_path / "bin")]) == 0
    assert unread(tmp_path / "bin", tmp_path, task="classification") == ""
    assert unread(other_data, tmp_path) == ""


def test_several_columns_and_what_a_task_reads_by_another_option(tmp_path, labelled):
    file = tmp_path / "rows.jsonl"
    file.write_text('{"source": "amber basin", "summary": "amber", "topic": "eagle", "why": "eagle amber"}\n' * 3)
    words = ["--train", str(file), "--valid", str(file), "--vocab", str(labelled), "--workers", "0", "--text"]
    assert preprocess([*words, "source", "summary", "topic", "why", "--out", str(tmp_path / "bin")]) == 0
    task = {"name": "seq2seq", "target": "summary"}
    options = {"model": {"name": "encoder_decoder", "layers": 1, "decoder_layers": 1, "width": 32, "heads": 2}}
    found = unread(tmp_path / "bin", tmp_path, task=task, **options)
    assert "text columns 'topic', 'why', which task seq2seq does not read; to read it" in found
    assert found.endswith("--task.pair topic")
    found = unread(tmp_path / "bin", tmp_path, task={**task, "pair": "topic"}, **options)
    assert found == "the dataset has the text column 'why', which task seq2seq does not read"


def test_training_evaluation_and_annotation_say_it_once(labelled, model, copy, tmp_path):
    chosen = make(labelled, tmp_path, task="classification")
    assert notes(open_data(chosen)).count(f"warning: {PLACE}") == 1
    assert examine(model, str(labelled), "valid").notes.count(f"warning: {PLACE}") == 1
    assert annotate(model, str(copy), {"guess": "label"}).notes.count(f"warning: {PLACE}") == 1


def task_of(labelled, pair=""):
    settings = Settings.of(task={"name": "classification", "pair": pair})
    vocab = Vocabulary.load(labelled / "vocab.model")
    return build_task(settings, vocab, {"label": ["no", "not at all", "yes"]})


@pytest.mark.parametrize(
    ("field", "value", "is_text"),
    [
        ("hypothesis", "He moves.", True),
        ("topic", "science fiction", True),
        ("second", "他在动", True),
        ("id", "train-00017", False),
        ("label", "an answer of several words", False),  # of the task's own field
        ("gold", "not at all", False),  # a class of the model
        ("year", 1984, False),
        ("flag", True, False),
        ("nothing", None, False),
        ("words", ["He", "moves"], False),
        ("empty", "  ", False),
    ],
)
def test_fields_of_a_record(field, value, is_text, labelled):
    record = {"text": "A man runs.", field: value}
    found = unread_fields(record, task_of(labelled))
    assert bool(found) == is_text
    if is_text:
        assert found == (f"a record has the text {field!r}, which the model does not read; "
                         f"to read it as the second text of a pair: --task.pair {field}")  # fmt: skip
    assert unread_fields({**record, "other": "He moves."}, task_of(labelled, "other")) == ""


def test_a_second_text_behind_a_tab(labelled):
    assert "reads it as one text; to read it as the second text of a pair: --task.pair second" in unread_after_tab(
        {"text": "A man runs.\tHe moves."}, task_of(labelled)
    )
    assert unread_after_tab({"text": "A man runs."}, task_of(labelled)) == ""
    pair = task_of(labelled, "second")
    assert unread_after_tab({"text": "A man", "second": "He\tmoves"}, pair) == ""
    assert np.array_equal(pair.fields, ("text", "second"))


@pytest.mark.parametrize("more", [[], ["--task.pair", "place"]])
def test_predictions_warn_once_on_standard_error(more, model, monkeypatch, capsys):
    lines = [{"id": f"r-{word}", "text": word, "place": f"{word} basin"} for word in ("amber", "eagle")]
    given = "".join(json.dumps(line) + "\n" for line in lines * 40)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(given.encode())))
    assert predict(["--from", model, "--jsonl", *more]) == 0
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 80
    assert err.count("a record has the text 'place', which the model does not read") == err.count("\n") == (not more)


def test_a_line_with_a_tab_is_warned_of(model, capsys):
    assert predict(["--from", model, "amber\tamber basin", "amber basin"]) == 0
    assert capsys.readouterr().err.count("taskmask: warning: a text has a tab in it") == 1
    assert predict(["--from", model, "--task.pair", "place", "amber\tamber basin"]) == 0
    assert capsys.readouterr().err == ""


def test_predictions_from_python_warn_once(model, capsys):
    loaded = load(model)
    for _ in range(2):
        loaded.predict(["amber", {"text": "amber", "place": "amber basin"}])
    told = capsys.readouterr().err
    assert told.count("a record has the text 'place', which the model does not read") == told.count("\n") == 1


def test_training_and_its_report_say_it_once(labelled, tmp_path, capsys):
    steps = {"steps": 1, "max_tokens": 64}
    chosen = make(labelled, tmp_path, task="classification", train=steps)
    train(chosen)
    report([chosen.run.folder], str(labelled), chosen.run.folder)
    assert capsys.readouterr().err.count(PLACE) == 1
