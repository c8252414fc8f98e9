"""What the tests of experiments share: tiny data, a tiny experiment, and a report that writes nothing."""

import json
import random
import sys
import types

from taskmask.analysis.compare import stage as running
from taskmask.analysis.compare.runner import compare
from taskmask_cli.preprocess import main as preprocess

WORDS = ["amber", "basin", "candle", "dapper", "eagle", "fabric", "garden", "harbor", "island", "jacket"]
EXPERIMENT = {
    "seeds": [1, 2],
    "points": 2,
    "run": {"tensorboard": False, "threads": 1},
    "pretrain": {
        "data": {"length": 32},
        "model": {"name": "tiny", "layers": 1, "width": 32, "heads": 2},
        "train": {"steps": 3, "max_tokens": 256},
        "optim": {"warmup_steps": 0},
    },
    "intermediate": {"train": {"steps": 4, "max_tokens": 256}, "optim": {"warmup_steps": 0}},
    "policies": {"uniform": {"masker": "uniform"}, "words": {"masker": "whole_word"}},
    "tasks": {"half": {"task": "classification", "train": {"steps": 4, "valid_every": 2, "max_tokens": 256}}},
}
STAGES = 1 + 2 * (1 + 2 * (1 + 2))  # pre-training; for each seed one without, and for each policy three


def write_data(folder, name="bin", *arguments):
    """A dataset of lines with a label: the half of the words that they begin in."""
    numbers, files = random.Random(3), []
    folder.mkdir(parents=True, exist_ok=True)
    for split, rows in (("train", 120), ("valid", 30), ("test", 30)):
        lines = ["label\ttext"]
        for _ in range(rows):
            at = numbers.randrange(len(WORDS))
            text = " ".join(WORDS[(at + i) % len(WORDS)] for i in range(numbers.randrange(4, 9)))
            lines.append(f"{'early' if at < len(WORDS) // 2 else 'late'}\t{text}")
        (folder / f"{split}.tsv").write_text("\n".join(lines) + "\n")
        files += [f"--{split}", str(folder / f"{split}.tsv")]
    out = folder / name
    preprocess([*files, "--out", str(out), "--workers", "0", *(arguments or ("--vocab-size", "285"))])
    return out


def merged(tables, changes):
    """Tables with other values in them; None takes a value away."""
    found = {**tables}
    for key, value in changes.items():
        if isinstance(value, dict) and isinstance(found.get(key), dict):
            found[key] = merged(found[key], value)
        elif value is None:
            found.pop(key, None)
        else:
            found[key] = value
    return found


def write_experiment(folder, data, name="tiny", **changes):
    """Writes the tiny experiment with changes in it; returns the file."""
    with_data = merged(EXPERIMENT, {"pretrain": {"data": {"path": str(data)}}})
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{name}.json"
    file.write_text(json.dumps(merged(with_data, changes)))
    return file


def no_report():
    """A module in the place of the report: it writes nothing."""
    fake = types.ModuleType("taskmask.analysis.compare.export")
    fake.write_reports = lambda results, folder: []
    fake.summary_lines = lambda results: [f"{len(results.scores)} scores"]
    return fake


def run_counted(file, folder, monkeypatch):
    """Runs an experiment; returns its results, and the names of the folders that were trained in."""
    trained, original = [], running.train

    def train(settings, **named):
        trained.append(settings.run.folder.rpartition("/")[2])
        return original(settings, **named)

    with monkeypatch.context() as patch:
        patch.setattr(running, "train", train)
        patch.setitem(sys.modules, "taskmask.analysis.compare.export", no_report())
        return compare(file, folder), trained


def values(results):
    """All that was measured, as plain numbers."""
    return {
        f"{one.of} {one.policy} {one.share} {seed}": measure.value()
        for one in (*results.scores, *results.language_models)
        for seed, measure in one.measures.items()
    }
