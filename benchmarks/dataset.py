"""Opening a dataset of many rows, reading random rows of it into padded batches, and planning an epoch.

taskmask beside `datasets` (arrow) on the same rows: 8 to 128 tokens long, lognormal, uint16. Both files are in the
cache of the system when they are read.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import common
import numpy as np

VOCAB, SHORTEST, LONGEST, CHUNK = 16000, 8, 128, 1 << 20
COLLATOR, PLAIN = "datasets, DataCollatorWithPadding", "datasets, ds[ids] padded by numpy"
GROUPED, RANDOM = "transformers, LengthGroupedSampler", "random order"


def main() -> None:
    """Writes the rows, measures, and prints the tables."""
    args = make_parser().parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        common.quiet(folder, 1)
        common.pin(1)
        absent = common.missing(args, "datasets")
        write_rows(folder, args.rows, arrow=not absent)
        tables = [open_times(args, folder), read_rates(args, folder), *plans(args, folder)]
    common.report(f"{args.rows:,} rows, batches of {args.batch} rows, one core.", *tables)


def make_parser() -> argparse.ArgumentParser:
    """The options."""
    parser = common.make_parser(__doc__)
    parser.add_argument("--rows", type=common.positive, default=10_000_000)
    parser.add_argument("--batch", type=common.positive, default=64, help="rows of a batch")
    parser.add_argument("--seconds", type=float, default=1.0, help="time for each value of a rate")
    return parser


def chunks(num_rows: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields the rows as (flat tokens with <s> and </s>, lengths), a million at a time."""
    generator = np.random.default_rng(1)
    for start in range(0, num_rows, CHUNK):
        num = min(CHUNK, num_rows - start)
        lengths = np.clip(generator.lognormal(np.log(45), 0.55, num).astype(np.int64), SHORTEST, LONGEST)
        ends = np.cumsum(lengths)
        tokens = generator.integers(5, VOCAB, ends[-1], np.uint16)
        tokens[ends - lengths], tokens[ends - 1] = 1, 2
        yield tokens, lengths


def write_rows(folder: Path, num_rows: int, arrow: bool) -> None:
    """Writes the rows as a dataset of taskmask (which keeps <s> to itself) and as an arrow file."""
    from inputs import hf_tokenizer_of, word_vocabulary

    from taskmask.data.dataset import Column
    from taskmask.data.writer import DatasetWriter

    vocab = word_vocabulary(VOCAB)
    with DatasetWriter(folder / "bin", vocab) as writer:
        split = writer.split("train", {"tokens": Column("ragged", "uint16")})
        for tokens, lengths in chunks(num_rows):
            starts = np.cumsum(lengths) - lengths
            split.append({"tokens": (np.delete(tokens, starts), lengths - 1)})
    if not arrow:
        return
    import pyarrow
    from datasets.arrow_writer import ArrowWriter

    with ArrowWriter(path=str(folder / "rows.arrow")) as writer:
        for tokens, lengths in chunks(num_rows):
            offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
            column = pyarrow.ListArray.from_arrays(offsets, tokens)
            writer.write_table(pyarrow.table({"input_ids": column}))
        writer.finalize()
    if not common.missing(argparse.Namespace(no_peers=False), "transformers", "tokenizers"):
        hf_tokenizer_of(vocab).save(str(folder / "tokenizer.json"))


def source_of(folder: Path) -> Any:
    """Opens the dataset of taskmask and cuts it into rows."""
    from taskmask.data.dataset import Dataset
    from taskmask.data.sequences.base import RowSource

    dataset = Dataset.open(folder / "bin")
    return RowSource(dataset.split("train"), dataset.vocabulary(), LONGEST, "sentence")


def arrow_of(folder: Path) -> Any:
    """Opens the dataset of `datasets`."""
    import datasets

    return datasets.Dataset.from_file(str(folder / "rows.arrow")).with_format("numpy")


def padded(rows: list[np.ndarray]) -> np.ndarray:
    """Returns rows as one array of int64, padded."""
    out = np.zeros((len(rows), max(map(len, rows))), np.int64)
    for place, row in enumerate(rows):
        out[place, : len(row)] = row
    return out


