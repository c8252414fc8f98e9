"""Marks for "no label": which names are no class, in every form, and what the dataset holds instead of them."""

import json
import math

import numpy as np
import pytest
from encode_help import Maker, content_of, rows_of

from taskmask.data.dataset import Dataset
from taskmask.errors import DataError
from taskmask.preprocess import pipeline, readers
from taskmask.preprocess.guesses import guesses_of_marks
from taskmask.preprocess.missing import missing_labels
from taskmask.preprocess.schema import Fields


@pytest.fixture
def make(tmp_path, unigram):
    return Maker(tmp_path, unigram)


def lines(field, *values, text="the dog"):
    return "".join(json.dumps({"text": text, field: value}) + "\n" for value in values)


def tagged(*rows):
    return "".join(json.dumps({"words": ["a"] * len(row), "tags": list(row)}) + "\n" for row in rows)


GLUE = {"train": {"0": 30, "1": 35}, "test": {"-1": 40}}  # also of HellaSwag and of hidden tests of its kind
SNLI = {"train": {"0": 183_416, "1": 182_764, "2": 183_187, "-1": 785}, "test": {"0": 3_368, "1": 3_219, "-1": 176}}
GOLD = {"train": {"entailment": 183_416, "neutral": 182_764, "contradiction": 183_187, "-": 785}}
SENTIMENT = {"train": {"-1": 20, "0": 50, "1": 30}, "test": {"-1": 4, "1": 3}}


@pytest.mark.parametrize("counts, missing", [
    (GLUE, {"-1"}),
    (SNLI, {"-1"}),
    (GOLD, {"-"}),
    (SENTIMENT, set()),
    ({"train": {"-1": 5, "1": 5}}, set()),
    ({"train": {"-2": 5, "-1": 1, "0": 90, "1": 5, "2": 9}}, set()),
    ({"train": {"-1": 1, "0": 50, "1": 50}}, {"-1"}),  # rare beside 0 and 1
    ({"train": {"-1": 90, "1": 5, "2": 5, "3": 5}}, {"-1"}),  # no scale has it
    ({"train": {"pos": 5, "neg": 5, "-1": 2, "-100": 1, "": 3, " ": 1}}, {"-1", "-100", "", " "}),
    ({"train": {"+": 5, "-": 5}}, set()),
    ({"train": {"+": 5, "-": 5, "0": 2}}, set()),
    ({"train": {".": 5, "?": 2, "word": 9}, "test": {"-": 1}}, set()),  # marks are classes here
    ({"train": {"yes": 5, "no": 5, "?": 2, "_": 1}}, {"?", "_"}),
    ({"train": {"yes": 5, "?": 2}}, set()),  # else there were one class
    ({"train": {"-100": 5, "100": 5}}, {"-100"}),
    ({"train": {"yes": 5, "no": 0, "": 0}}, set()),
    ({"test": {"1": 5, "2": 3, "-1": 2}}, {"-1"}),  # no split train
])  # fmt: skip
def test_which_labels_are_missing(counts, missing):
    assert missing_labels(counts) == missing


def test_a_sign_that_most_words_have_says_that_they_are_nothing_else():
    counts = {"train": {"B-X": 20, "I-X": 10, "-": 70}}
    assert missing_labels(counts, of_words=True) == set() and missing_labels(counts) == {"-"}
    assert missing_labels({"train": {"NOUN": 50, "VERB": 45, "_": 5}}, of_words=True) == {"_"}
    assert missing_labels({"train": {"NN": 50, "VB": 45, ".": 9, "_": 5}}, of_words=True) == set()


@pytest.mark.parametrize("tags", [["B_X", "I_X"], ["X-B", "X-I"], ["B", "I"], ["b-x", "i-x"]])
def test_a_sign_beside_tags_of_entities_is_their_o(tags):
    dense = {tags[0]: 50, tags[1]: 50}
    assert missing_labels({"train": {**dense, "_": 5}}, of_words=True) == set()
    assert missing_labels({"train": {**dense, "-": 5}}, of_words=True) == set()
    assert missing_labels({"train": {**dense, "O": 5, "_": 5}}, of_words=True) == {"_"}  # there is an O
    assert missing_labels({"train": {**dense, "?": 5}}, of_words=True) == {"?"}
    assert missing_labels({"train": {**dense, "_": 5}}) == {"_"}


def test_marks_that_somebody_named_are_the_only_ones():
    counts = {"train": {"-1": 5, "0": 90, "1": 90, "-": 1, "unsure": 3, "": 2}}
    assert missing_labels(counts, ("unsure", "-1", "never")) == {"unsure", "-1", ""}
    assert missing_labels(counts, ()) == {""}


