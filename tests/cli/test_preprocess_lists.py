"""taskmask-preprocess on questions with lists of answers and choices."""

import json
from pathlib import Path

import pytest

import taskmask.errors
from taskmask.data.dataset import Dataset
from taskmask.data.sequences.seq2seq import texts_of
from taskmask.errors import ConfigError, DataError
from taskmask_cli.preprocess import main

SHARED = Path(taskmask.errors.__file__).parents[2] / "shared" / "data"
ROWS = [
    {
        "question": "who is it that jumps over the lazy dogs, again and again, and never looks back?",
        "answers": ["the fox", "Ж\tfox"],
        "choices": ["a dog", "the fox"],
    },
    {
        "question": "who sleeps while the quick brown foxes are jumping over it, and does not even mind?",
        "answers": "a dog",
        "choices": ["a dog"],
    },
]


@pytest.fixture
def make(tmp_path, capsys):
    def make(rows, *options, name="train.jsonl"):
        text = "\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows)
        (tmp_path / name).write_text(text)
        size = [] if "--vocab" in options else ["--vocab-size", "310"]
        main(["--train", str(tmp_path / name), "--out", str(tmp_path / "out"), "--workers", "0", *size, *options])
        return Dataset.open(tmp_path / "out"), capsys.readouterr().out

    return make


def test_lists_are_kept_as_they_are(make):
    dataset, out = make(ROWS, "--text", "question", "--list", "answers", "choices", "--character-coverage", "1")
    split = dataset.split("train")
    assert [text.split("\n") for text in texts_of(split, "answers")] == [["the fox", "Ж fox"], ["a dog"]]
    assert [text.split("\n") for text in texts_of(split, "choices")] == [row["choices"] for row in ROWS]
    assert out.endswith("--run runs/first --task seq2seq --task.choices choices\n")
    vocab = dataset.vocabulary()
    assert any("Ж" in piece for piece in vocab.pieces(range(vocab.size)))  # it was trained on the answers, too


def test_what_is_to_be_done_next(make):
    rows = [{**row, "context": "foxes", "gold": row["answers"]} for row in ROWS]
    _, out = make(rows, "--text", "question", "context", "--list", "gold")
    assert out.endswith("--task seq2seq --task.target gold --task.pair context\n")


@pytest.mark.parametrize(
    ("value", "shown"), [(["", "a"], "''"), (["a", " "], "' '"), (["a", 3], "3"), ([["a"]], r"\['a'\]")]
)
def test_what_is_no_list_of_texts(make, value, shown):
    with pytest.raises(DataError, match=rf"train.jsonl:2: 'answers' is .*{shown}.*expected a (list of texts|string)"):
        make([ROWS[0], {**ROWS[1], "answers": value}], "--text", "question", "--list", "answers")


def test_a_list_that_is_lacking(make):
    with pytest.raises(DataError, match=r"train.jsonl:1: there is no field 'answer'.*did you mean 'answers'"):
        make(ROWS, "--text", "question", "--list", "answer")
    with pytest.raises(DataError, match=r"format tsv has no lists; expected the lists b.*use jsonl"):
        make(["text\tb", "x\ty"], "--list", "b", name="train.tsv")


def test_sentinels_are_for_a_new_vocabulary(make):
    dataset, _ = make(ROWS, "--text", "question", "--vocab-sentinels", "7")
    assert len(dataset.vocabulary().sentinels) == 7
    with pytest.raises(ConfigError, match=r"--vocab-sentinels: goes with a new vocabulary"):
        make(ROWS, "--text", "question", "--vocab-sentinels", "7", "--vocab", str(dataset.path), "--overwrite")


@pytest.mark.skipif(not SHARED.exists(), reason="the shared data are not here")
@pytest.mark.parametrize(
    ("file", "lists"), [("nq_open/dev.jsonl", 1), ("triviaqa/dev_dprtest.jsonl.gz", 1), ("commonsenseqa/dev.jsonl", 2),
                        ("openbookqa/test.jsonl", 2), ("arc_easy/test.jsonl", 2), ("arc_challenge/test.jsonl", 2)],
)  # fmt: skip
def test_real_questions(tmp_path, file, lists):
    columns = ["answers", "choices"][:lists]
    options = ["--out", str(tmp_path / "out"), "--vocab-size", "1500", "--vocab-kind", "bpe", "--vocab-sample", "1"]
    main(["--train", str(SHARED / file), "--text", "question", "--list", *columns, *options])
    split = Dataset.open(tmp_path / "out").split("train")
    answers = [text.split("\n") for text in texts_of(split, "answers")]
    assert split.rows == len(answers) > 400 and all(all(texts) for texts in answers)
    if lists == 2:
        choices = [text.split("\n") for text in texts_of(split, "choices")]
        assert all(right[0] in offered for right, offered in zip(answers, choices, strict=True))
