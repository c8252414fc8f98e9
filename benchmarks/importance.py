"""Word importance by the growing buffer: batches packed anew by what is left of each text, beside padded ones.

The same rule on the same texts with the same classifier, in the same process, and the same scores come out. The padded
way is that of the published code of selective masking: 32 texts a batch, padded to the longest row of the model.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import common

LABELLED = ["--train", "python-docs:train", "--valid", "python-docs:valid", "--label", "family", "--workers", "0"]
MODEL = ["--model", "tiny", "--model.norm", "pre", "--model.positions", "rotary", "--model.pool", "mean"]
PADDED, ROWS = "padded to data.length, 32 texts a batch", 32


def main() -> None:
    """Trains a classifier, measures, and prints the table."""
    args = make_parser().parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        common.quiet(folder, 1)
        common.pin(1)
        data, run = train_classifier(args, folder)
        tables = [measure(args, data, run, whole) for whole in (False, True)]
    common.report(f"{args.rows} labelled docstrings, rows of at most {args.length} tokens, one core.", *tables)


def make_parser() -> argparse.ArgumentParser:
    """The options."""
    parser = common.make_parser(__doc__)
    parser.add_argument("--rows", type=common.positive, default=300, help="labelled texts")
    parser.add_argument("--length", type=common.positive, default=128, help="tokens in the longest row")
    parser.add_argument("--steps", type=common.positive, default=400, help="of the training of the classifier")
    parser.add_argument("--vocab-size", type=common.positive, default=4000)
    return parser


def train_classifier(args: argparse.Namespace, folder: Path) -> tuple[str, str]:
    """Says the family of modules of a docstring; returns the dataset and the run."""
    data, run = str(folder / "bin"), str(folder / "run")
    common.run([*common.cli("preprocess"), *LABELLED, "--vocab-size", str(args.vocab_size), "--out", data])
    words = ["--task", "classification", "--task.label", "family", "--optim.lr", "2e-3", "--train.max_tokens", "1024"]
    steps = [
        "--train.steps",
        str(args.steps),
        "--train.valid_every",
        str(args.steps),
        "--data.length",
        str(args.length),
    ]
    quick = ["--run.threads", "1", "--run.tensorboard", "false"]
    common.run([*common.cli("train"), "--data", data, "--run", run, *words, *MODEL, *steps, *quick])
    return data, run


def measure(args: argparse.Namespace, data: str, run: str, whole: bool) -> common.Table:
    """Measures both ways, on sentences or on whole texts; they must come to the same scores."""
    import numpy as np
    import torch

    from taskmask.config import from_tables
    from taskmask.config.settings import parse
    from taskmask.inference import loaded_model
    from taskmask.tasks.word_importance import WordImportance
    from taskmask.training.build import build_data

    loaded = loaded_model.load(run)
    options = {"name": "word_importance", "label": "family", "sentences": not whole, "delta": 0.05, "guard": False}
    settings = parse(from_tables({**loaded.settings.to_dict(), "task": options}, "benchmark"))
    parts = build_data(settings, ["train"], loaded.labels)
    task = parts.task
    assert isinstance(task, WordImportance)
    padded = padded_to(args.length)(task.config, task.vocab, None, loaded.labels)
    rows = parts.sources["train"][np.random.default_rng(1).permutation(len(parts.sources["train"]))[: args.rows]]
    model, found = loaded.model, {}

    def ask(batch: Any) -> Any:
        with torch.no_grad():
            return model(**batch.map(torch.from_numpy).inputs), batch

    def maker(name: str, one: Any) -> Callable[[], float]:
        def scored() -> float:
            seconds = common.seconds_of(lambda: found.update({name: one.scores(ask, rows, 4096)}))
            return float(np.isfinite(found[name]).sum()) / seconds

        return scored

    values = common.interleave({"packed": maker("packed", task), PADDED: maker(PADDED, padded)}, args.repeats)
    np.testing.assert_allclose(found["packed"], found[PADDED], atol=1e-3)
    known = found["packed"][np.isfinite(found["packed"])]
    if not len(known):
        raise SystemExit("the classifier gets none of these texts right: give more --steps or --rows")
    share = f"{(known < 0.05).mean():.0%} of {len(known):,} tokens important"
    table = common.Table(f"Word importance, {'whole texts' if whole else 'sentences'} ({share})", "scored tokens/s")
    table.add("re-packed", values["packed"], PADDED, values[PADDED])
    return table


def padded_to(length: int) -> type:
    """Returns the task with batches of a fixed number of texts, padded to a fixed length, in the order of the texts."""
    import numpy as np

    from taskmask.data.batch import Batch
    from taskmask.data.compact import compact
    from taskmask.tasks.word_importance import WordImportance

    class Padded(WordImportance):
        """The same rule."""

        def chances(self, ask: Any, texts: Any, kept: Any, max_tokens: int) -> Any:
            found = [np.zeros((0, 2))]
            for start in range(0, len(kept), ROWS):
                row, left = texts.row[start : start + ROWS], kept[start : start + ROWS]
                tokens = np.full((len(row), length), self.vocab.pad)
                packed = compact(texts.rows.tokens[row], left, self.vocab.pad)
                tokens[:, : packed.shape[1]] = packed
                keep = np.arange(length) < left.sum(axis=1)[:, None]
                outputs, _ = ask(Batch({"tokens": tokens, "keep": keep}, {}, row, int(keep.sum())))
                chances, gold = outputs["label"].double().softmax(-1).numpy(), texts.gold[start : start + ROWS]
                found.append(np.stack([chances[np.arange(len(row)), gold], chances.argmax(-1) == gold], axis=1))
            joined = np.concatenate(found)
            return joined[:, 0], joined[:, 1] > 0

    return Padded


if __name__ == "__main__":
    main()