def test_labels_of_rows(make):
    dataset = make(
        {"train.jsonl": lines("label", 0, 1, None, math.nan, "", -1, 1, 2), "test.jsonl": lines("label", -1)}
    )
    assert dataset.labels == {"label": ["0", "1", "2"]}
    assert dataset.split("train").values("label").tolist() == [0, 1, -1, -1, -1, -1, 1, 2]
    assert dataset.split("test").values("label").tolist() == [-1]
    assert make.summary["train"].unlabelled == {"label": {"": 3, "-1": 1}}
    assert make.summary["test"].unlabelled == {"label": {"-1": 1}} and make.summary["test"].labels["label"]["0"] == 0
    dataset.verify()
    dataset = make({"train.tsv": "text\tlabel\na\tx\nb\t\nc\ty\nd\t-\n"})
    assert dataset.labels == {"label": ["x", "y"]}
    assert dataset.split("train").values("label").tolist() == [0, -1, 1, -1]


def test_labels_of_words(make):
    for content in (
        tagged(["N", None, "V"], ["_", "", "N"], [-100, "V", "N"]),
        tagged(["N", "_", "V"], ["_", "_", "N"], ["_", "V", "N"]),
    ):
        dataset = make({"train.jsonl": content})
        assert dataset.labels == {"tags": ["N", "V"]}
        both = zip(rows_of(dataset, "tags"), rows_of(dataset, "word"), strict=True)
        of_words = [tags[np.flatnonzero(np.diff(word, prepend=-1) > 0)].tolist() for tags, word in both]
        assert of_words == [[0, -1, 1], [-1, -1, 0], [-1, 1, 0]]
        assert sum(make.summary["train"].unlabelled["tags"].values()) == 4
    dataset = make({"train.jsonl": tagged(["N", "V"]) + json.dumps({"words": ["a"], "tags": None})})
    assert rows_of(dataset, "tags")[1].max() == -1
    dataset = make({"train.conll": "a\tN\nb\t\nc\tV\n"})
    assert dataset.labels == {"tags": ["N", "V"]} and make.summary["train"].unlabelled == {"tags": {"": 1}}


def test_numbers(make):
    """-1 is a number; in STS-B of GLUE it stands for each number of the split test."""
    content = lines("score", 2.5, None, math.nan, "", -1)
    dataset = make({"train.jsonl": content, "test.jsonl": lines("score", -1.0, -1, None)}, number=("score",))
    np.testing.assert_array_equal(dataset.split("train").values("score"), np.float32([2.5] + [np.nan] * 3 + [-1]))
    assert dataset.split("test").values("score")[:2].tolist() == [-1, -1]  # train has it, too
    assert make.summary["train"].numbers == {"score": (-1, 2.5)}
    assert make.summary["train"].unlabelled == {"score": {"": 3}}
    files = {"train.tsv": "text\tscore\na\t0\nb\t5\nc\t\nd\tNaN\n", "test.tsv": "text\tscore\na\t-1\nb\t-1.0\nc\t\n"}
    dataset = make(files, number=("score",))
    np.testing.assert_array_equal(dataset.split("train").values("score"), np.float32([0, 5, np.nan, np.nan]))
    assert np.isnan(dataset.split("test").values("score")).all() and "score" not in make.summary["test"].numbers
    assert make.summary["test"].unlabelled == {"score": {"": 1, "-1": 2}}
    dataset.verify()
    dataset = make(files, number=("score",), missing=())
    assert dataset.split("test").values("score")[:2].tolist() == [-1, -1]
    dataset = make({"train.tsv": "text\tscore\na\t-9\nb\t5\nc\t?\n"}, number=("score",), missing=("-9.0", "?"))
    np.testing.assert_array_equal(dataset.split("train").values("score"), np.float32([np.nan, 5, np.nan]))


def test_lists(make):
    dataset = make({"train.jsonl": lines("answers", ["x", "y"], [], None, "", "z")}, lists=("answers",))
    assert [row.tobytes() for row in rows_of(dataset, "answers")] == [b"x\ny", b"", b"", b"", b"z"]
    assert make.summary["train"].unlabelled == {"answers": {"": 3}}


def test_answers_that_are_hidden(make):
    row = {"question": "who?", "context": "the fox", "answers": {"text": ["fox"], "answer_start": [4]}}
    for empty in ({"text": [], "answer_start": []}, [], None):
        hidden = json.dumps({**row, "answers": empty}) + "\n"
        dataset = make({"train.jsonl": json.dumps(row), "test.jsonl": hidden * 2})
        assert "answer" not in dataset.split("test").columns and dataset.split("test").rows == 2
        dataset = make({"train.jsonl": json.dumps(row), "test.jsonl": hidden + json.dumps(row)}, on_bad_answer="skip")
        assert dataset.split("test").values("answer").tolist() == [dataset.split("train").values("answer")[0].tolist()]
        with pytest.raises(DataError, match=r"test\.jsonl:1: the question has no answer"):
            make({"train.jsonl": json.dumps(row), "test.jsonl": hidden + json.dumps(row)})


