"""Two programs at once on the same cores: how waiting threads behave, in units/s of each program.

Each program has as many threads as there are cores, the default. With the command line's own setting, waiting threads
sleep; beside it is the default of torch's OpenMP library, which lets them spin. All programs are started
once and take turns: each is asked to work for a few seconds, alone or at the same time as another.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import common

LIBRARY = {"GOMP_SPINCOUNT": "300000"}
"""What libgomp does where nothing is set. The command line leaves alone what the user has set."""
UNITS = {
    "train": "tokens/s",
    "compare": "tokens/s",
    "evaluate": "rows/s",
    "annotate": "tokens/s",
    "predict": "texts/s",
}
LABELLED = ["--train", "python-docs:train", "--valid", "python-docs:valid", "--label", "family", "--workers", "0"]


def main() -> None:
    """Makes a dataset and a classifier, measures, and prints the tables."""
    args = make_parser().parse_args()
    if args.child:
        child(json.loads(args.child))
        return
    settings = {"taskmask": {}, "library": LIBRARY} | {name: pairs(name) for name in args.other}
    tables: list[common.Table | str] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        common.quiet(folder, args.threads)
        make_run(args, folder)
        for kind in args.kinds:
            tables.append(measure(args, kind, settings, folder))
    common.report(f"{args.threads} threads a program, {args.model}, {args.precision}.", *tables)


def make_parser() -> argparse.ArgumentParser:
    """The options."""
    parser = common.make_parser(__doc__)
    parser.add_argument("--kinds", nargs="+", choices=UNITS, default=list(UNITS))
    parser.add_argument("--seconds", type=float, default=2.5, help="of each measurement")
    parser.add_argument("--threads", type=common.positive, default=common.CORES)
    parser.add_argument("--model", default="mini")
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--vocab-size", type=common.positive, default=8000)
    parser.add_argument("--max-tokens", type=common.positive, default=1024, help="tokens in a micro-batch")
    parser.add_argument("--other", nargs="*", default=[], metavar="NAME=VALUE", help="further settings, each beside")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    return parser


def pairs(text: str) -> dict[str, str]:
    """Returns "A=1,B=2" as a dict."""
    return dict(part.split("=", 1) for part in text.split(","))


def make_run(args: argparse.Namespace, folder: Path) -> None:
    """Makes the dataset, and a classifier of one step; what it says makes no difference to the speed."""
    words = [*LABELLED, "--vocab-size", str(args.vocab_size), "--out", str(folder / "bin")]
    common.run([*common.cli("preprocess"), *words])
    words = ["--task", "classification", "--task.label", "family", "--model", args.model, "--train.steps", "1"]
    words += ["--train.max_tokens", str(args.max_tokens), "--run.tensorboard", "false"]
    words += ["--train.precision", args.precision]
    common.run([*common.cli("train"), "--data", str(folder / "bin"), "--run", str(folder / "run"), *words])


def measure(args: argparse.Namespace, kind: str, settings: dict[str, dict[str, str]], folder: Path) -> common.Table:
    """Measures one kind of work: alone and two at once, with each way of waiting."""
    numbers = itertools.count()

    def start(name: str) -> Program:
        spec = {"kind": kind, "folder": str(folder), "number": next(numbers), "model": args.model}
        return Program({**spec, "max_tokens": args.max_tokens, "precision": args.precision}, settings[name])

    programs = {name: [start(name), start(name)] for name in settings}
    contenders: dict[str, Callable[[], float]] = {}
    for name, two in programs.items():
        contenders[f"{name}, alone"] = lambda two=two: rates(two[:1], args.seconds)  # type: ignore[misc]
        contenders[f"{name}, two"] = lambda two=two: rates(two, args.seconds)  # type: ignore[misc]
    try:
        for two in programs.values():
            rates(two, 0.5)
        values = common.interleave(contenders, args.repeats)
    finally:
        for program in itertools.chain(*programs.values()):
            program.end()
    table = common.Table(kind, f"{UNITS[kind]} of the slower program")
    own, own_two = values["taskmask, alone"], values["taskmask, two"]
    table.add("two at once", own_two, "one alone", own)
    for name in settings:
        if name != "taskmask":
            table.add("one alone", own, f"{name}, one alone", values[f"{name}, alone"])
            table.add("two at once", own_two, f"{name}, two at once", values[f"{name}, two"])
    return table


class Program:
    """A process that works for a while whenever it is asked to."""

    def __init__(self, spec: dict[str, Any], environment: dict[str, str]):
        command = [sys.executable, __file__, "--child", json.dumps(spec)]
        self.log = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed by `end`
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": self.log, "text": True}
        self.process = subprocess.Popen(command, env={**os.environ, **environment}, **pipes)  # type: ignore[call-overload]
        self.said()

    def ask(self, seconds: float) -> None:
        """Lets it work."""
        self.process.stdin.write(f"{seconds}\n")
        self.process.stdin.flush()

    def said(self) -> float:
        """Waits for the rate of its work."""
        line = self.process.stdout.readline()
        if not line:
            self.log.seek(0)
            raise SystemExit(f"a program has ended:\n{self.log.read()[-3000:]}")
        return float(line)

    def end(self) -> None:
        """Ends it."""
        self.process.kill()
        self.process.communicate()
        self.log.close()


def rates(programs: list[Program], seconds: float) -> float:
    """Lets programs work at the same time; returns the rate of the slowest."""
    for program in programs:
        program.ask(seconds)
    return min([program.said() for program in programs])


class Meter:
    """Counts work. Whenever the time is over, it prints the rate and waits until it is asked again."""

    def __init__(self) -> None:
        self.done, self.began, self.until = 0, 0.0, 0.0

    def __call__(self, amount: int) -> None:
        self.done += amount
        if (now := time.perf_counter()) < self.until:
            return
        print(self.done / (now - self.began), file=sys.__stdout__, flush=True)
        asked = sys.stdin.readline()
        if not asked:
            os._exit(0)
        self.done, self.began = 0, time.perf_counter()
        self.until = self.began + float(asked)


def child(spec: dict[str, Any]) -> None:
    """Works without end, as the command line does; the meter interrupts it."""
    from taskmask.system.hardware import wait_passively

    wait_passively()  # as every command does
    folder, meter = Path(spec["folder"]), Meter()
    WORKS[spec["kind"]](spec, str(folder / "bin"), str(folder / "run"), meter)


def train(spec: dict[str, Any], data: str, run: str, meter: Meter) -> None:
    """Trains a masked language model."""
    import taskmask

    meter_steps(meter)
    of_run = dict(folder=f"{run}-{os.getpid()}", tensorboard=False, save_every=10**6)
    taskmask.train(taskmask.Settings.of(data=data, run=of_run, model=spec["model"], train=steps_of(spec)))


def compare(spec: dict[str, Any], data: str, run: str, meter: Meter) -> None:
    """Pre-trains a masked language model, as the first stage of an experiment."""
    import taskmask

    meter_steps(meter)
    experiment = {
        "seeds": [1],
        "baseline": "uniform",
        "pretrain": {"data": data, "model": spec["model"], "train": steps_of(spec)},
        "intermediate": {"train": {"steps": 1}},
        "policies": {"uniform": {"masker": "uniform"}, "words": {"masker": "whole_word"}},
        "tasks": {"family": {"task": {"name": "classification", "label": "family"}, "train": {"steps": 1}}},
        "run": {"tensorboard": False, "save_every": 10**6},
    }
    file = Path(f"{run}-{os.getpid()}.json")
    file.write_text(json.dumps(experiment), encoding="utf-8")
    taskmask.compare(file, file.with_suffix(""))


def steps_of(spec: dict[str, Any]) -> dict[str, Any]:
    """The settings of a training that does not end."""
    return dict(steps=10**6, valid_every=0, max_tokens=spec["max_tokens"], precision=spec["precision"])


def meter_steps(meter: Meter) -> None:
    """Calls the meter after each step of a training."""
    from taskmask.training.trainer import Trainer

    step = Trainer.step

    def metered(self: Trainer, group: Any) -> None:
        before = self.progress.tokens
        step(self, group)
        meter(self.progress.tokens - before)

    Trainer.step = metered  # type: ignore[method-assign,assignment]


def evaluate(spec: dict[str, Any], data: str, run: str, meter: Meter) -> None:
    """Evaluates the classifier."""
    import taskmask

    while True:
        taskmask.evaluate(run, data, "train", advance=meter)


def annotate(spec: dict[str, Any], data: str, run: str, meter: Meter) -> None:
    """Writes probabilities into a dataset."""
    from taskmask.inference.annotate import annotate

    while True:
        name = f"chances{os.getpid()}"
        annotate(run, data, {name: "probabilities"}, ["train"], overwrite=True, begin=lambda total, done: meter)


def predict(spec: dict[str, Any], data: str, run: str, meter: Meter) -> None:
    """Classifies texts, 32 at a time."""
    import inputs

    import taskmask

    loaded = taskmask.load(run)
    lines = [line.decode(errors="replace")[:300] for line in inputs.base_lines(None)[:3200]]
    for begin in itertools.cycle(range(0, len(lines), 32)):
        texts = lines[begin : begin + 32]
        loaded.predict(texts, device="cpu")
        meter(len(texts))


WORKS = {"train": train, "compare": compare, "evaluate": evaluate, "annotate": annotate, "predict": predict}


if __name__ == "__main__":
    main()
