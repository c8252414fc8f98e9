"""taskmask-preprocess on labelled data: numbers, tagged words, questions, and what its summary says of them."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import taskmask.errors
from taskmask.data.dataset import Dataset
from taskmask.errors import ConfigError, DataError
from taskmask_cli.preprocess import main, make_parser

ROOT = Path(taskmask.errors.__file__).parents[1]
SHARED = ROOT.parent / "shared" / "data"
QUESTION = {"question": "who jumps?", "context": "the quick brown fox", "answers": ["fox"], "answer_start": [16]}


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A dataset whose vocabulary the others take."""
    folder = tmp_path_factory.mktemp("base")
    (folder / "train.txt").write_text("the quick brown fox jumps over the lazy dog, 0123456789 times\n" * 20)
    main(["--train", str(folder / "train.txt"), "--out", str(folder / "base"), "--vocab-size", "300", "--workers", "0"])
    return str(folder / "base")


@pytest.fixture
def make(tmp_path, base, capsys, monkeypatch):
    """make({"train.tsv": content}, *options) -> the dataset, and what was printed."""
    monkeypatch.chdir(tmp_path)

    def make(files, *options):
        capsys.readouterr()
        arguments = ["--out", "out", "--overwrite", "--vocab", base, "--workers", "0"]
        for name, content in files.items():
            Path(name).write_text(content)
            arguments += [f"--{name.split('.')[0]}", name]
        assert main([*arguments, *options]) == 0
        return Dataset.open("out"), capsys.readouterr().out

    return make


def test_numbers(make):
    content = "first\tsecond\tscore\nthe fox\tthe dog\t0.5\n\tfox\t4\n"
    dataset, printed = make(
        {"train.tsv": content, "valid.tsv": content}, "--text", "first", "second", "--number", "score"
    )
    assert dataset.split("valid").values("score").tolist() == [0.5, 4]
    assert "score of train: 0.5 to 4" in printed
    assert "rows without text: 2 (train 1, valid 1)" in printed


def test_tags(make):
    dataset, printed = make({"train.conll": "the DT O\nfox NN B-X\n\ndog NN B-X\n"})
    assert dataset.labels == {"tags": ["B-X", "O"]} and "tags of train: B-X 2, O 1" in printed
    assert "rows without" not in printed and "left out" not in printed
    dataset, _ = make({"train.conll": "the DT O\nfox NN B-X\n"}, "--tag-column", "2", "--tags", "pos")
    assert dataset.labels == {"pos": ["DT", "NN"]}
    row = json.dumps({"text": "unused", "tokens": ["the", "fox"], "ner": [0, 1]})
    dataset, _ = make({"train.jsonl": row}, "--words", "tokens", "--tags", "ner")
    assert set(dataset.split("train").columns) == {"tokens", "word", "ner"}


def test_tags_that_are_numbers_can_be_named(make, tmp_path):
    row = json.dumps({"words": ["the", "fox", "dog"], "tags": [0, 1, 2]})
    dataset, printed = make({"train.jsonl": row})
    assert dataset.labels == {"tags": ["0", "1", "2"]}
    assert "entities are not measured: the labels are numbers; " in printed and "--label-names O B-PER" in printed
    dataset, printed = make({"train.jsonl": row}, "--label-names", "O", "B-PER", "I-PER")
    assert dataset.labels == {"tags": ["O", "B-PER", "I-PER"]} and "tags of train: O 1, B-PER 1, I-PER 1" in printed
    assert "\nentities: IOB; 1 type (PER)\n" in printed
    Path("info.json").write_text(json.dumps({"features": {"tags": {"feature": {"names": ["O", "S-X", "Q-X"]}}}}))
    assert "the prefix 'Q' of label 'Q-X' is unknown" in make({"train.jsonl": row}, "--label-names", "info.json")[1]
    with pytest.raises(ConfigError, match="--label-names: there are no labels to name"):
        make({"train.jsonl": '{"text": "the fox"}'}, "--label-names", "no", "yes")


