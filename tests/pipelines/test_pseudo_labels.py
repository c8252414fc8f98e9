"""Predictions for pre-training whole: a teacher's labels, what learns from them, and the labels of people last."""

import random

import numpy as np
import pytest
import torch
from planted_help import sentence, settings, write_tsv

from taskmask.data.dataset import Dataset
from taskmask.inference.evaluate import evaluate
from taskmask.inference.loaded_model import load
from taskmask.training.train import train
from taskmask_cli.annotate import main as annotate_command
from taskmask_cli.preprocess import main as preprocess

VARIANTS = ["pseudo_v1_joint", "pseudo_one_hot", "pseudo_kl_mlm", "pseudo_v4_kl"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Many labelled texts for the teacher, few for the student, and a corpus that holds some texts to be tested."""
    folder = tmp_path_factory.mktemp("pseudo")
    files = {name: write_tsv(folder / f"{name}.tsv", num, n)
             for n, (name, num) in enumerate({"train": 600, "valid": 150, "few": 40, "test": 300}.items())}  # fmt: skip
    words = [word for name in ("train", "valid", "test") for word in (f"--{name}", files[name])]
    preprocess([*words, "--out", str(folder / "task"), "--workers", "0", "--vocab-size", "500", "--vocab-kind", "bpe"])
    vocab = ["--vocab", str(folder / "task"), "--workers", "0"]
    preprocess(["--train", files["few"], "--test", files["test"], "--out", str(folder / "few"), *vocab])
    numbers = random.Random(9)
    tested = (folder / "test.tsv").read_text().splitlines()[1:6]
    lines = [line.split("\t")[1] for line in tested]
    lines += [sentence(numbers)[1] for _ in range(800)]
    (folder / "corpus.txt").write_text("".join(f"{line}\n" for line in lines))
    corpus = ["--train", str(folder / "corpus.txt"), "--out", str(folder / "corpus"), "--documents", "line"]
    preprocess([*corpus, *vocab])
    train(settings(folder, "task", "teacher", "classification", 250))
    assert evaluate(str(folder / "teacher"))["accuracy"] > 0.98
    columns = ["--column", "pseudo=label", "sure=confidence", "logits=logits", "--leave-out", str(folder / "few")]
    assert annotate_command(["--data", str(folder / "corpus"), "--from", str(folder / "teacher"), *columns]) == 0
    return folder


def tuned(folder, run, start="", data="few"):
    """The accuracy of a model that is fine-tuned on the few labels of people."""
    options = {"steps": 60, "init_from": str(folder / start) if start else "", "valid_every": 0}
    train(settings(folder, data, run, "classification", 60, train=options))
    return evaluate(str(folder / run), split="test")["accuracy"]


@pytest.fixture(scope="module")
def alone(folder):
    return tuned(folder, "alone")


def test_what_is_to_be_tested_has_no_label(folder):
    pseudo = np.asarray(Dataset.open(folder / "corpus").split("train").values("pseudo"))
    assert (pseudo[:5] == -1).all() and (pseudo >= 0).sum() >= len(pseudo) - 6


@pytest.mark.parametrize("name", ["pseudo_v4_kl", *(pytest.param(n, marks=pytest.mark.slow) for n in VARIANTS[:3])])
def test_a_model_that_learned_from_the_teacher_needs_few_labels(folder, alone, name):
    train(settings(folder, "corpus", name, name, 250))
    assert tuned(folder, f"{name}-tuned", name) > alone + 0.15


def test_classic_self_training_gains_less_where_people_labelled_more(folder, alone):
    """The sure labels, as many of each class, beside those of people."""
    columns = ["--column", "label=label", "own=confidence", "--confident", "0.9", "--balance"]
    where = ["--data", str(folder / "corpus"), "--from", str(folder / "teacher"), "--leave-out", str(folder / "few")]
    assert annotate_command([*where, *columns, "--to-tsv", str(folder / "sure.tsv")]) == 0
    gain = {}
    for people, before in (("few", alone), ("train", tuned(folder, "many", data="task"))):
        files = ["--train", str(folder / f"{people}.tsv"), str(folder / "sure.tsv"), "--test", str(folder / "test.tsv")]
        mixed = f"{people}-mixed"
        preprocess([*files, "--out", str(folder / mixed), "--vocab", str(folder / "task"), "--workers", "0"])
        gain[people] = tuned(folder, f"{people}-tuned", data=mixed) - before
    assert gain["few"] > 0.15 > gain["train"] + 0.1


def test_a_variant_begins_with_the_original_model_and_not_with_the_teacher(folder):
    train(settings(folder, "corpus", "original", "masked_lm", 5))
    options = {"steps": 1, "init_from": str(folder / "original"), "valid_every": 0}
    train(settings(folder, "corpus", "begun", "pseudo_v4_kl", 1, train=options, optim={"lr": 1e-9}))
    original, begun, teacher = (load(str(folder / run)).weights for run in ("original", "begun", "teacher"))
    body = [name for name in begun if ".heads." not in name]
    assert body and all(torch.allclose(begun[name], original[name], atol=1e-6) for name in body)
    assert not any(torch.allclose(begun[name], teacher[name], atol=1e-3) for name in body if begun[name].dim() > 1)
    tuned(folder, "begun-tuned", "begun")
    heads = {
        name.split(".heads.")[1].split(".")[0]
        for name in load(str(folder / "begun-tuned")).weights
        if ".heads." in name
    }
    assert heads == {"label"} and any(".heads.pseudo." in name for name in begun)
