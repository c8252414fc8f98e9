"""What the benchmarks share: interleaved timing, tables of paired ratios, the description of the machine."""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import json
import os
import platform
import shlex
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from taskmask.system.hardware import num_cores

PEERS = ("transformers", "datasets", "accelerate", "tokenizers")
VERSIONS = ("taskmask", "torch", "numpy", "sentencepiece", *PEERS)
CORES = num_cores()  # before `pin`
HEADER = ("what", "taskmask", "beside", "its value", "ratio", "n")


def make_parser(doc: str, repeats: int = 5) -> argparse.ArgumentParser:
    """Returns a parser with the options that every benchmark has."""
    parser = argparse.ArgumentParser(
        description=doc, formatter_class=type("", (argparse.RawDescriptionHelpFormatter, _Defaults), {})
    )
    parser.add_argument("--repeats", type=positive, default=repeats, help="repetitions of every measurement")
    parser.add_argument("--no-peers", action="store_true", help="measure taskmask alone")
    return parser


class _Defaults(argparse.ArgumentDefaultsHelpFormatter):
    """Adds the defaults to the help, but not where there is none to speak of."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        shown = action.default not in (None, False, argparse.SUPPRESS)
        return super()._get_help_string(action) if shown else action.help


def positive(value: str) -> int:
    """The type of options that are whole numbers of 1 or more."""
    number = int(value)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is not positive")
    return number


def missing(args: argparse.Namespace, *packages: str) -> str:
    """Returns why a peer that needs these packages is skipped; empty where it is there."""
    if args.no_peers:
        return "skipped: --no-peers"
    absent = [package for package in packages if importlib.util.find_spec(package) is None]
    return f"skipped: {', '.join(absent)} not installed" if absent else ""


def quiet(folder: str | Path, threads: int) -> dict[str, str]:
    """Sets the environment, also that of child processes: no network, no chatter of peers, all files in `folder`.

    Call it before anything large is imported.
    """
    os.environ |= {
        "TMPDIR": str(folder),
        "TORCHINDUCTOR_CACHE_DIR": str(folder),  # TMPDIR comes too late for it
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_OFFLINE": "1",
        "HF_HOME": str(folder),
        "HF_DATASETS_CACHE": str(Path(folder, "cache")),
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
        "DATASETS_VERBOSITY": "error",
        "TRANSFORMERS_VERBOSITY": "error",
        "PYTHONWARNINGS": "ignore",
        "OMP_NUM_THREADS": str(threads),
        "RAYON_NUM_THREADS": str(threads),
        "TOKENIZERS_PARALLELISM": "true" if threads > 1 else "false",
        "CUDA_VISIBLE_DEVICES": "",
    }
    return dict(os.environ)


def pin(cores: int) -> None:
    """Keeps this process, and those that it starts, on the first `cores` of its cores."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])


def child(script: str | Path, spec: dict[str, Any], launcher: tuple[str, ...] = ()) -> dict[str, Any]:
    """Runs `script --child SPEC` in a fresh process; returns the JSON of the last line that it prints."""
    return json.loads(run([sys.executable, *launcher, str(script), "--child", json.dumps(spec)]).splitlines()[-1])


def run(command: list[str], code: int = 0) -> str:
    """Runs a command in a fresh process and returns what it prints; it must end with `code`."""
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != code:
        raise SystemExit(f"{shlex.join(command)}\nended with {done.returncode}:\n{done.stderr[-3000:]}")
    return done.stdout


def cli(verb: str) -> list[str]:
    """Returns the words that start a verb of the command line."""
    return [sys.executable, "-m", "taskmask_cli.main", verb]


def interleave(contenders: dict[str, Callable[[], float]], repeats: int) -> dict[str, list[float]]:
    """Measures all contenders in turn, `repeats` times, every other time in reverse order.

    So what slows the machine for a while hits all of them, and value number i of one pairs with number i of another.

    Returns:
        {name: values}.
    """
    values: dict[str, list[float]] = {name: [] for name in contenders}
    for repeat in range(repeats):
        for name in list(contenders)[:: -1 if repeat % 2 else 1]:
            print(f"{repeat + 1}/{repeats} {name}", file=sys.stderr, flush=True)
            values[name].append(contenders[name]())
    return values


