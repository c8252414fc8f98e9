"""Meta-masking as its user meets it: trained, gone on with, in two processes, and its policy written into a dataset."""

import json
import random

import numpy as np
import pytest
import torch
from training_help import Crash, Launch, last, same_runs, train_until

from taskmask import Settings
from taskmask.data.dataset import Dataset
from taskmask.errors import ConfigError
from taskmask.inference.annotate import annotate
from taskmask.inference.evaluate import evaluate
from taskmask.training.train import train
from taskmask_cli.preprocess import main as preprocess

PLACES = ("arlen", "brisk", "corva", "dunmoor")
MODEL = {"layers": 1, "width": 32, "heads": 2, "dropout": 0.0, "attention_dropout": 0.0}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Texts about people, their place as label, and the same with questions."""
    folder, numbers = tmp_path_factory.mktemp("meta"), random.Random(1)
    labelled, asked = [], []
    for number in range(120):
        name, place = f"name{number % 30}", PLACES[number % 4]
        noise = " ".join(numbers.choices(("green", "old", "house", "boat", "tree", "and"), k=6))
        text = f"{name} was born in {place} {noise}"
        labelled.append(f"{place}\t{text}")
        asked.append(json.dumps({"context": text, "question": f"where was {name} born", "answers": [place]}))
    (folder / "labelled.tsv").write_text("label\ttext\n" + "\n".join(labelled) + "\n")
    (folder / "asked.jsonl").write_text("\n".join(asked) + "\n")
    words = ["--train", str(folder / "labelled.tsv"), "--valid", str(folder / "labelled.tsv"), "--workers", "0"]
    assert preprocess([*words, "--out", str(folder / "labelled"), "--vocab-size", "300"]) == 0
    words = ["--train", str(folder / "asked.jsonl"), "--valid", str(folder / "asked.jsonl"), "--workers", "0"]
    columns = ["--text", "context", "question", "--list", "answers", "--vocab", str(folder / "labelled")]
    assert preprocess([*words, *columns, "--out", str(folder / "asked")]) == 0
    return folder


def tables(folder, run, asked=False, **changes):
    given = {
        "data": {"path": str(folder / ("asked" if asked else "labelled")), "length": 48},
        "task": {"name": "meta_masking", **({"question": "question"} if asked else {})},
        "model": {"name": "bart_tiny", "decoder_layers": 1, **MODEL} if asked else {"name": "tiny", **MODEL},
        "train": {"steps": 6, "max_tokens": 400, "valid_every": 3, "micro_batches_per_step": 2},
        "run": {
            "folder": str(run),
            "threads": 1,
            "save_every": 2,
            "log_every": 2,
            "tensorboard": False,
            "keep_last": 9,
        },
    }
    return {key: {**value, **changes.get(key, {})} for key, value in {**given, "criterion": {}}.items()}


@pytest.mark.parametrize("gradient", ["exact", "finite_difference", "reinforce"])
@pytest.mark.parametrize("asked", [False, True])
def test_trained_measured_and_applied(folder, tmp_path, asked, gradient):
    criterion = {"name": "meta_mask", "gradient": gradient, "samples": 2}
    train(Settings.of(tables(folder, tmp_path / "run", asked, criterion=criterion)))
    found = evaluate(str(tmp_path / "run"), split="valid")
    assert found["gain"] == pytest.approx(found["task_loss"] - found["loss"]) and found["mlm_loss"] > 0
    name = f"{gradient}{asked}"
    annotate(str(tmp_path / "run"), str(folder / "labelled"), {name: "policy"}, ["train"])
    split = Dataset.open(folder / "labelled").split("train")
    scores = np.asarray(split.values(name))
    assert scores.dtype == np.float32 and len(scores) == split.num_tokens
    known = scores[~np.isnan(scores)]  # all but what closes a row
    assert len(known) == split.num_tokens - split.rows and known.std() > 0 and ((known >= 0) & (known <= 1)).all()


def test_the_loss_after_the_inner_step_falls(folder, tmp_path):
    more = {"steps": 60, "valid_every": 30, "micro_batches_per_step": 1}
    train(Settings.of({**tables(folder, tmp_path / "run", True, train=more), "optim": {"lr": 3e-3}}))
    lines = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    first, last = (line["loss"] for line in lines if line["kind"] == "valid")
    assert last < 0.93 * first
    annotate(str(tmp_path / "run"), str(folder / "labelled"), {"learned": "policy"}, ["train"])
    split, vocab = Dataset.open(folder / "labelled").split("train"), Dataset.open(folder / "labelled").vocabulary()
    scores, tokens = np.asarray(split.values("learned"), np.float64), np.asarray(split.values("tokens"))
    place = np.isin(tokens, np.unique(np.concatenate(vocab.encode(list(PLACES)))))
    assert np.nanmean(scores[place]) > 1.2 * np.nanmean(scores[~place])  # what is asked for is what it masks


def test_the_log_has_the_loss_without_the_bonus_for_entropy_and_without_dropout(folder, tmp_path):
    """So that a gain is what the inner steps gain; what the policy minimises has a name of its own."""
    first = {}
    for name, entropy in (("without", 0.0), ("with", 3.0)):
        given = tables(folder, tmp_path / name, train={"steps": 1}, criterion={"entropy": entropy})
        given["model"] |= {"dropout": 0.3, "attention_dropout": 0.3}
        train(Settings.of(given))
        first[name] = json.loads((tmp_path / name / "log.jsonl").read_text().splitlines()[0])
    plain, shaped = first["without"], first["with"]
    assert {"objective", "entropy_bonus"} <= shaped.keys() - plain.keys()
    assert shaped["objective"] == pytest.approx(shaped["loss"] - shaped["entropy_bonus"])
    assert shaped["entropy_bonus"] > 1
    for name in ("loss", "task_loss", "gain", "mlm_loss"):
        assert shaped[name] == pytest.approx(plain[name], rel=1e-5, abs=1e-6)
    assert plain["gain"] == pytest.approx(plain["task_loss"] - plain["loss"], abs=1e-6) and abs(plain["gain"]) < 0.02


def test_stopped_and_gone_on_with(folder, tmp_path, monkeypatch):
    train(Settings.of(tables(folder, tmp_path / "whole")))
    settings = Settings.of(tables(folder, tmp_path / "parts"))
    assert isinstance(train_until(settings, "crash", 4, monkeypatch), Crash)
    train(settings)
    same_runs(tmp_path / "whole", tmp_path / "parts")


@pytest.mark.parametrize(
    ("asked", "options"),
    [
        (False, {"gradient": "exact"}),
        (False, {"gradient": "finite_difference"}),
        (False, {"gradient": "reinforce"}),
        (True, {"gradient": "exact", "inner_steps": 2}),
    ],
)
def test_two_processes_learn_what_one_learns(folder, tmp_path, asked, options):
    for ranks in (1, 2):
        given = tables(folder, tmp_path / f"run{ranks}", asked, criterion={"name": "meta_mask", **options})
        launch = Launch(tmp_path / f"launch{ranks}", given, ranks=ranks)
        assert launch.wait(120) == [0] * ranks, launch.text()
    one, two = (last(tmp_path / f"run{ranks}")["model"] for ranks in (1, 2))
    assert one.keys() == two.keys() and any("policy" in name for name in one)
    for name in one:
        torch.testing.assert_close(one[name], two[name], atol=1e-5, rtol=1e-4)


def test_what_is_no_task_is_said(folder, tmp_path):
    with pytest.raises(ConfigError, match=r"model\.name: is tiny"):
        train(Settings.of({**tables(folder, tmp_path / "x", True), "model": {"name": "tiny"}}))
    with pytest.raises(ConfigError, match=r"model\.name: is bilstm, which takes no blend of texts.*expected a transf"):
        train(Settings.of({**tables(folder, tmp_path / "x"), "model": {"name": "bilstm"}}))
    compiled = tables(folder, tmp_path / "x")
    compiled["run"] = {**compiled["run"], "compile": True}
    with pytest.raises(ConfigError, match=r"run\.compile: is true, but compiled models have no second derivatives"):
        train(Settings.of(compiled))
    with pytest.raises(ConfigError, match=r"task\.ratio: is 0.*above 0"):
        Settings.of({**tables(folder, tmp_path / "x"), "task": {"name": "meta_masking", "ratio": 0}})
