"""The made-up world of examples/masking_policies, where it is known what a good policy masks."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from taskmask_cli.main import main

EXAMPLE = Path(__file__).parents[2] / "examples" / "masking_policies"
POLICIES = {"uniform": "uniform", "entity": {"name": "listed", "column": "entity", "choose": "one"},
            "answer": {"name": "listed", "column": "answer", "choose": "one"}}  # fmt: skip
MODEL = {"name": "bart_tiny", "width": 96, "heads": 3, "norm": "pre", "dropout": 0.0, "attention_dropout": 0.0}


def run(*words):
    assert main([str(word) for word in words]) == 0


def spans(folder):
    """Writes what is masked: the place, or any of name, place and year, as a tagger of people's names would say."""
    lines = (folder / "text" / "corpus.txt").read_text().splitlines()
    asked = [json.loads(line) for file in (folder / "text").glob("questions-*.jsonl") for line in file.open()]
    place = {one["question"].split()[2]: one["answers"][0] for one in asked}
    for column in ("answer", "entity"):
        rows = []
        for text in lines:
            name = next(word for word in text.split() if word in place)
            words = [place[name], *([name, *(w for w in text.split() if w.isdigit())] if column == "entity" else [])]
            found = sorted([text.index(word), text.index(word) + len(word)] for word in words)
            rows.append(json.dumps({"text": text, "spans": found}))
        (folder / "spans.jsonl").write_text("\n".join(rows) + "\n")
        run("spans", "--data", folder / "facts", "--column", column, "--jsonl", folder / "spans.jsonl")


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_what_is_asked_for_is_what_to_mask(tmp_path, capsys):
    """Answers teach more than any token; of no other two policies is the better one shown to teach less."""
    subprocess.run([sys.executable, EXAMPLE / "world.py", tmp_path / "text"], check=True)
    text = tmp_path / "text"
    run("preprocess", "--train", text / "corpus.txt", "--documents", "line", "--vocab-kind", "bpe", "--vocab-size", 420,
        "--out", tmp_path / "facts")  # fmt: skip
    files = [word for split in ("train", "test") for word in (f"--{split}", text / f"questions-{split}.jsonl")]
    words = ["--text", "question", "--list", "answers", "--vocab", tmp_path / "facts", "--out", tmp_path / "questions"]
    run("preprocess", *files, "--valid", text / "questions-valid.jsonl", *words)
    spans(tmp_path)
    experiment = {
        "seeds": [1, 2, 3],
        "baseline": "uniform",
        "run": {"threads": 1, "tensorboard": False},
        "pretrain": {
            "data": {"path": str(tmp_path / "facts"), "length": 64, "blocks": "sentence"},
            "task": "denoising",
            "model": MODEL,
            "optim": {"lr": 2e-3},
            "train": {"steps": 200, "max_tokens": 1024, "valid_every": 0},
        },
        "intermediate": {
            "task": {"name": "denoising", "output": "spans"},
            "optim": {"lr": 2e-3},
            "train": {"steps": 600, "max_tokens": 1024, "valid_every": 0},
        },
        "policies": {name: {"masker": masker} for name, masker in POLICIES.items()},
        "finetune": {
            "task": {"name": "seq2seq", "max_length": 8, "validate": True},
            "optim": {"lr": 5e-4},
            "train": {"steps": 60, "max_tokens": 512, "metric": "exact_match", "valid_every": 60},
        },
        "tasks": {"birthplace": {"data": str(tmp_path / "questions")}},
    }
    (tmp_path / "experiment.json").write_text(json.dumps(experiment))
    capsys.readouterr()
    run("compare", tmp_path / "experiment.json", "--run", tmp_path / "runs", "--json")
    scores = [one for one in json.loads(capsys.readouterr().out)["scores"] if one["share"] == 1]
    right = {one["policy"]: np.array([one["seeds"][seed] for seed in "123"]) for one in scores}
    for better, worse in (("answer", "entity"), ("answer", "uniform"), ("entity", "uniform")):
        difference = right[better] - right[worse]  # the same seed, the same questions
        half = 4.30 * difference.std(ddof=1) / 3**0.5  # of the 95 % interval, of three
        assert difference.mean() + half >= 0, (better, worse, right)
        assert difference.mean() > half or "entity" in (better, worse), (better, worse, right)
