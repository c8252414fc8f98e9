"""Predictions for short texts: taskmask beside the pipelines of transformers, in texts/s.

Both have the same weights and get the same texts, in one process in which they take turns. The predictions are
compared: they have to be the same. The models are as good as untrained, which makes no difference to the speed.
"""

from __future__ import annotations

import argparse
import random
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import common

SHAPES = {"mini": ["--model", "mini"], "toy": ["--model", "tiny", "--model.width", "32", "--model.heads", "2"]}
KINDS = {"masked_lm": "fill-mask", "classification": "text-classification"}


def main() -> None:
    """Makes the models, measures, and prints the table."""
    args = make_parser().parse_args()
    title = f"Predictions for {args.texts} texts, {args.threads} threads, batches of {args.batch_size}"
    table = common.Table(title, "texts/s")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        common.quiet(folder, args.threads)
        import torch

        torch.set_num_threads(args.threads)
        texts = write_texts(args, folder)
        for kind in args.kinds:
            measure(table, args, kind, texts, folder)
    common.report(table)


def make_parser() -> argparse.ArgumentParser:
    """The options."""
    parser = common.make_parser(__doc__)
    parser.add_argument("--text", help="a file with one text per line; without it, the documentation of Python")
    parser.add_argument("--texts", type=common.positive, default=600, help="number of texts")
    parser.add_argument("--characters", type=common.positive, default=300, help="characters of the longest text")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--shape", choices=SHAPES, default="mini", help="mini; toy tries the script")
    parser.add_argument("--batch-size", type=common.positive, default=32, help="texts per forward pass, on both sides")
    parser.add_argument("--vocab-size", type=common.positive, default=8000)
    parser.add_argument("--length", type=common.positive, default=512, help="tokens in the longest row")
    parser.add_argument("--threads", type=common.positive, default=common.CORES)
    return parser


def write_texts(args: argparse.Namespace, folder: Path) -> list[str]:
    """Writes the data for a vocabulary and labels, and returns the texts to predict, in random order."""
    import inputs

    lines = [" ".join(line.decode(errors="ignore").split()) for line in inputs.base_lines(args.text)]
    texts = [
        line
        for line in dict.fromkeys(lines)
        if line.count(" ") > 1 and len(line) <= args.characters and "<" not in line
    ]
    random.Random(1).shuffle(texts)
    rows = [f"{'ab'[number % 2]}\t{text}" for number, text in enumerate(texts[:20000])]
    (folder / "train.tsv").write_text("\n".join(["label\ttext", *rows]) + "\n", encoding="utf-8")
    return texts[: args.texts]


def measure(table: common.Table, args: argparse.Namespace, kind: str, texts: list[str], folder: Path) -> None:
    """Adds the lines of one task."""
    import taskmask

    absent = common.missing(args, "transformers", "safetensors", "tokenizers")
    given = [masked(text) for text in texts] if kind == "masked_lm" else texts
    loaded = taskmask.load(make_run(args, kind, folder))
    found: dict[str, list[tuple[str, float]]] = {}
    todo = {"taskmask": timed("taskmask", lambda: ours(loaded, given, args.batch_size), found, len(given))}
    if not absent:
        pipe = pipeline_of(args, kind, folder)
        todo["pipeline"] = timed("pipeline", lambda: theirs(pipe, given, args.batch_size), found, len(given))
    values = common.interleave(todo, args.repeats)
    table.add(kind, values["taskmask"], f"transformers, {KINDS[kind]}", values.get("pipeline", absent))
    if not absent:
        check_same(found["taskmask"], found["pipeline"])


def masked(text: str) -> str:
    """Returns the text with `<mask>` in place of its middle word."""
    words = text.split()
    return " ".join([*words[: len(words) // 2], "<mask>", *words[len(words) // 2 + 1 :]])


def make_run(args: argparse.Namespace, kind: str, folder: Path) -> str:
    """Trains a model for one step; returns the run folder."""
    data, run = folder / "bin", str(folder / kind)
    if not data.exists():
        words = ["--train", str(folder / "train.tsv"), "--vocab-size", str(args.vocab_size), "--workers", "0"]
        common.run([*common.cli("preprocess"), *words, "--out", str(data)])
    words = ["--task", kind, *SHAPES[args.shape], "--data.length", str(args.length), "--train.steps", "1"]
    words += ["--train.max_tokens", str(2 * args.length), "--run.tensorboard", "false"]
    common.run([*common.cli("train"), "--data", str(data), "--run", run, *words])
    return run


def pipeline_of(args: argparse.Namespace, kind: str, folder: Path) -> Any:
    """Returns the pipeline of transformers with the weights of the run."""
    from transformers import pipeline

    out = str(folder / f"{kind}-hf")
    common.run([*common.cli("convert"), "--run", str(folder / kind), "--to-hf", out])
    return pipeline(KINDS[kind], model=out, tokenizer=out, device="cpu", top_k=5)


def timed(name: str, predict: Callable[[], Any], found: dict[str, Any], texts: int) -> Callable[[], float]:
    """Returns a function that predicts, notes the predictions and returns the texts per second."""

    def rate() -> float:
        return texts / common.seconds_of(lambda: found.update({name: predict()}))

    return rate


def ours(loaded: Any, texts: list[str], batch_size: int) -> list[tuple[str, float]]:
    """Returns the likeliest piece or class of each text, and its probability."""
    answers = loaded.predict(texts, top=5, batch_size=batch_size, device="cpu")
    best = [answer["masks"][0]["fills"][0] if "masks" in answer else answer for answer in answers]
    return [(one["piece"] if "piece" in one else one["label"], one["probability"]) for one in best]


def theirs(pipe: Any, texts: list[str], batch_size: int) -> list[tuple[str, float]]:
    """The same with transformers. Special tokens, which taskmask never gives, are passed over."""
    special, tokenizer = set(pipe.tokenizer.all_special_ids), pipe.tokenizer
    found = []
    for answers in pipe(texts, batch_size=batch_size):
        one = next(answer for answer in answers if answer.get("token") not in special)
        name = tokenizer.convert_ids_to_tokens(one["token"]) if "token" in one else one["label"]
        found.append((name, one["score"]))
    return found


def check_same(left: list[tuple[str, float]], right: list[tuple[str, float]]) -> None:
    """Ends the benchmark unless the predictions agree: of two that are nearly as likely, either may be first.

    taskmask gives no probability to special tokens, so its others are larger by the share that those have.
    """
    for (name, chance), (other, score) in zip(left, right, strict=True):
        if abs(chance - score) > 0.02 * max(chance, score):
            raise SystemExit(f"the predictions differ: {name} {chance} and {other} {score}")
    if sum(ours[0] == other[0] for ours, other in zip(left, right, strict=True)) < 0.98 * len(left):
        raise SystemExit("the predictions differ")


if __name__ == "__main__":
    main()
