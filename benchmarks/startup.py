"""How long the command lines take to answer, and a run of six steps from the shell to its end, in ms.

Every value is a fresh process, files in the cache of the system. The six steps of taskmask include the checkpoint at
the end and TensorBoard files, which it writes by default; the Trainer of transformers writes neither.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import common
from training import SHAPES, write_rows

STEPS = 6
PYTHON, TORCH = 'python -c ""', 'python -c "import torch"'
ACCELERATE, SIX = "accelerate launch --help", f"{STEPS} training steps"


def main() -> None:
    """Measures all commands and prints the table."""
    args = make_parser().parse_args()
    table = common.Table("From the shell to the end", "ms", more_is_better=False)
    with tempfile.TemporaryDirectory() as folder:
        common.quiet(folder, args.threads)
        values = common.interleave(contenders(args, Path(folder)), args.repeats)
    for name in ours():
        table.add(name, values[name], PYTHON, values[PYTHON])
    no_accelerate, no_trainer = (common.missing(args, *names) for names in (("accelerate",), trainer_needs()))
    table.add("taskmask-train --help", values["taskmask-train --help"], TORCH, values[TORCH])
    table.add(
        "taskmask-train --help", values["taskmask-train --help"], ACCELERATE, values.get(ACCELERATE, no_accelerate)
    )
    what = f"{SIX}, {args.shape} {args.precision}"
    table.add(what, values[SIX], TORCH, values[TORCH])
    table.add(what, values[SIX], "transformers Trainer", values.get("transformers", no_trainer))
    common.report(table)


def make_parser() -> argparse.ArgumentParser:
    """The options."""
    parser = common.make_parser(__doc__, repeats=7)
    parser.add_argument("--shape", choices=SHAPES, default="mini", help="model of the six steps; toy tries the script")
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--threads", type=common.positive, default=common.CORES)
    return parser


def ours() -> dict[str, tuple[list[str], int]]:
    """Returns {name: (command, its exit code)} of the commands that answer at once."""
    return {
        "taskmask --version": ([*console("taskmask"), "--version"], 0),
        "taskmask-train --help": ([*console("taskmask-train"), "--help"], 0),
        "taskmask-preprocess --help": ([*console("taskmask-preprocess"), "--help"], 0),
        "taskmask-train, a wrong option": ([*console("taskmask-train"), "--optim.rate", "1"], 2),
    }


def console(name: str) -> list[str]:
    """Returns the words that start a console script of this Python."""
    script = Path(sys.executable).parent / name
    if script.exists():
        return [str(script)]
    verb = name.removeprefix("taskmask").removeprefix("-")
    return [sys.executable, "-m", "taskmask_cli.main", *([verb] if verb else [])]


def trainer_needs() -> tuple[str, ...]:
    """The packages that the peer of the six steps needs."""
    return ("transformers", "datasets", "accelerate")


def contenders(args: argparse.Namespace, folder: Path) -> dict[str, Callable[[], float]]:
    """Returns {name: function that measures}."""
    absent = common.missing(args, *trainer_needs())
    data = folder / args.shape
    write_rows(data, args.shape, SHAPES[args.shape]["rows"] * STEPS, arrow=not absent)

    def timed(command: Callable[[], list[str]], code: int = 0) -> Callable[[], float]:
        def once() -> float:
            words = command()
            return 1000 * common.seconds_of(lambda: common.run(words, code))

        return once

    runs = itertools.count()
    todo = {name: timed(lambda words=words: words, code) for name, (words, code) in ours().items()}
    todo[PYTHON] = timed(lambda: [sys.executable, "-c", ""])
    todo[TORCH] = timed(lambda: [sys.executable, "-c", "import torch"])
    todo[SIX] = timed(lambda: six_steps(args, data, folder / f"run{next(runs)}"))
    if not common.missing(args, "accelerate"):
        module = "from accelerate.commands.accelerate_cli import main; main()"
        todo[ACCELERATE] = timed(lambda: [sys.executable, "-c", module, "launch", "--help"])
    if not absent:
        spec = {"name": "transformers", "data": str(data), "shape": args.shape, "precision": args.precision}
        spec |= {"threads": args.threads, "warmup": 1, "steps": STEPS - 1}
        script = str(Path(__file__).with_name("training.py"))
        todo["transformers"] = timed(lambda: [sys.executable, script, "--child", json.dumps(spec)])
    return todo


def six_steps(args: argparse.Namespace, data: Path, run: Path) -> list[str]:
    """Returns the command that trains six steps."""
    sizes = SHAPES[args.shape]
    options = {
        "data": data / "bin",
        "data.length": sizes["length"],
        "data.blocks": "sentence",
        "run": run,
        "run.device": "cpu",
        "run.threads": args.threads,
        "model": "encoder",
        "model.layers": sizes["layers"],
        "model.width": sizes["width"],
        "model.heads": sizes["heads"],
        "train.steps": STEPS,
        "train.max_tokens": sizes["rows"] * sizes["length"],
        "train.precision": args.precision,
    }
    return [
        *console("taskmask-train"),
        *(word for name, value in options.items() for word in (f"--{name}", str(value))),
    ]


if __name__ == "__main__":
    main()
