"""What the tests of training share: tiny settings, comparisons, faults, and runs in processes of their own."""

import faulthandler
import json
import math
import multiprocessing
import os
import random
import resource
import signal
import socket
import sys
import time

import pytest
import torch

from taskmask.checkpoints import checkpoint
from taskmask.config.settings import Settings
from taskmask.registry import MASKERS
from taskmask.training.train import train
from taskmask.training.trainer import Trainer
from taskmask_cli.preprocess import main as preprocess

TIME_FIELDS = ("seconds", "tokens_per_second")
TOUCHED = (".lock", "exit.json")  # by a run that was finished before
SPAWN = multiprocessing.get_context("forkserver")  # each child is new, but finds torch imported
# torch._dynamo comes with the first optimizer
SPAWN.set_forkserver_preload(["torch", "torch._dynamo", "training_help", "taskmask_cli.main", "taskmask_cli.train"])
TABLES = {
    "model": {"name": "tiny", "layers": 1, "width": 32, "heads": 2},
    "data": {"length": 32},
    "train": {"steps": 6, "max_tokens": 256, "valid_every": 2},
    "optim": {"warmup_steps": 0},
    "run": {"tensorboard": False, "threads": 1, "log_every": 1, "save_every": 1000},
}
READS_A_COLUMN = {"listed", "scored", "whole_unit"}  # which the data lack
OWN = [n for n in MASKERS.names() if "taskmask/maskers" in MASKERS.where(n) and n not in READS_A_COLUMN]
FEW = ("uniform", "fully_explored")
FEW_EVERY_DAY = [pytest.param(name, marks=[] if name in FEW else pytest.mark.slow) for name in OWN]
"""All maskers, most of them slow: they keep the same laws."""

DENOISING = {
    "task": {"name": "denoising", "insertions": 0.1, "permute": True},
    "model": {"name": "encoder_decoder", "layers": 1, "decoder_layers": 1, "width": 32, "heads": 2},
}

WORDS = [
    "amber", "basin", "candle", "dapper", "eagle", "fabric", "garden", "harbor", "island", "jacket", "kettle", "ladder",
    "magnet", "napkin", "orchid", "pepper", "quartz", "ribbon", "saddle", "tunnel", "umbrella", "velvet", "walnut",
]  # fmt: skip


def sentence(random_numbers):
    """A stretch of a fixed cycle of words: what is masked can be told from its neighbours."""
    start, length = random_numbers.randrange(len(WORDS)), random_numbers.randrange(5, 14)
    return " ".join(WORDS[(start + i) % len(WORDS)] for i in range(length)) + "."


def write_dataset(folder, lines, seed=0, *arguments):
    random_numbers = random.Random(seed)
    folder.mkdir(parents=True, exist_ok=True)
    for split, number in (("train", lines), ("valid", 40)):
        (folder / f"{split}.txt").write_text("\n".join(sentence(random_numbers) for _ in range(number)) + "\n")
    out = folder / "bin"
    files = ["--train", str(folder / "train.txt"), "--valid", str(folder / "valid.txt"), "--out", str(out)]
    preprocess([*files, "--workers", "0", *(arguments or ("--vocab-size", "310"))])
    return out


def write_labelled(folder, vocab, names=("early", "late", "middle"), rows=(90, 30, 30)):
    """A dataset of rows with text, place, label and number: a word of the cycle tells them; "middle" is rare."""
    random_numbers = random.Random(5)
    files = []
    for split, number in zip(("train", "valid", "test"), rows, strict=True):
        lines = ["label\tnumber\ttext\tplace"]
        for _ in range(number):
            at = random_numbers.choice([*range(10), *range(13, 23), 11])
            label = names[0] if at < 10 else names[2] if at == 11 else names[1]
            text = " ".join([WORDS[at]] * random_numbers.randrange(1, 6) + ["garden"] * random_numbers.randrange(4))
            lines.append(f"{label}\t{at / 10}\t{text}\t{WORDS[at]} basin")
        (folder / f"{split}.tsv").write_text("\n".join(lines) + "\n")
        files += [f"--{split}", str(folder / f"{split}.tsv")]
    out = folder / "bin"
    fields = ["--text", "text", "place", "--number", "number", "--workers", "0"]
    preprocess([*files, "--out", str(out), "--vocab", str(vocab), *fields])
    return out


def tables(dataset, folder, /, **changes):
    """The tables of a tiny run; {"train": {"steps": 3}} changes single settings."""
    merged = {section: dict(values) for section, values in TABLES.items()}
    merged["data"]["path"] = str(dataset)
    merged["run"]["folder"] = str(folder)
    for section, values in changes.items():
        merged[section] = {**merged.get(section, {}), **values} if isinstance(values, dict) else values
    return merged


def make(dataset, folder, /, **changes):
    return Settings.of(tables(dataset, folder, **changes))


