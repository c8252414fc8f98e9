"""The real command lines: denoising, then writing the words of a text in another order, which must be solved."""

import io
import json
import random

import pytest

from taskmask import load
from taskmask.errors import ConfigError
from taskmask_cli.main import main

WORDS = ["red", "blue", "cat", "dog", "sun", "moon", "tree", "fish", "bird", "star", "rain", "snow"]
SMALL = ["--data.length", "16", "--run.device", "cpu", "--run.threads", "1", "--run.tensorboard", "false"]
MODEL = ["--model", "encoder_decoder", "--model.layers", "1", "--model.decoder_layers", "1", "--model.width", "64",
         "--model.heads", "4", "--model.dropout", "0", "--model.attention_dropout", "0",
         "--model.init_std", "0.1"]  # fmt: skip
FAST = ["--optim.lr", "3e-3", "--train.max_tokens", "256"]


def turned(text):
    return " ".join(reversed(text.split()))


def run(*words):
    assert main([str(word) for word in words]) == 0


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A corpus, questions with their answers and a wrong choice, and the models that were trained on them."""
    folder, numbers = tmp_path_factory.mktemp("turned"), random.Random(0)

    def text():
        return " ".join(numbers.choices(WORDS, k=numbers.randint(2, 4)))

    (folder / "corpus.txt").write_text("".join(f"{text()}\n" for _ in range(1500)))
    for split, size in (("train", 1500), ("test", 60)):
        rows = []
        for question in (text() for _ in range(size)):
            choices = sorted([turned(question), text()])
            rows.append({"question": question, "answers": [turned(question)], "choices": choices})
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    corpus, task = folder / "corpus", folder / "task"
    run("preprocess", "--train", f"{corpus}.txt", "--out", corpus, "--vocab-size", "292", "--vocab-kind", "unigram",
        "--documents", "line", "--workers", "0")  # fmt: skip
    files = ["--train", folder / "train.jsonl", "--test", folder / "test.jsonl"]
    run("preprocess", *files, "--text", "question", "--list", "answers", "choices", "--vocab", corpus, "--out", task,
        "--workers", "0")  # fmt: skip
    run("train", "--data", corpus, "--run", folder / "pre", "--task", "denoising", "--data.blocks", "sentence",
        "--train.steps", "60", *MODEL, *SMALL, *FAST)  # fmt: skip
    run("train", "--data", task, "--run", folder / "fine", "--task", "seq2seq", "--task.choices", "choices",
        "--train.init_from", folder / "pre", "--task.max_length", "12", "--train.steps", "200", *SMALL,
        *FAST)  # fmt: skip
    return folder


@pytest.fixture
def said(folder, capsys):
    """said(words) is what a command prints, as JSON: an object for each line."""

    def said(*words):
        capsys.readouterr()
        run(*words)
        return [json.loads(line) for line in capsys.readouterr().out.splitlines()]

    return said


def test_texts_are_written_in_another_order(folder, said):
    (found,) = said("evaluate", "--from", folder / "fine", "--split", "test", "--json")
    assert found["exact_match"] >= 0.9 and found["choice_accuracy"] >= 0.9 and found["accuracy"] > 0.9
    assert found["exact_match"] <= found["f1"] <= 1 and found["rouge2"] <= found["rouge1"]
    low, high = found["intervals"]["exact_match"]
    assert low <= found["exact_match"] <= high and found["rows"] == 60
    beams = ["--task.beams", "3", "--task.length_penalty", "0.5"]
    (searched,) = said("evaluate", "--from", folder / "fine", "--split", "test", "--json", *beams)
    assert searched["exact_match"] >= 0.9 and searched["loss"] == pytest.approx(found["loss"], rel=1e-6)


def test_what_is_cut_is_told(folder, capsys):
    run("evaluate", "--from", folder / "fine", "--split", "test", "--task.max_length", "4", "--json")
    assert "of 60 targets are cut to task.max_length 4\n" in capsys.readouterr().err


def test_predictions_take_the_options_of_the_task(folder, said):
    (long,) = said("predict", "--from", folder / "fine", "--json", "red blue sun")
    words = ["--json", "--task.max_length", "3", "red blue sun", "--task.beams=2"]
    (short,) = said("predict", "--from", folder / "fine", *words)
    assert long["generated"] != short["generated"] and long["generated"].startswith(short["generated"])
    with pytest.raises(ConfigError, match=r"unknown option task\.beems.*did you mean 'task\.beams'"):
        run("predict", "--from", folder / "fine", "--task.beems", "2", "red")


def test_a_sentence_is_written_and_choices_are_ranked(folder, said, monkeypatch, capsys):
    texts = ["red blue sun", "cat dog", "rain snow fish bird"]
    answers = said("predict", "--from", folder / "fine", "--json", *texts)
    assert sum(answer["generated"] == turned(text) for text, answer in zip(texts, answers, strict=True)) >= 2
    assert "choice" not in answers[0]
    record = {"text": "sun moon", "choices": ["sun moon", "moon sun", "star"]}
    monkeypatch.setattr("sys.stdin", io.StringIO(json.dumps(record)))
    (answer,) = said("predict", "--from", folder / "fine", "--jsonl", "--top", "2")
    assert answer["choice"] == "moon sun" == answer["ranked"][0]["choice"] and answer["probability"] > 0.5
    assert len(answer["ranked"]) == 2 and answer["choices"] == record["choices"]
    monkeypatch.setattr("sys.stdin", io.StringIO("sun moon\n"))
    run("predict", "--from", folder / "fine")
    assert capsys.readouterr().out.startswith("sun moon\n  = ")


def test_gaps_of_the_pre_trained_model_are_filled(folder, said):
    (answer,) = said("predict", "--from", folder / "pre", "--json", "red <mask> sun")
    assert set(answer) == {"text", "generated", "filled"} and "<mask>" not in answer["filled"]
    (found,) = said("evaluate", "--from", folder / "pre", "--split", "train", "--masker", "span", "--json")
    assert set(found["intervals"]) == {"loss", "perplexity", "accuracy"} and found["masker"]["name"] == "span"


def test_generated_texts_may_pick_the_best_checkpoint(folder):
    some = str(folder / "test.jsonl")
    run("preprocess", "--train", some, "--valid", some, "--text", "question", "--list", "answers", "choices",
        "--vocab", folder / "corpus", "--out", folder / "few", "--workers", "0")  # fmt: skip
    words = ["--task", "seq2seq", "--task.choices", "choices", "--task.max_length", "12", "--train.metric",
             "exact_match", "--train.init_from", folder / "fine", "--train.steps", "2", "--train.valid_every", "1",
             *SMALL, *FAST]  # fmt: skip
    with pytest.raises(ConfigError, match=r"is 'exact_match'; expected one of .*for more of them --task.validate true"):
        run("train", "--data", folder / "few", "--run", folder / "refused", *words)
    run("train", "--data", folder / "few", "--run", folder / "picked", *words, "--task.validate", "true")
    assert load(str(folder / "picked")).step in (1, 2)