def test_questions(make):
    bad = {**QUESTION, "answer_start": [3]}
    content = "\n".join(map(json.dumps, [QUESTION, bad, QUESTION, bad]))
    with pytest.raises(DataError, match=r"train\.jsonl:2: .*--on-bad-answer skip"):
        make({"train.jsonl": content})
    dataset, printed = make({"train.jsonl": content}, "--on-bad-answer", "skip")
    assert dataset.split("train").rows == 2
    assert re.search(r"rows left out for their answers: 2 \(train 2\)\n  the first: train\.jsonl:2: at char", printed)
    dataset, _ = make({"train.jsonl": json.dumps({**QUESTION, "text": "x"})}, "--answers")
    assert "answer" in dataset.split("train").columns
    nested = {"data": [{"paragraphs": [{"context": "the fox", "qas": [{"question": "who?", "answers": [
        {"text": "fox", "answer_start": 4}]}]}]}]}  # fmt: skip
    dataset, _ = make({"train.any": json.dumps(nested)}, "--input-format", "squad")
    assert dataset.split("train").values("text").tobytes() == b"the fox"


def test_a_new_vocabulary_is_trained_on_all_texts_of_the_rows(tmp_path):
    (tmp_path / "train.jsonl").write_text(json.dumps({**QUESTION, "question": "Ж"}))
    options = ["--vocab-size", "278", "--character-coverage", "1"]
    main(["--train", str(tmp_path / "train.jsonl"), "--out", str(tmp_path / "out"), *options])
    assert any("Ж" in piece for piece in Dataset.open(tmp_path / "out").vocabulary().pieces(range(278)))


@pytest.mark.parametrize("options, message", [
    (["--text", "a", "--words", "b"], r"--text: does not go with --words"),
    (["--text", "a", "--answers"], r"--text: does not go with --answers"),
    (["--answers", "--tags", "b", "--tag-column", "2"], r"--answers: does not go with --tags and --tag-column"),
    (["--tag-column", "0"], r"--tag-column"),
    (["--on-bad-answer", "mend"], r"--on-bad-answer"),
])  # fmt: skip
def test_options_that_do_not_go_together(tmp_path, options, message):
    with pytest.raises(ConfigError, match=message):
        main(["--train", "a.jsonl", "--out", str(tmp_path / "x"), *options])


def test_help_tells_of_every_form():
    help = make_parser().format_help()
    for part in ("--number score", ".conll", '"words": [', '"answer_start": [', "train-v1.1.json", "--words tokens"):
        assert part in help


@pytest.mark.fault(9)
@pytest.mark.parametrize("name, how", [("train.json", signal.SIGKILL), ("train.conll", signal.SIGTERM)])
def test_killed_in_the_middle(tmp_path, base, name, how):
    (tmp_path / "tmp").mkdir()
    question = {"question": "who?", "answers": [{"text": "fox", "answer_start": 16}]}
    paragraphs = [{"context": QUESTION["context"] * 20, "qas": [question]}] * 15_000
    nested = json.dumps({"data": [{"paragraphs": paragraphs}]})
    (tmp_path / name).write_text(nested if name == "train.json" else ("fox X\n" * 50 + "\n") * 20_000)
    code = "import sys; from taskmask_cli.preprocess import main; sys.exit(main(sys.argv[1:]))"
    arguments = ["--train", str(tmp_path / name), "--out", str(tmp_path / "x"), "--vocab", base, "--workers", "0"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path / "tmp")}
    process = subprocess.Popen([sys.executable, "-c", code, *arguments], env=environment, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 30
    while not any(file.stat().st_size for file in tmp_path.glob("x.partial-*/train/tokens.bin")):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.01)
    process.send_signal(how)
    assert process.wait(20) != 0
    assert not list((tmp_path / "tmp").iterdir())
    left = {path.name.partition("-")[0] for path in tmp_path.iterdir()} - {name, "tmp"}
    assert left == ({".x.lock", "x.partial"} if how == signal.SIGKILL else set())


@pytest.mark.skipif(not SHARED.is_dir(), reason="the data is not here")
def test_real_intents_and_aspects(tmp_path, base, capsys):
    folder = SHARED / "clinc150"
    arguments = ["--vocab", base, "--out", str(tmp_path / "intents"), "--workers", "2"]
    main(["--train", str(folder / "train.tsv"), "--valid", str(folder / "val.tsv"), *arguments])
    dataset = Dataset.open(tmp_path / "intents")
    assert len(dataset.labels["label"]) == 150 and dataset.split("train").rows == 14_944
    assert np.bincount(dataset.split("valid").values("label")).tolist() == [20] * 150
    folder = SHARED / "semeval14"
    arguments = ["--vocab", base, "--out", str(tmp_path / "aspects"), "--text", "text", "aspect", "--workers", "2"]
    main(["--train", str(folder / "laptop_train.tsv"), "--test", str(folder / "laptop_test.tsv"), *arguments])
    dataset = Dataset.open(tmp_path / "aspects")
    assert dataset.split("train").rows == 2327 and set(dataset.split("train").columns) == {"tokens", "aspect", "label"}
    assert dataset.labels["label"] == ["negative", "neutral", "positive"]
    assert "label of test: negative " in capsys.readouterr().out
    dataset.verify()


