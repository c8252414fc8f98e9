"""The commands that a command prints for what comes next: each runs as it stands, whatever the folders are called."""

import json
import re
import shlex

import pytest

from taskmask_cli import main as front

WORDS = ("function", "returns", "list", "of", "values", "when", "argument", "object", "raises", "error", "otherwise")
COMMAND = re.compile(r"(?:taskmask-preprocess|taskmask-train|taskmask \w+|tensorboard) .*")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a blank and a quote in its name, and a file of labelled texts in it."""
    folder = tmp_path_factory.mktemp("next") / "it's a $HOME"
    folder.mkdir()
    for name, number in (("train", 120), ("valid", 24)):
        texts = [" ".join(WORDS[(n * 3 + i) % len(WORDS)] for i in range(9)) for n in range(number)]
        lines = [json.dumps({"text": text, "label": "ab"[n % 2]}) for n, text in enumerate(texts)]
        (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n")
    return folder


def run(capfd, *words):
    """Runs a command line; returns the commands that it prints."""
    capfd.readouterr()
    assert front.run(front.main, [*map(str, words)]) == 0
    out = "".join(capfd.readouterr())
    return [shlex.split(found) for found in COMMAND.findall(out)]


def again(command):
    """A printed command as arguments of the front door."""
    return [command[0].removeprefix("taskmask-"), *command[1:]] if "-" in command[0] else command[1:]


def test_they_run_as_they_stand(place, tiny, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    data, folder = place / "data", place / "run"
    files = ["--train", place / "train.jsonl", "--valid", place / "valid.jsonl", "--workers", 0]
    (command,) = run(capfd, "preprocess", *files, "--out", data, "--vocab-size", 290)
    assert again(command)[:3] == ["train", "--data", str(data)]
    board, *commands = run(capfd, *again(command), *tiny, "--run", folder, "--run.tensorboard", "true")
    assert board == ["tensorboard", "--logdir", str(folder)]
    assert [command[1] for command in commands] == ["evaluate", "predict"]
    (after,) = run(capfd, "annotate", "--data", data, "--from", folder, "--column", "mine=label")
    listed = place / "list.tsv"
    (marked,) = run(capfd, "collocations", "--data", data, "--out", listed, "--min-count", 2)
    (seen,) = run(capfd, "spans", "--data", data, "--column", "salient", "--heuristic")
    for command in [*commands, after, marked, seen]:
        run(capfd, *again(command))


def test_a_converted_model(place, tiny, tmp_path, monkeypatch, capfd):
    pytest.importorskip("tokenizers")
    monkeypatch.chdir(tmp_path)
    run(capfd, "preprocess", "--train", place / "train.jsonl", "--out", "bin", "--vocab-size", 290, "--workers", 0)
    run(capfd, "train", "--data", "bin", "--run", place / "lm", *tiny)
    run(capfd, "convert", "--run", place / "lm", "--to-hf", place / "hf")
    prepare, train = run(capfd, "convert", "--from-hf", place / "hf", "--run", place / "back")
    files = [str(place / f"{name}.jsonl") for name in ("train", "valid")]
    words = [files[0] if word == "train.txt" else files[1] if word == "valid.txt" else word for word in again(prepare)]
    (following,) = run(capfd, *words)
    assert following[-2:] == ["--train.init_from", str(place / "back")] or str(place / "back") in following
    run(capfd, *again(train), *[word for word in tiny if not word.startswith("--model")][3:])


def test_errors_name_commands_that_run(place, tmp_path, monkeypatch, capfd):
    from taskmask.data.dataset import Dataset
    from taskmask.errors import TaskmaskError
    from taskmask.inference.loaded_model import load

    monkeypatch.chdir(tmp_path)
    run(capfd, "preprocess", "--train", place / "train.jsonl", "--out", "other", "--vocab-size", 284, "--workers", 0)
    with pytest.raises(TaskmaskError, match="--vocab") as error:
        load(str(place / "run")).check_vocabulary("other")
    (command,) = COMMAND.findall(str(error.value))
    assert Dataset.open(shlex.split(command)[-1]).splits


def test_a_label_that_says_which_choice_is_right(place, tmp_path, capfd):
    line = {"text": "which one is it", "choices": ["this one", "that one"], "answer_index": 1}
    (tmp_path / "a.jsonl").write_text("".join(json.dumps({**line, "answer_index": n % 2}) + "\n" for n in range(90)))
    words = ["preprocess", "--train", tmp_path / "a.jsonl", "--out", tmp_path / "data", "--vocab", place / "data"]
    (command,) = run(capfd, *words, "--list", "choices", "--label", "answer_index")
    assert command[3:] == ["--run", "runs/first", "--task", "classification", "--task.label", "answer_index"]
