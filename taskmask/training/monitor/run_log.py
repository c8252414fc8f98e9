"""What a run shows: log.jsonl (the record of truth), a progress bar or plain lines, and TensorBoard."""

from __future__ import annotations

import json
import math
import os
import sys
import time
from pathlib import Path
from typing import Any

from tqdm import tqdm

from taskmask.system.console import write_line
from taskmask.system.failpoints import reach
from taskmask.system.files import MIB, atomic_write, open_to_append, read_bounded
from taskmask.system.json_input import from_json
from taskmask.training.monitor.tensorboard import Board

LARGEST = 1024 * MIB  # a log of ten million lines
GROUPS = {
    "lr": "optim",
    "grad_norm": "optim",
    "loss_scale": "optim",
    "skipped_steps": "optim",
    "tokens_per_second": "speed",
    "epoch": "progress",
    "tokens": "progress",
    "targets": "progress",
}


def cut_log(file: Path, step: int, validated_step: int) -> None:
    """Removes the lines after `step`, and a torn last line, from a log that is to be gone on with.

    Args:
        file: the log.
        step: the last step that is done.
        validated_step: the last validation that is done; that of `step` may be still to come.
    """
    if not file.exists():
        return
    kept = []
    for line in read_bounded(file, LARGEST).decode(errors="replace").splitlines():
        try:
            record = from_json(line)
        except ValueError:
            continue
        if not isinstance(record, dict):
            continue
        if record.get("step", 0) <= (validated_step if record.get("kind") == "valid" else step):
            kept.append(line + "\n")
    with atomic_write(file) as stream:
        stream.write("".join(kept).encode())


def read_log(file: Path, kind: str) -> list[dict[str, Any]]:
    """Returns the records of one kind, "train" or "valid", of a log.jsonl."""
    records = [from_json(line) for line in read_bounded(file, LARGEST).decode().splitlines()]
    return [record for record in records if record["kind"] == kind]


class RunLog:
    """Writes the records of a run; made in the first process only.

    Args:
        folder: the run folder.
        steps: steps of the whole run.
        start: steps done before; what a log holds beyond them is removed.
        validated: the last step of them that was validated.
        tensorboard: whether to write TensorBoard files too.
    """

    def __init__(self, folder: Path, steps: int, start: int, validated: int, tensorboard: bool):
        self.folder, self.steps = folder, steps
        cut_log(folder / "log.jsonl", start, validated)
        self.file = open_to_append(folder / "log.jsonl")
        self.terminal = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
        self.bar = tqdm(
            total=steps, initial=start, unit="step", disable=not self.terminal, dynamic_ncols=True, smoothing=0.05
        )
        self.began, self.start = time.monotonic(), start
        self.board = Board(folder / "tensorboard", start, self._warn) if tensorboard else None

    def train(self, step: int, record: dict[str, Any]) -> None:
        """Writes one line of training figures."""
        self._write("train", step, record)
        self._scalars({f"{GROUPS.get(name, 'train')}/{name}": value for name, value in record.items()}, step)
        shown = {
            "loss": figure(record["loss"], ".3f"),
            "ppl": figure(record["perplexity"], ".1f") if "perplexity" in record else None,
            "acc": figure(record["accuracy"], ".1%") if "accuracy" in record else None,
            "lr": f"{record['lr']:.1e}",
            "norm": f"{record['grad_norm']:.2f}",
            "tok/s": f"{record['tokens_per_second']:,.0f}",
            "skipped": record["skipped_steps"] or None,
        }
        text = "  ".join(f"{name} {value}" for name, value in shown.items() if value is not None)
        if self.terminal:
            self.bar.set_postfix_str(text, refresh=False)
        else:
            passed = time.monotonic() - self.began
            left = passed / max(1, step - self.start) * (self.steps - step)
            self.say(f"step {step}/{self.steps}  {text}  left {duration(left)}")

    def valid(self, step: int, metrics: dict[str, float], tokens: int, best: bool, seconds: float) -> None:
        """Writes the figures of one validation, after `tokens` tokens of training."""
        self._write("valid", step, {**metrics, "tokens": tokens, "best": best, "seconds": round(seconds, 3)})
        self._scalars({f"valid/{name}": value for name, value in metrics.items()}, step)
        figures = "  ".join(f"{name} {figure(value)}" for name, value in metrics.items())
        self.say(f"step {step}/{self.steps}  validation  {figures}{'  (best)' if best else ''}")

    def advance(self) -> None:
        """Moves the progress bar by one step."""
        self.bar.update()

    def say(self, text: str) -> None:
        """Writes a line above the progress bar; see `write_line`."""
        write_line(text, self.bar.write if self.terminal else print)

    def text(self, tag: str, lines: list[str], step: int) -> None:
        """Shows lines in TensorBoard."""
        if self.board:
            self.board.text(tag, lines, step)

    def hparams(self, choices: dict[str, Any], metrics: dict[str, float]) -> None:
        """Adds the run to TensorBoard's table of hyper-parameters; see `Board.hparams`."""
        if self.board:
            self.board.hparams(choices, metrics)

    def flush(self) -> None:
        """Makes what was logged last before a checkpoint is written."""
        self.file.flush()
        os.fsync(self.file.fileno())
        if self.board:
            self.board.flush()

    def close(self) -> None:
        """Ends the bar and closes the files."""
        self.bar.close()
        self.file.close()
        if self.board:
            self.board.close()

    def _write(self, kind: str, step: int, record: dict[str, Any]) -> None:
        reach("log.write")
        clean = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in record.items()}
        line = json.dumps({"kind": kind, "step": step, **clean}, allow_nan=False) + "\n"
        self.file.write(line.encode())
        self.file.flush()

    def _scalars(self, values: dict[str, float], step: int) -> None:
        if self.board:
            self.board.scalars(values, step)

    def _warn(self, reason: str) -> None:
        self.say(f"taskmask: warning: {reason}")


def figure(value: float, form: str = ".4g") -> str:
    """Returns a metric for people: "undefined" of NaN."""
    return "undefined" if math.isnan(value) else f"{value:{form}}"


def duration(seconds: float) -> str:
    """Returns 5025 as "1:23:45"."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
