"""Masking and batch building, in million tokens/s on one core: every masker beside the collator of transformers.

The same rows of real text on both sides. taskmask reads rows from the mapped dataset, masks them and makes tensors; the
collator gets rows that are already in memory, as lists with their special_tokens_mask, and makes tensors.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import common

LENGTH = 128
TOKENS, WORDS, BARE = "collator, tokens", "collator, whole words", "torch_mask_tokens alone"


def main() -> None:
    """Measures all maskers and prints the table."""
    args = make_parser().parse_args()
    table = common.Table("Masking and batch building, one core", "million tokens/s")
    with tempfile.TemporaryDirectory() as folder:
        common.quiet(folder, 1)
        common.pin(1)
        data = write_data(args, Path(folder))
        for rows in args.rows:
            measure(table, args, data, rows)
    common.report(table)


def make_parser() -> argparse.ArgumentParser:
    """The options."""
    parser = common.make_parser(__doc__, repeats=7)
    parser.add_argument("--rows", nargs="+", type=common.positive, default=[32, 64], help="rows of a batch")
    parser.add_argument("--seconds", type=float, default=0.5, help="time for each value")
    parser.add_argument("--text", metavar="FILE", help="lines of text (default: what ships with Python)")
    parser.add_argument("--megabytes", type=float, default=2.0, help="text to make rows of")
    parser.add_argument("--vocab-size", type=common.positive, default=8000)
    return parser


def write_data(args: argparse.Namespace, folder: Path) -> str:
    """Makes the dataset, with a vocabulary of its own, and returns its folder."""
    from inputs import base_lines, write_text

    text, out = folder / "text.txt", folder / "bin"
    write_text(text, base_lines(args.text), args.megabytes)
    words = ["--train", str(text), "--out", str(out), "--documents", "line", "--workers", "0"]
    common.run([*common.cli("preprocess"), *words, "--vocab-size", str(args.vocab_size)])
    return str(out)


def measure(table: common.Table, args: argparse.Namespace, data: str, rows: int) -> None:
    """Measures all maskers and peers with one size of batch."""
    import numpy as np
    import torch

    from taskmask.data.dataset import Dataset
    from taskmask.data.sequences.base import RowSource
    from taskmask.errors import TaskmaskError
    from taskmask.registry import MASKERS

    torch.set_num_threads(1)
    dataset = Dataset.open(data)
    source = RowSource(dataset.split("train"), dataset.vocabulary(), LENGTH, "complete")
    full = np.flatnonzero(source.lengths == LENGTH)  # all but the last
    order = np.random.default_rng(1).permutation(full)
    batches = [order[at : at + rows] for at in range(0, len(order) - rows + 1, rows)]
    if not batches:
        raise SystemExit(f"the text makes {len(full)} rows of {LENGTH} tokens: give more --megabytes")
    makers: dict[str, Callable[[], int]] = {}
    skipped: dict[str, str] = {}
    for name in MASKERS.names():
        try:
            makers[name] = our_maker(data, name, batches)
            makers[name]()
        except TaskmaskError as error:
            skipped[name] = f"skipped: {str(error).splitlines()[0][:60]}"
            makers.pop(name, None)
    absent = common.missing(args, "transformers", "tokenizers")
    peers = {} if absent else peer_makers(source, batches)
    todo = {
        name: (lambda maker=maker: common.rate(maker, args.seconds) / 1e6)
        for name, maker in {**makers, **peers}.items()
    }
    values = common.interleave(todo, args.repeats)
    for name in makers:
        beside = [WORDS, TOKENS] if name == "whole_word" else [TOKENS, BARE] if name == "uniform" else [TOKENS]
        for peer in beside:
            table.add(f"{name}, {rows} x {LENGTH}", values[name], peer, values.get(peer, absent))
    table.rows += [(f"{name}, {rows} x {LENGTH}", reason, "", "", "", "") for name, reason in skipped.items()]


def our_maker(data: str, masker: str, batches: list[Any]) -> Callable[[], int]:
    """Returns a function that makes the next batch with a masker, from reading its rows to tensors."""
    import torch

    from taskmask import Settings
    from taskmask.data.rng import RowRng
    from taskmask.training.build import build_data

    settings = Settings.of(data={"path": data, "length": LENGTH}, masker=masker, train={"max_tokens": 1 << 20})
    parts = build_data(settings, ["train"])
    source, task = parts.sources["train"], parts.task
    stream = itertools.cycle(batches)
    epochs = itertools.count(1)

    def make() -> int:
        ids = next(stream)
        batch = task.make_batch(source[ids], RowRng(1, next(epochs), ids))
        return batch.map(torch.from_numpy).num_tokens

    return make


def peer_makers(source: Any, batches: list[Any]) -> dict[str, Callable[[], int]]:
    """Returns a function for each peer that makes the next batch of rows in memory and returns its tokens."""
    import torch
    from inputs import fast_tokenizer, hf_tokenizer_of
    from transformers import DataCollatorForLanguageModeling

    with tempfile.NamedTemporaryFile(suffix=".json") as file:
        hf_tokenizer_of(source.vocab).save(file.name)
        tokenizer = fast_tokenizer(file.name)
    rows = [source[ids] for ids in batches]
    plain = [[{"input_ids": ids, "special_tokens_mask": s} for ids, s in both(part)] for part in rows]
    collator = DataCollatorForLanguageModeling(tokenizer)
    tensors = [(torch.from_numpy(part.tokens), torch.from_numpy(~part.maskable)) for part in rows]
    size = rows[0].tokens.size

    def collate(maker: Any, stream: Iterator[Any]) -> Callable[[], int]:
        return lambda: maker(next(stream))["input_ids"].numel()

    def bare(stream: Iterator[Any]) -> Callable[[], int]:
        def mask() -> int:
            tokens, special = next(stream)
            collator.torch_mask_tokens(tokens.clone(), special_tokens_mask=special)
            return size

        return mask

    makers = {TOKENS: collate(collator, itertools.cycle(plain)), BARE: bare(itertools.cycle(tensors))}
    if "whole_word_mask" in DataCollatorForLanguageModeling.__dataclass_fields__:
        places = [offsets(part.words) for part in rows]
        worded = [
            [{**row, "offset_mapping": place} for row, place in zip(*pair, strict=True)]
            for pair in zip(plain, places, strict=True)
        ]
        shares = {"mask_replace_prob": 1.0, "random_replace_prob": 0.0}  # the only ones it can do
        maker = DataCollatorForLanguageModeling(tokenizer, whole_word_mask=True, **shares)
        makers[WORDS] = collate(maker, itertools.cycle(worded))
    return makers


def both(rows: Any) -> Iterator[tuple[list[int], list[int]]]:
    """Yields the ids and the special_tokens_mask of each row as lists."""
    yield from zip(rows.tokens.tolist(), (~rows.maskable).astype(int).tolist(), strict=True)


def offsets(words: Any) -> list[list[list[int]]]:
    """Returns [start, end] of each token, with a gap between words: what the collator tells words by."""
    import numpy as np

    starts = np.arange(words.shape[1]) + np.maximum(words, 0)
    return np.stack([starts, starts + 1], axis=-1).tolist()


if __name__ == "__main__":
    main()