def same(a, b, path="state"):
    """Asserts that two checkpoints or parts of them are the same to the last bit."""
    assert type(a) is type(b), path
    if isinstance(a, dict):
        assert a.keys() == b.keys(), path
        for key in a:
            same(a[key], b[key], f"{path}.{key}")
    elif isinstance(a, list | tuple):
        assert len(a) == len(b), path
        for number, (x, y) in enumerate(zip(a, b, strict=True)):
            same(x, y, f"{path}[{number}]")
    elif isinstance(a, torch.Tensor):
        assert a.dtype == b.dtype and torch.equal(a, b), path
    else:
        assert a == b, f"{path}: {a} and {b}"


def last(folder):
    """The last checkpoint of a run, without what may differ between two runs."""
    state = checkpoint.load(checkpoint.all_of(folder)[-1])
    return {name: part for name, part in state.items() if name != "settings"}


def rows(folder):
    """The log of a run, without times."""
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k not in TIME_FIELDS} for line in lines]


def same_runs(a, b):
    """Asserts that two run folders hold the same result and the same log."""
    same(last(a), last(b))
    assert rows(a) == rows(b)


class Crash(BaseException):
    """Ends a run as a power cut would: no `except Exception` sees it."""


def arm(kind, step, rank=0, set_attribute=setattr):
    """Makes the training process `rank` fail in one way when it begins a step."""
    original = Trainer.step

    def poison(module, arguments, sums):
        return {name: value * math.nan for name, value in sums.items()}

    def wrapped(self, micro_batches):
        if self.world.rank != rank or self.progress.position.step + 1 != step:
            return original(self, micro_batches)
        if kind == "crash":
            raise Crash
        if kind == "raise":
            raise RuntimeError("injected")
        if kind == "leave":
            sys.exit(0)
        if kind in ("SIGTERM", "SIGINT", "SIGUSR1", "SIGHUP", "SIGKILL", "SIGSTOP"):
            os.kill(os.getpid(), getattr(signal, kind))
        if kind.endswith("to the workers"):  # which prepare batches
            for worker in multiprocessing.active_children():
                os.kill(worker.pid, getattr(signal, kind.split()[0]))
        if kind == "full disk":
            resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
        if kind == "stop":
            self.stop.noted = "a test"
        handle = self.objective.register_forward_hook(poison) if kind == "nan" else None
        try:
            return original(self, micro_batches)
        finally:
            if handle:
                handle.remove()

    set_attribute(Trainer, "step", wrapped)


def train_until(settings, kind, step, monkeypatch):
    """Trains until the fault; returns the exception that ended it."""
    with monkeypatch.context() as patch:
        arm(kind, step, set_attribute=patch.setattr)
        try:
            return train(settings)
        except BaseException as error:
            return error


def child(config, output, environment, faults, arguments):
    """Body of a process: `taskmask-train --config CONFIG ...` with its output in a file."""
    os.environ.update(environment)
    file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(file, 1)
    os.dup2(file, 2)
    faulthandler.enable(file)
    from taskmask_cli import main
    from taskmask_cli import train as command

    for fault in faults:
        arm(*fault)
    sys.exit(main.run(command.main, ["--config", config, *arguments]))


class Launch:
    """A run in `ranks` processes of its own.

    Args:
        folder: for the settings and the output.
        settings: tables, or a list of one for each process.
        ranks: number of processes.
        faults: (kind, step, rank) each.
        order: a fault on order, as TASKMASK_FAULT.
        arguments: further command-line arguments.
    """

    def __init__(self, folder, settings, ranks=1, faults=(), arguments=(), order=""):
        folder.mkdir(parents=True, exist_ok=True)
        configs = [folder / f"config-{rank}-{time.monotonic_ns()}.json" for rank in range(ranks)]
        for rank, config in enumerate(configs):
            config.write_text(json.dumps(settings[rank] if isinstance(settings, list) else settings))
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.outputs = [folder / f"output-{rank}" for rank in range(ranks)]
        self.processes = []
        for rank in range(ranks):
            environment = {"TASKMASK_FAULT": order}
            if ranks > 1:
                numbers = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": ranks, "LOCAL_WORLD_SIZE": ranks}
                environment |= {k: str(v) for k, v in {**numbers, "MASTER_PORT": port}.items()}
                environment |= {"MASTER_ADDR": "127.0.0.1"}
            arguments_of = (str(configs[rank]), str(self.outputs[rank]), environment, list(faults), list(arguments))
            self.processes.append(SPAWN.Process(target=child, args=arguments_of))
            self.processes[-1].start()

    def wait(self, seconds=60, ranks=None):
        """Waits for all, or for some, and returns the exit codes; None of one that has not ended."""
        limit = time.monotonic() + seconds
        for process in self.processes if ranks is None else [self.processes[rank] for rank in ranks]:
            process.join(max(0.1, limit - time.monotonic()))
        codes = [process.exitcode for process in self.processes]
        for process in self.processes:
            if process.exitcode is None:
                process.kill()
        return codes

    def text(self, rank=0):
        """What a process printed."""
        return self.outputs[rank].read_text()


def wait_for_step(folder, step, seconds=30):
    """Waits until the log of a run has come to a step."""
    limit = time.monotonic() + seconds
    while time.monotonic() < limit:
        log = folder / "log.jsonl"
        if log.exists() and f'"step": {step},' in log.read_text():
            return
        time.sleep(0.02)
    raise AssertionError(f"no step {step} in {folder}")
