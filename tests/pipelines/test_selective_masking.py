"""Selective masking whole, on texts whose important words are known: classifier, importance, tagger, scores, masks."""

import itertools
import json
import random
from pathlib import Path

import numpy as np
import pytest
from planted_help import BAD, GOOD, sentence, settings, write_tsv

from taskmask.checkpoints import checkpoint
from taskmask.data.dataset import Dataset
from taskmask.data.rng import RowRng
from taskmask.data.sequences.base import RowSource
from taskmask.errors import ConfigError
from taskmask.inference.annotate import annotate
from taskmask.inference.evaluate import evaluate
from taskmask.maskers.base import build_masker
from taskmask.registry import MASKERS
from taskmask.training.train import train
from taskmask_cli.annotate import main as annotate_command
from taskmask_cli.preprocess import main as preprocess


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Labelled texts, and a corpus without labels of other sentences."""
    folder = tmp_path_factory.mktemp("selective")
    files = {
        name: write_tsv(folder / f"{name}.tsv", num, n)
        for n, (name, num) in enumerate({"train": 600, "valid": 150}.items())
    }
    words = ["--train", files["train"], "--valid", files["valid"], "--out", str(folder / "task"), "--workers", "0"]
    preprocess([*words, "--vocab-size", "500", "--vocab-kind", "bpe"])
    numbers = random.Random(9)
    (folder / "corpus.txt").write_text("".join(f"{sentence(numbers)[1]}\n" for _ in range(600)))
    words = ["--train", str(folder / "corpus.txt"), "--out", str(folder / "domain"), "--workers", "0"]
    preprocess([*words, "--documents", "line", "--vocab", str(folder / "task")])
    return folder


def planted(dataset, split):
    """bool, a token each: True in the keywords."""
    part, vocab = dataset.split(split), dataset.vocabulary()
    keywords = {ids.tobytes() for ids in vocab.encode([*GOOD, *BAD])}
    tokens, offsets = np.asarray(part.values("tokens")), part.offsets("tokens")
    found = np.zeros(len(tokens), bool)
    for start, stop in itertools.pairwise(offsets):
        numbers = vocab.word_numbers(tokens[None, start:stop])[0]
        for word in range(numbers.max() + 1):
            here = np.flatnonzero(numbers == word) + start
            found[here] = tokens[here].astype(np.int32).tobytes() in keywords
    return found


def f1(found, truth):
    return 2 * (found & truth).sum() / (found.sum() + truth.sum())


@pytest.fixture(scope="module")
def annotated(folder):
    """A classifier that knows the task, and what it finds important."""
    train(settings(folder, "task", "classifier", "classification", 250))
    assert evaluate(str(folder / "classifier"))["accuracy"] > 0.98
    words = ["--data", str(folder / "task"), "--from", str(folder / "classifier"), "--task", "word_importance"]
    columns = ["--column", "important", "importance=score", "use=use", "--task.unit", "word"]
    assert annotate_command([*words, *columns]) == 0
    return Dataset.open(folder / "task")


def test_the_classifier_finds_the_planted_words(annotated):
    for split in ("train", "valid"):
        label = np.asarray(annotated.split(split).values("important"))
        score = np.asarray(annotated.split(split).values("importance"), np.float64)
        known = label >= 0
        assert f1(label[known] == 1, planted(annotated, split)[known]) > 0.95
        is_text = ~annotated.vocabulary().is_special[np.asarray(annotated.split(split).values("tokens"))]
        assert (np.isnan(score) == (label < 0))[is_text].all()
        assert 0.6 < known[is_text].mean() < 0.75  # what says nothing is left out
        assert ((score < 0.05) == (label == 1))[known].mean() > 0.999  # but for the rounding to 16 bits
        use = np.asarray(annotated.split(split).values("use"))
        assert ((use == 0) == known)[is_text].all() and (use[is_text] == 2).mean() > 0.2  # it is sure of nothing there
    assert annotated.labels["important"] == ["plain", "important"]


@pytest.fixture(scope="module")
def tagger(folder, annotated):
    """A tagger of important words; the best of several validations, by their F1."""
    tagging = {"name": "tagging", "label": "important", "pieces": "all"}
    more = {
        "train": {"metric": "f1_important", "valid_every": 50},
        "criterion": {"name": "classification", "class_weights": ["important=3"]},
    }
    train(settings(folder, "task", "tagger", tagging, 250, **more))
    return str(folder / "tagger")


def test_the_best_tagger_is_that_of_the_best_f1(tagger):
    log = [json.loads(line) for line in (Path(tagger) / "log.jsonl").read_text().splitlines()]
    scores = [row["f1_important"] for row in log if row["kind"] == "valid"]
    best = checkpoint.best_of(Path(tagger), "max")
    assert len(scores) == 5 and checkpoint.score_of(best) == pytest.approx(max(scores), abs=1e-4)
    assert "_f1_important-" in best.name


def test_the_tagger_learns_them_and_masks_hit_them(folder, annotated, tagger):
    annotate(str(folder / "tagger"), str(folder / "domain"), {"score": "probability:important"})
    with pytest.raises(
        ConfigError, match="is a run of task tagging, which says label of a token; expected label of a row"
    ):
        words = ["--data", str(folder / "task"), "--from", str(folder / "tagger"), "--task", "word_importance"]
        annotate_command([*words, "--task.label", "label", "--column", "again"])
    domain = Dataset.open(folder / "domain")
    split, truth = domain.split("train"), planted(domain, "train")
    score = np.asarray(split.values("score"), np.float64)
    assert f1(score > 0.5, truth) > 0.95  # on sentences it has never seen
    source = RowSource(split, domain.vocabulary(), 48, "sentence", ("score",))
    rows = source[np.arange(len(source))]
    hits, counts = {}, {}
    for control in (False, True):
        options = MASKERS.get("scored").config(column="score", above=0.5, ratio=0.15, control=control)
        mask = build_masker("scored", options, rows.vocab)(rows, RowRng(1, 1, rows.ids))[0]
        keywords = np.zeros(rows.shape, bool)
        for number, (start, stop) in enumerate(zip(source.starts, source.stops, strict=True)):
            keywords[number, 1 : 1 + stop - start] = truth[start:stop]
        hits[control], counts[control] = (mask & keywords).sum(), mask.sum(1)
    assert (counts[False] == counts[True]).all() and hits[False] >= 5 * hits[True] > 0
    masker = {"name": "scored", "column": "score", "above": 0.5}
    train(settings(folder, "domain", "general", "masked_lm", 20))  # what the guided stage goes on with
    done = train(
        settings(
            folder, "domain", "guided", "masked_lm", 20, masker=masker, train={"init_from": str(folder / "general")}
        )
    )
    assert done.step == 20
    train(settings(folder, "task", "tuned", "classification", 150, train={"init_from": str(folder / "guided")}))
    assert evaluate(str(folder / "tuned"))["accuracy"] > 0.9  # and the last stage, fine-tuning


def test_a_tagger_teaches_by_its_scores(folder, tagger):
    """Predictions for pre-training, of tokens: logits become columns, and a student comes to say the same."""
    columns = ["--column", "tag=label", "plain=logit:plain", "matters=logit:important", "chance=probability:important"]
    assert annotate_command(["--data", str(folder / "domain"), "--from", tagger, *columns]) == 0
    with pytest.raises(ConfigError, match="--to-tsv: has a label for each token; expected one for each text"):
        annotate_command(
            ["--data", str(folder / "domain"), "--from", tagger, "--column", "t=label", "--to-tsv", "a.tsv"]
        )
    split = Dataset.open(folder / "domain").split("train")
    plain, matters, chance = (np.asarray(split.values(n), np.float64) for n in ("plain", "matters", "chance"))
    known = np.isfinite(chance)
    np.testing.assert_allclose(1 / (1 + np.exp(plain - matters))[known], chance[known], atol=0.01)
    task = {"name": "joint_mlm", "label": "tag", "soft": ["plain", "matters"], "mlm": False}
    train(settings(folder, "domain", "student", task, 150))
    found = evaluate(str(folder / "student"), split="train")
    assert found["label_accuracy"] > 0.97 and found["label_loss"] < 0.1