def rate(function: Callable[[], int], seconds: float) -> float:
    """Calls a function, which returns how much it did, for about `seconds`; returns how much it does in a second."""
    function()  # the first call may fill caches
    done, began = 0, time.perf_counter()
    while (passed := time.perf_counter() - began) < seconds or not done:
        done += function()
    return done / passed


def seconds_of(function: Callable[[], Any]) -> float:
    """Returns the seconds that one call takes."""
    began = time.perf_counter()
    function()
    return time.perf_counter() - began


class Table:
    """A table of comparisons, one a line, printed as Markdown.

    Args:
        title: what is measured.
        unit: of the values.
        more_is_better: which way the ratio is taken; above 1 taskmask is always ahead.
    """

    def __init__(self, title: str, unit: str, more_is_better: bool = True):
        self.title, self.unit, self.more_is_better = title, unit, more_is_better
        self.rows: list[tuple[str, ...]] = []

    def add(self, what: str, ours: list[float], name: str, theirs: list[float] | str) -> None:
        """Adds a line: taskmask beside one peer, or the reason why that is skipped."""
        if isinstance(theirs, str):
            self.rows.append((what, spread(ours), name, theirs, "", str(len(ours))))
            return
        pairs = [(a, b) if self.more_is_better else (b, a) for a, b in zip(ours, theirs, strict=True)]
        ratios = [a / b for a, b in pairs]
        self.rows.append((what, spread(ours), name, spread(theirs), spread(ratios), str(len(ratios))))

    def text(self) -> str:
        """Returns the table."""
        direction = "taskmask / peer" if self.more_is_better else "peer / taskmask"
        head = f"{self.title}, {self.unit}. Median (min - max) of n; ratio {direction}, median of the paired ratios."
        return f"{head}\n\n{markdown(HEADER, self.rows)}"


def markdown(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """Returns a Markdown table with its columns aligned."""
    lines = [header, *rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    lines.insert(1, tuple("-" * width for width in widths))
    return "\n".join(
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |" for line in lines
    )


def spread(values: list[float]) -> str:
    """Returns "median (smallest - largest)"."""
    if len(values) == 1:
        return number(values[0])
    return f"{number(statistics.median(values))} ({number(min(values))} - {number(max(values))})"


def number(value: float) -> str:
    """Returns a number with three figures or more."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def machine() -> str:
    """Returns the machine, its load, and the versions in use, in two lines."""
    load = f", load {os.getloadavg()[0]:.2f}" if hasattr(os, "getloadavg") else ""
    memory = _first("/proc/meminfo", "MemTotal")
    memory = f", {int(memory.split()[0]) / 2**20:.0f} GiB" if memory else ""
    where = f"{_first('/proc/cpuinfo', 'model name') or platform.processor()}, {CORES} cores{memory}{load}"
    versions = [f"Python {platform.python_version()}"]
    for package in VERSIONS:
        if importlib.util.find_spec(package):
            versions.append(f"{package} {importlib.metadata.version(package)}")
    return f"Machine: {where}, {platform.system()} {platform.release()}.\nVersions: {', '.join(versions)}."


def _first(file: str, key: str) -> str:
    """Returns the value of the first line "key : value" of a file; empty where there is none."""
    if not os.path.exists(file):
        return ""
    lines = Path(file).read_text(encoding="utf-8", errors="replace").splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(key)), "")


def report(*parts: Table | str) -> None:
    """Prints the command, the machine and the tables."""
    command = shlex.join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *sys.argv[1:]])
    print("\n\n".join([f"`{command}`", machine(), *(part if isinstance(part, str) else part.text() for part in parts)]))