def open_times(args: argparse.Namespace, folder: Path) -> common.Table:
    """Measures how long it takes to open the dataset, and to have the first batch."""
    from taskmask.data.dataset import Dataset

    absent = common.missing(args, "datasets")
    first = np.arange(args.batch) % args.rows

    def mapped() -> np.ndarray:
        return Dataset.open(folder / "bin").split("train").values("tokens")[:1]

    todo = {
        "open": mapped,
        "batch": lambda: source_of(folder)[first].tokens,
    }
    if not absent:
        todo |= {
            "arrow open": lambda: arrow_of(folder),
            "arrow batch": lambda: padded(arrow_of(folder)[first]["input_ids"]),
        }
        same = np.array_equal(todo["batch"](), todo["arrow batch"]())
        if not same:
            raise SystemExit("the two datasets do not hold the same rows")
    values = common.interleave({name: milliseconds(function) for name, function in todo.items()}, args.repeats)
    table = common.Table("Opening", "ms", more_is_better=False)
    table.add("open, map the tokens", values["open"], "Dataset.from_file", values.get("arrow open", absent))
    table.add("open to the first batch", values["batch"], "the same", values.get("arrow batch", absent))
    return table


def milliseconds(function: Callable[[], Any]) -> Callable[[], float]:
    """Returns a function that measures one call."""
    return lambda: 1000 * common.seconds_of(function)


def read_rates(args: argparse.Namespace, folder: Path) -> common.Table:
    """Measures how fast random rows become padded batches."""
    generator = np.random.default_rng(2)
    source = source_of(folder)

    def reader(read: Callable[[np.ndarray], Any]) -> Callable[[], float]:
        def once() -> int:
            read(generator.integers(0, args.rows, args.batch))
            return args.batch

        return lambda: common.rate(once, args.seconds)

    todo = {"taskmask": reader(lambda ids: source[ids].tokens)}
    no_arrow = common.missing(args, "datasets")
    no_collator = common.missing(args, "datasets", "transformers", "tokenizers")
    if not no_arrow:
        arrow = arrow_of(folder)
        todo[PLAIN] = reader(lambda ids: padded(arrow[ids]["input_ids"]))
    if not no_collator:
        from inputs import fast_tokenizer
        from transformers import DataCollatorWithPadding

        collator = DataCollatorWithPadding(fast_tokenizer(folder / "tokenizer.json"))
        rows = arrow.with_format(None)
        todo[COLLATOR] = reader(lambda ids: collator([rows[int(row)] for row in ids]))
    values = common.interleave(todo, args.repeats)
    table = common.Table("Random rows to padded batches of int64", "rows/s")
    for name, reason in ((COLLATOR, no_collator), (PLAIN, no_arrow)):
        table.add("random rows", values["taskmask"], name, values.get(name, reason))
    return table


def plans(args: argparse.Namespace, folder: Path) -> list[common.Table]:
    """Measures how long it takes to order an epoch, and what share of the batches is no padding."""
    from taskmask.data.batching import plan_epoch

    lengths = np.array(source_of(folder).lengths)
    shares: dict[str, list[float]] = {}

    def planner(name: str, plan: Callable[[], tuple[np.ndarray, np.ndarray]]) -> Callable[[], float]:
        def once() -> float:
            made: list[tuple[np.ndarray, np.ndarray]] = []
            seconds = common.seconds_of(lambda: made.append(plan()))
            shares.setdefault(name, []).append(share_of_tokens(lengths, *made[0]))
            return seconds

        return once

    def ours() -> tuple[np.ndarray, np.ndarray]:
        plan = plan_epoch(lengths, 1, 1, args.batch * LONGEST)
        return plan.order, plan.bounds

    bounds = np.append(np.arange(0, args.rows, args.batch), args.rows)
    todo = {"taskmask": planner("taskmask", ours)}
    todo[RANDOM] = planner(RANDOM, lambda: (np.random.default_rng(1).permutation(args.rows), bounds))
    absent = common.missing(args, "transformers")
    if not absent:
        from transformers.trainer_pt_utils import LengthGroupedSampler

        python_lengths = lengths.tolist()  # what the Trainer hands over

        def grouped() -> tuple[np.ndarray, np.ndarray]:
            return np.array(list(LengthGroupedSampler(args.batch, lengths=python_lengths))), bounds

        todo[GROUPED] = planner(GROUPED, grouped)
    values = common.interleave(todo, args.repeats)
    times = common.Table("Planning one epoch", "seconds", more_is_better=False)
    real = common.Table("Real tokens in the batches of an epoch, the rest is padding", "percent")
    for name, reason in ((GROUPED, absent), (RANDOM, "")):
        times.add("plan", values["taskmask"], name, values.get(name, reason))
        real.add("real tokens", shares["taskmask"], name, shares.get(name, reason))
    return [times, real]


def share_of_tokens(lengths: np.ndarray, order: np.ndarray, bounds: np.ndarray) -> float:
    """Returns the percentage of tokens in batches that are padded to their longest row."""
    longest = np.maximum.reduceat(lengths[order], bounds[:-1])
    return 100 * float(lengths.sum() / (longest * np.diff(bounds)).sum())


if __name__ == "__main__":
    main()
