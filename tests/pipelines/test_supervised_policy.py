"""A policy under direct supervision, whole: from questions with answers to spans of a corpus that nobody asks about."""

import json
import random

import numpy as np
import pytest
import torch

from taskmask import load
from taskmask.data.dataset import Dataset
from taskmask.data.rng import RowRng
from taskmask.data.sequences.base import RowSource
from taskmask.maskers.base import build_masker
from taskmask.registry import MASKERS
from taskmask_cli.annotate import main as annotate
from taskmask_cli.evaluate import main as evaluate
from taskmask_cli.preprocess import main as preprocess
from taskmask_cli.train import main as train

FIRST = ["Anna", "Bruno", "Clara", "David", "Edith", "Felix", "Greta", "Henry", "Irene", "Jonas", "Karla", "Lukas"]
LAST = ["Miller", "Baker", "Fisher", "Carter", "Weaver", "Potter", "Cooper", "Mason", "Turner", "Archer"]
CITY = ["Paris", "Rome", "Oslo", "New York", "Vienna", "Los Angeles", "Madrid", "Cairo", "Lima", "Rio de Janeiro"]
WORK = ["painter", "teacher", "doctor", "poet", "singer", "farmer", "lawyer", "builder"]


def biography(numbers):
    """A text, who it is of, and where that one was born; other cities stand in it, too."""
    name = f"{numbers.choice(FIRST)} {numbers.choice(LAST)}"
    born, *others = numbers.sample(CITY, 3)
    parts = [f"{name} was born in {born}", f"lived in {others[0]}", f"died in {others[1]}"]
    first, *rest = (parts[0], *numbers.sample(parts[1:], 2)) if numbers.random() < 0.5 else (parts[1], *parts[::2])
    return f"The {numbers.choice(WORK)} {first}, {', and '.join(rest)}.", name, born


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Questions whose answers have no places, some of which the context lacks; and a corpus, of other people."""
    folder, numbers = tmp_path_factory.mktemp("policy"), random.Random(3)
    for split, size in (("train", 700), ("valid", 150)):
        rows = []
        for number in range(size):
            context, name, born = biography(numbers)
            answer = "nowhere" if number % 50 == 7 else born.upper()
            rows.append({"context": context, "question": f"Where was {name} born?", "answers": [answer]})
        (folder / f"{split}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    texts = [biography(numbers) for _ in range(300)]
    (folder / "corpus.txt").write_text("\n".join(text for text, *_ in texts) + "\n")
    (folder / "answers.json").write_text(json.dumps([born for *_, born in texts]))
    return folder


@pytest.fixture(scope="module")
def annotated(folder):
    """The command line from the files to the columns; returns the split of the corpus, and where each answer is."""
    files = ["--train", str(folder / "train.jsonl"), "--valid", str(folder / "valid.jsonl"), "--workers", "0"]
    words = ["--answers", "--on-bad-answer", "skip", "--vocab-size", "400", "--vocab-kind", "bpe"]
    assert preprocess([*files, "--out", str(folder / "qa"), *words]) == 0
    words = ["--train", str(folder / "corpus.txt"), "--documents", "line", "--vocab", str(folder / "qa")]
    assert preprocess([*words, "--out", str(folder / "corpus"), "--workers", "0"]) == 0
    words = ["--data", str(folder / "qa"), "--run", str(folder / "run"), "--task", "span", "--task.question", ""]
    words += ["--model", "bilstm", "--model.width", "64", "--data.length", "60", "--task.stride", "10"]
    words += ["--train.steps", "120", "--train.max_tokens", "2000", "--optim.lr", "5e-3", "--optim.warmup_steps", "20"]
    words += ["--task.max_answer", "10", "--run.threads", "1", "--run.tensorboard", "false"]
    assert train([*words, "--train.valid_every", "60"]) == 0
    words = ["--data", str(folder / "corpus"), "--from", str(folder / "run"), "--column", "spans=spans", "p=chance"]
    assert annotate([*words, "--task.best", "5", "--task.max_words", "3", "--data.length", "20"]) == 0
    split = Dataset.open(folder / "corpus").split("train")
    return split, json.loads((folder / "answers.json").read_text())


def spans_of(split, row):
    start, stop = split.offsets("tokens")[row : row + 2]
    return np.asarray(split.values("spans")[start:stop]), np.asarray(split.values("p")[start:stop], np.float64)


def test_the_planted_answer_is_the_best_span(annotated, folder):
    split, answers = annotated
    vocab, right, by_chance = Dataset.open(folder / "corpus").vocabulary(), 0, 0.0
    for row, answer in enumerate(answers):
        spans, _ = spans_of(split, row)
        tokens = np.asarray(split.values("tokens")[split.offsets("tokens")[row] :][: len(spans)])
        right += vocab.decode(tokens[spans == 1]).strip() == answer
        by_chance += 1 / (3 * vocab.word_numbers(tokens[None]).max())
    assert right / len(answers) >= 0.95 > 10 * by_chance / len(answers)


@pytest.mark.slow
def test_a_transformer_finds_the_planted_answer_too(annotated, folder):
    words = ["--data", str(folder / "qa"), "--run", str(folder / "encoder"), "--task", "span", "--task.question", ""]
    words += ["--model", "tiny", "--model.width", "64", "--model.heads", "2", "--model.norm", "pre"]
    words += ["--model.dropout", "0", "--model.attention_dropout", "0", "--train.steps", "150", "--optim.lr", "3e-3"]
    words += ["--data.length", "60", "--task.stride", "10", "--task.max_answer", "10", "--train.max_tokens", "2000"]
    assert train([*words, "--run.threads", "1", "--run.tensorboard", "false"]) == 0
    words = ["--data", str(folder / "corpus"), "--from", str(folder / "encoder"), "--column", "found=spans"]
    assert annotate([*words, "--task.best", "1", "--task.max_words", "3"]) == 0
    split, answers = Dataset.open(folder / "corpus").split("train"), annotated[1]
    vocab, offsets = Dataset.open(folder / "corpus").vocabulary(), split.offsets("tokens")
    rows = [slice(offsets[row], offsets[row + 1]) for row in range(len(answers))]
    found = [vocab.decode(split.values("tokens")[r][split.values("found")[r] == 1]).strip() for r in rows]
    assert np.mean([one == answer for one, answer in zip(found, answers, strict=True)]) >= 0.95


def test_one_annotation_serves_top_1_and_top_5(annotated, folder):
    """The masker takes the best span of the column always, or any of the five."""
    split, answers = annotated
    vocab = Dataset.open(folder / "corpus").vocabulary()
    rows = RowSource(split, vocab, 100, "sentence", ("spans", "p"))[np.arange(len(answers))]
    top = {}
    for choose, probability in (("best", "p"), ("one", "")):
        masker = build_masker("listed", MASKERS.get("listed").config(choose=choose, probability=probability), vocab)
        masks = [masker(rows, RowRng(1, epoch, rows.ids))[0] for epoch in range(20)]
        numbers = [np.where(mask, rows.columns["spans"], 0).max(axis=1) for mask in masks]
        for mask, number in zip(masks, numbers, strict=True):
            assert (mask == ((rows.columns["spans"] == number[:, None]) & (number[:, None] > 0))).all()
        top[choose] = np.array(numbers)
    assert (top["best"] == 1).all() and set(np.unique(top["one"])) == {1, 2, 3, 4, 5}


def test_the_columns_are_what_is_promised(annotated):
    split, answers = annotated
    assert split.column("spans").dtype == "uint8" and split.column("p").dtype == "float32"
    longer = 0
    for row in range(len(answers)):
        spans, chance = spans_of(split, row)
        assert sorted(set(spans.tolist()) - {0}) == [1, 2, 3, 4, 5][: spans.max()] and spans[-1] == 0
        by_rank = []
        for number in range(1, spans.max() + 1):
            places = np.flatnonzero(spans == number)
            assert (np.diff(places) == 1).all() and len(set(chance[places])) == 1
            by_rank.append(chance[places[0]])
        assert by_rank == sorted(by_rank, reverse=True) and 0 < sum(by_rank) <= 1.001
        assert not np.nan_to_num(chance[spans == 0]).any()
        longer += len(spans) > 20  # was read in several windows
    assert longer > 100


def test_it_is_measured_as_other_answers_are(annotated, folder, capsys):
    assert evaluate(["--data", str(folder / "qa"), "--from", str(folder / "run"), "--split", "valid", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["exact_match"] >= 0.95
    splits = Dataset.open(folder / "qa").splits
    assert splits["train"].rows == 700 - 14 and splits["valid"].rows == 150 - 3, "what no context holds is left out"


def test_a_policy_of_one_task_serves_another_whose_test_answers_nobody_reads(annotated, folder):
    """The corpus is masked by the policy, then another task is learned; other answers in its test change no weight."""
    numbers = random.Random(4)
    people = [biography(numbers)[1] for _ in range(60)]
    small = ["--run.threads", "1", "--run.tensorboard", "false", "--data.length", "40", "--train.max_tokens", "400"]
    words = ["--data", str(folder / "corpus"), "--run", str(folder / "between"), "--task", "denoising"]
    words += ["--masker", "listed", "--masker.choose", "one", "--masker.probability", "p", "--train.steps", "3"]
    words += ["--model", "bart_tiny", "--model.layers", "1", "--model.decoder_layers", "1", "--model.width", "16"]
    assert train([*words, "--model.heads", "2", *small]) == 0
    found = []
    for version in ("true", "other"):
        files = []
        for split, names in (("train", people[:40]), ("valid", people[40:50]), ("test", people[50:])):
            answers = [name.split()[1] if version == "true" or split != "test" else "nobody" for name in names]
            rows = [{"question": f"Who is {n}?", "answers": [a]} for n, a in zip(names, answers, strict=True)]
            (folder / f"{version}-{split}.jsonl").write_text("\n".join(map(json.dumps, rows)))
            files += [f"--{split}", str(folder / f"{version}-{split}.jsonl")]
        words = [*files, "--text", "question", "--list", "answers", "--vocab", str(folder / "corpus"), "--workers", "0"]
        assert preprocess([*words, "--out", str(folder / version)]) == 0
        words = ["--data", str(folder / version), "--run", str(folder / f"{version}-run"), "--task", "seq2seq"]
        words += ["--train.init_from", str(folder / "between"), "--train.steps", "6", "--train.valid_every", "2"]
        assert train([*words, *small]) == 0
        run = load(str(folder / f"{version}-run"))
        found.append((run.step, run.model.state_dict()))
    (step, weights), (other_step, others) = found
    assert step == other_step and weights.keys() == others.keys()
    assert all(torch.equal(weights[name], others[name]) for name in weights)
