"""The whole training loop, data and masking included: taskmask beside the Trainer of transformers, in tokens/s.

Both train the same encoder on the same rows in fresh processes that take turns; tokens are counted from the end of the
warm-up steps to the end of the last step, so imports, compilation and the final checkpoint are left out.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import common

SHAPES = {
    "mini": dict(layers=4, width=256, heads=4, vocab=16000, rows=32, length=128),
    "base": dict(layers=12, width=768, heads=12, vocab=30522, rows=8, length=128),
    "toy": dict(layers=1, width=32, heads=2, vocab=500, rows=4, length=16),
}
LR, DROPOUT, CLIP, BETAS, DECAY = 5e-4, 0.1, 1.0, (0.9, 0.98), 0.01
CONTENDERS = {
    "taskmask": "as it comes",
    "taskmask-compile": "with --run.compile true",
    "transformers": "Trainer as it comes",
    "transformers-onednn": "Trainer, with fp32 products in oneDNN, which taskmask switches on by itself",
    "transformers-compile": "Trainer with torch_compile",
}


def main() -> None:
    """Measures what was asked for and prints the table."""
    args = make_parser().parse_args()
    if args.child:
        return child(json.loads(args.child))
    table = common.Table(f"Training, {args.threads} threads, {args.steps} steps after {args.warmup}", "tokens/s")
    with tempfile.TemporaryDirectory() as folder:
        common.quiet(folder, args.threads)
        for shape in args.shape:
            for precision in args.precision:
                measure(table, args, shape, precision, Path(folder))
    common.report(table)


def make_parser() -> argparse.ArgumentParser:
    """The options."""
    parser = common.make_parser(__doc__)
    parser.add_argument("--shape", nargs="+", choices=SHAPES, default=["mini"], help="mini, base; toy tries the script")
    parser.add_argument("--precision", nargs="+", choices=("fp32", "bf16"), default=["fp32", "bf16"])
    parser.add_argument("--steps", type=common.positive, default=20, help="steps that are measured")
    parser.add_argument("--warmup", type=common.positive, default=4, help="steps before them")
    parser.add_argument("--threads", type=common.positive, default=common.CORES)
    what = "; ".join(f"{name}: {text}" for name, text in CONTENDERS.items())
    parser.add_argument("--contenders", nargs="+", choices=CONTENDERS, default=["taskmask", "transformers"], help=what)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    return parser


def measure(table: common.Table, args: argparse.Namespace, shape: str, precision: str, folder: Path) -> None:
    """Measures one shape in one precision; each of ours is set beside each peer."""
    absent = common.missing(args, "transformers", "datasets", "accelerate")
    data = folder / shape
    if not data.exists():
        sizes = SHAPES[shape]
        write_rows(data, shape, sizes["rows"] * (args.steps + args.warmup), arrow=not absent)
    spec = dict(data=str(data), shape=shape, precision=precision, threads=args.threads)
    spec |= dict(steps=args.steps, warmup=args.warmup)
    ours = [name for name in args.contenders if name.startswith("taskmask")]
    peers = [name for name in args.contenders if name not in ours]
    todo = {name: measurement({**spec, "name": name}) for name in (*ours, *([] if absent else peers))}
    values = common.interleave(todo, args.repeats)
    for name in ours:
        what = f"{shape} {precision}{name.removeprefix('taskmask').replace('-', ', ')}"
        for peer in peers or ["none"]:
            table.add(what, values[name], peer, values.get(peer, absent or "not asked for"))


def write_rows(data: Path, shape: str, num_rows: int, arrow: bool) -> None:
    """Writes the rows of a shape."""
    from inputs import write_random_rows

    write_random_rows(data, SHAPES[shape]["vocab"], num_rows, SHAPES[shape]["length"], arrow)


def measurement(spec: dict[str, Any]) -> Any:
    """Returns a function that trains in a fresh process and returns tokens/s."""
    return lambda: common.child(__file__, spec)["rate"]


def child(spec: dict[str, Any]) -> None:
    """Trains in this process and prints {"rate": tokens/s}; of several processes, the first prints."""
    trains = train_taskmask if spec["name"].startswith("taskmask") else train_transformers
    value = trains(spec)
    if is_first():
        print(json.dumps({"rate": value}))


def is_first() -> bool:
    """Whether this process is alone or the first of several."""
    return os.environ.get("RANK", "0") == "0"


def train_taskmask(spec: dict[str, Any]) -> float:
    """Trains with taskmask; the rate is taken from its own log, whose first line ends the warm-up."""
    from taskmask import Settings, train

    sizes = SHAPES[spec["shape"]]
    model = {name: sizes[name] for name in ("layers", "width", "heads")}
    with tempfile.TemporaryDirectory() as folder:
        run = Path(spec.get("run", folder), "run")  # of several processes all need the same
        settings = Settings.of(
            data=dict(path=str(Path(spec["data"], "bin")), length=sizes["length"], blocks="sentence"),
            run=dict(
                folder=str(run),
                device="cpu",
                threads=spec["threads"],
                log_every=spec["warmup"],
                compile=spec["name"].endswith("compile"),
            ),
            model=dict(name="encoder", dropout=DROPOUT, attention_dropout=DROPOUT, **model),
            masker="uniform",
            train=dict(
                steps=spec["warmup"] + spec["steps"],
                precision=spec["precision"],
                max_tokens=sizes["rows"] * sizes["length"],
                micro_batches_per_step=spec.get("micro_batches", 1),
            ),
            optim=dict(lr=LR, clip=CLIP, beta1=BETAS[0], beta2=BETAS[1], weight_decay=DECAY),
        )
        train(settings)
        return rate_of(run / "log.jsonl") if is_first() else 0.0


def rate_of(log: Path) -> float:
    """Returns the tokens/s from the first line of a log to its last."""
    records = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    records = [record for record in records if record["kind"] == "train"]
    tokens = [record["tokens"] for record in records]
    parts = zip(records[1:], tokens[1:], tokens[:-1], strict=True)
    seconds = sum((after - before) / record["tokens_per_second"] for record, after, before in parts)
    return (tokens[-1] - tokens[0]) / seconds


def train_transformers(spec: dict[str, Any]) -> float:
    """Trains with the Trainer of transformers; the rate is taken at the ends of steps, by a callback."""
    import torch
    from datasets import load_from_disk
    from inputs import fast_tokenizer
    from transformers import DataCollatorForLanguageModeling, Trainer, TrainerCallback, set_seed

    ends: dict[int, float] = {}

    class Clock(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
            ends[state.global_step] = time.monotonic()

    torch.set_num_threads(spec["threads"])
    if spec["name"].endswith("onednn"):
        torch.backends.mkldnn.matmul.fp32_precision = "bf16"
    set_seed(1)
    sizes, data = SHAPES[spec["shape"]], Path(spec["data"])
    with tempfile.TemporaryDirectory() as folder:
        arguments = training_arguments(spec, sizes["rows"], folder)
        collator = DataCollatorForLanguageModeling(fast_tokenizer(data / "tokenizer.json"))
        rows = load_from_disk(str(data / "arrow"))
        Trainer(bert(sizes), arguments, collator, rows, callbacks=[Clock()]).train()
    tokens = spec["steps"] * sizes["rows"] * sizes["length"]
    return tokens / (ends[spec["warmup"] + spec["steps"]] - ends[spec["warmup"]])


def bert(sizes: dict[str, int]) -> Any:
    """Makes the model of transformers that is like the encoder of taskmask."""
    from transformers import BertConfig, BertForMaskedLM

    config = BertConfig(
        num_hidden_layers=sizes["layers"],
        hidden_size=sizes["width"],
        num_attention_heads=sizes["heads"],
        intermediate_size=4 * sizes["width"],
        vocab_size=sizes["vocab"],
        max_position_embeddings=sizes["length"],
        hidden_dropout_prob=DROPOUT,
        attention_probs_dropout_prob=DROPOUT,
        pad_token_id=0,
    )
    return BertForMaskedLM(config)


def training_arguments(spec: dict[str, Any], rows: int, folder: str) -> Any:
    """The arguments of the Trainer; what is not named is as it comes."""
    from transformers import TrainingArguments

    steps = spec["warmup"] + spec["steps"]
    return TrainingArguments(
        output_dir=folder,
        use_cpu=True,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        max_steps=steps,
        warmup_steps=round(0.06 * steps),
        logging_steps=spec["warmup"],
        per_device_train_batch_size=rows,
        learning_rate=LR,
        adam_beta1=BETAS[0],
        adam_beta2=BETAS[1],
        weight_decay=DECAY,
        max_grad_norm=CLIP,
        bf16=spec["precision"] == "bf16",
        torch_compile=spec["name"].endswith("compile"),
        remove_unused_columns=False,  # with special_tokens_mask the collator has less to do
    )


if __name__ == "__main__":
    main()
