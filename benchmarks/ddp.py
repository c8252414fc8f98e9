"""Several processes with taskmask: one with all threads beside two that share them (gloo), in tokens/s.

All train the same: `train.micro_batches_per_step` counts over all processes, and is 2 x the accumulation here. "apart"
is two processes at the same time, each with half of the micro-batches and no word between them: what two processes
could reach at best.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import common
from training import SHAPES, write_rows

LAUNCH = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
SCRIPT = Path(__file__).with_name("training.py")


def main() -> None:
    """Measures all and prints the table."""
    args = make_parser().parse_args()
    table = common.Table(
        f"Two processes, {args.threads} threads in all, {args.steps} steps after {args.warmup}", "tokens/s"
    )
    with tempfile.TemporaryDirectory() as folder:
        common.quiet(folder, args.threads)
        data, sizes = Path(folder, "data"), SHAPES[args.shape]
        most = 2 * max(args.accumulation)
        write_rows(data, args.shape, sizes["rows"] * most * (args.steps + args.warmup), arrow=False)
        for precision in args.precision:
            for accumulation in args.accumulation:
                measure(table, args, precision, accumulation, data)
    common.report("Here the column taskmask is two processes, and beside it stands another way to start it.", table)


def make_parser() -> argparse.ArgumentParser:
    """The options."""
    parser = common.make_parser(__doc__)
    parser.add_argument("--shape", choices=SHAPES, default="mini", help="toy tries the script")
    parser.add_argument("--precision", nargs="+", choices=("fp32", "bf16"), default=["fp32", "bf16"])
    parser.add_argument("--accumulation", nargs="+", type=common.positive, default=[1, 4], metavar="N")
    parser.add_argument("--steps", type=common.positive, default=10, help="steps that are measured")
    parser.add_argument("--warmup", type=common.positive, default=2, help="steps before them")
    parser.add_argument("--threads", type=common.positive, default=common.CORES, help="of all processes together")
    return parser


def measure(table: common.Table, args: argparse.Namespace, precision: str, accumulation: int, data: Path) -> None:
    """Measures one precision and one accumulation."""
    half = max(1, args.threads // 2)
    spec = dict(name="taskmask", data=str(data), shape=args.shape, precision=precision)
    spec |= dict(steps=args.steps, warmup=args.warmup, threads=half, micro_batches=2 * accumulation)
    alone = f"1 process x {args.threads} threads"
    together = f"2 processes x {half} threads"
    apart = f"2 x {half} threads apart"
    todo: dict[str, Callable[[], float]] = {
        together: lambda: two_processes(spec),
        alone: lambda: common.child(SCRIPT, {**spec, "threads": args.threads})["rate"],
        apart: lambda: two_apart({**spec, "micro_batches": accumulation}),
    }
    values = common.interleave(todo, args.repeats)
    for name in (alone, apart):
        table.add(f"{args.shape} {precision}, accumulation {accumulation}", values[together], name, values[name])


def two_processes(spec: dict[str, Any]) -> float:
    """Trains in two processes that exchange gradients."""
    with tempfile.TemporaryDirectory() as folder:
        return common.child(SCRIPT, {**spec, "run": folder}, LAUNCH)["rate"]


def two_apart(spec: dict[str, Any]) -> float:
    """Trains twice at the same time and adds up."""
    with ThreadPoolExecutor(2) as pool:
        return sum(done["rate"] for done in pool.map(lambda _: common.child(SCRIPT, spec), range(2)))


if __name__ == "__main__":
    main()