def test_without_answers_no_task_is_named(make):
    bare = json.dumps({key: QUESTION[key] for key in ("question", "context")})
    assert "--task" not in make({"train.jsonl": bare}, "--answers")[1]
    assert "--task span" in make({"train.jsonl": json.dumps(QUESTION)})[1]


def test_guesses_and_doubts_are_printed(make, capsys):
    content = 'text\tlabel\n"the ""quick"" fox"\tx\nthe dog\ty\n'
    _, printed = make({"train.tsv": content})
    assert "guessed from the files, and the option that says otherwise:\n  format  tsv  " in printed
    assert re.search(r"\n  label +field label +--label\n", printed)
    _, printed = make({"train.tsv": content}, "--quoted", "--text", "text", "--label", "label", "--input-format", "tsv")
    assert "guessed" not in printed
    _, printed = make({"train.txt": "the fox\n\nthe dog\n"})
    assert re.search(r"\n  documents +blank lines separate them +--documents\n", printed)


def test_a_table_that_looks_quoted_is_warned_of_early(make, tmp_path, base, capsys):
    make({"train.csv": "text;label\nthe fox;x\n"}, "--delimiter", ";")
    Path("train.tsv").write_text('text\tlabel\n"the ""quick"" fox"\tx\nbroken\n')
    with pytest.raises(DataError, match=r"train\.tsv:3"):
        main(["--train", "train.tsv", "--vocab", base, "--out", "other", "--workers", "0"])
    assert re.search(
        r"warning: train\.tsv: fields in quotation marks .*: 1, .* line 2; .* give --quoted", capsys.readouterr().err
    )
    with pytest.raises(ConfigError, match=r"--delimiter: .*'ab' is no mark between fields"):
        main(["--train", "train.csv", "--delimiter", "ab", "--out", "other"])


def test_missing_labels_are_counted_and_said(make, capsys):
    rows = [{"text": "the fox", "label": label} for label in ("pos", "neg", "-")]
    hidden = json.dumps({"text": "the dog", "label": "-"})
    files = {"train.jsonl": "\n".join(map(json.dumps, rows)), "test.jsonl": hidden}
    dataset, printed = make(files)
    assert dataset.labels == {"label": ["neg", "pos"]}
    assert "\nlabel of train: neg 1, pos 1; 1 of 3 have none (-)\nlabel of test: 1 of 1 have none (-)\n" in printed
    assert re.search(r"\n  label - +no label +--missing-label\n", printed)
    dataset, printed = make(files, "--missing-label")
    assert dataset.labels == {"label": ["-", "neg", "pos"]} and "have none" not in printed
    arguments = ["--train", "train.jsonl", "--out", "out", "--overwrite", "--vocab", "out", "--workers", "0"]
    assert main([*arguments, "--missing-label", "-", "neg", "nag"]) == 0
    assert Dataset.open("out").labels == {"label": ["pos"]}
    assert capsys.readouterr().err == "taskmask: warning: --missing-label nag: no label is 'nag'\n"
    _, printed = make({"train.tsv": "text\tscore\nfox\t1\nfox\t\n", "test.tsv": "text\nfox\n"}, "--number", "score")
    assert "score of train: 1 to 1; 1 of 2 have none (empty)\n" in printed
    assert re.search(r"\n  number +field score \(test: none\) +--number\n", printed)


@pytest.mark.parametrize("name", ["word", "starts", "ends", "answer"])
def test_a_number_may_be_named_as_a_column_of_another_form(name, make):
    lines = [{"second": "the dog", "text": "the fox", name: number} for number in (1000.5, -7)]
    make({"train.jsonl": "\n".join(map(json.dumps, lines))}, "--text", "second", "text", "--number", name)
    dataset = Dataset.open("out")
    assert dataset.verify() and dataset.split("train").values(name).tolist() == [1000.5, -7]