@pytest.mark.parametrize("train, test, fields, columns", [
    ("text\tgold\ta\na\tx\t1\n", "text\na\n", {"label": ("gold",), "number": ("a",)}, {"tokens"}),
    (tagged(["N", "V"]), '{"words": ["a"]}', {"tags": "tags"}, {"tokens", "word"}),
    (lines("best", ["a"]), '{"text": "a"}', {"lists": ("best",)}, {"tokens"}),
])  # fmt: skip
def test_other_splits_may_have_no_labels_even_if_they_were_asked_for(make, train, test, fields, columns):
    end = "jsonl" if train.startswith("{") else "tsv"
    dataset = make({f"train.{end}": train, f"test.{end}": test}, **fields)
    assert set(dataset.split("test").columns) == columns < set(dataset.split("train").columns)
    with pytest.raises(DataError, match=r"there is no field"):
        make({f"train.{end}": test, f"test.{end}": train}, **fields)
    with pytest.raises(DataError, match=rf"test2\.{end}:1: there is no field"):
        make({f"train.{end}": train, f"test1.{end}": train, f"test2.{end}": test}, **fields)


@pytest.mark.fault(12)
def test_labels_do_not_depend_on_workers_and_chunks(make, tmp_path, monkeypatch):
    values = [*range(12), -1, None, 3, -1] * 9
    results = []
    for workers, chunk in ((0, 1 << 20), (3, 40)):
        monkeypatch.setattr(readers, "CHUNK", chunk)
        monkeypatch.setattr(pipeline, "CHUNK", chunk)
        make({"train.jsonl": lines("label", *values), "test.jsonl": lines("label", -1, 2)}, workers=workers)
        results.append(content_of(tmp_path / "out"))
    assert results[0] == results[1]
    assert Dataset.open(tmp_path / "out").labels["label"] == [str(number) for number in range(12)]


def test_what_was_taken_for_what_is_said(make):
    make({"train.jsonl": lines("label", -1, 0, 1), "test.jsonl": lines("label", "?")})
    said = [tuple(guess) for guess in guesses_of_marks(make.summary, Fields())]
    assert said == [("label ?", "no label", "--missing-label"), ("label -1", "a label", "--missing-label -1")]
    assert guesses_of_marks(make.summary, Fields(missing=())) == []


def test_labels_that_have_names_are_numbers_from_0(make):
    dataset = make({"train.jsonl": lines("label", -1, 0, 1, "?", -1)}, label_names={"label": ["no", "yes"]})
    assert dataset.labels == {"label": ["no", "yes"]}
    assert dataset.split("train").values("label").tolist() == [-1, 0, 1, -1, -1]


def test_labels_that_a_program_wrote_as_numbers_with_a_decimal_point(make):
    """pandas writes 0, 1 and a missing label as 0.0, 1.0 and an empty field; files without one have 0 and 1."""
    files = {
        "train.csv": "text,label\na,0.0\nb,1.0\nc,\nd,2.0\ne,nan\n",
        "valid.csv": "text,label\na,0\nb,1\n",
        "test.csv": "text,label\na,-1.0\n",
    }
    dataset = make(files)
    assert dataset.labels == {"label": ["0", "1", "2"]}
    assert dataset.split("train").values("label").tolist() == [0, 1, -1, 2, -1]
    assert dataset.split("valid").values("label").tolist() == [0, 1]
    assert make.summary["test"].unlabelled == {"label": {"-1": 1}}
    for mark in ("-1", "-1.0"):
        assert make(files, missing=(mark,)).labels == {"label": ["0", "1", "2"]}
    named = make(files, label_names={"label": ["no", "yes", "maybe"]})
    assert named.split("train").values("label").tolist() == [0, 1, -1, 2, -1]
    assert make({"train.csv": "text,label\na,1.0\nb,2.5\n"}).labels == {"label": ["1.0", "2.5"]}
    assert make({"train.csv": "text,label\na,1.0\nb,x\n"}).labels == {"label": ["1.0", "x"]}


def test_nan_as_a_text_is_no_label(make):
    assert make({"train.tsv": "text\tlabel\na\tx\nb\tNaN\nc\ty\n"}).labels == {"label": ["x", "y"]}
    languages = {"train": {"nan": 5, "deu": 5, "eng": 5}}  # nan: Min Nan Chinese
    assert missing_labels(languages) == set()


def test_blanks_around_labels_and_names_of_columns_are_no_part_of_them(make):
    dataset = make({"train.csv": "text, label\na, pos\nb,pos \nc, neg\n"})
    assert dataset.labels == {"label": ["neg", "pos"]}
    assert dataset.split("train").values("label").tolist() == [1, 1, 0]
    assert make({"train.tsv": "text\t label\na\t pos\nb\tpos\n"}).labels == {"label": ["pos"]}
    assert make({"train.jsonl": lines("label", " pos", "pos", "neg")}).labels == {"label": ["neg", "pos"]}
    assert make({"train.jsonl": tagged(["N", " N"], ["V"])}).labels == {"tags": ["N", "V"]}
