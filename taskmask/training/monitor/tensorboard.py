"""The TensorBoard files of a run. A failure of TensorBoard never stops a training: log.jsonl has the same figures."""

from __future__ import annotations

import contextlib
import errno
import math
import operator
import shutil
import textwrap
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from taskmask.errors import visible


class Board:
    """Writes curves, texts and the table of hyper-parameters. After the first failure it warns once and stays silent.

    Args:
        folder: the folder of the event files; emptied if the run begins.
        start: steps done before. Later events of an earlier process are purged from the curves.
        warn: called with the reason if TensorBoard fails.
    """

    def __init__(self, folder: Path, start: int, warn: Callable[[str], None]):
        self._writer: Any = None
        self._warn = warn
        self._try(lambda: self._open(folder, start))

    @property
    def works(self) -> bool:
        """Whether events are still written."""
        return self._writer is not None

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Adds one point to each curve; leaves out values that are not finite."""
        for tag, value in values.items():
            if math.isfinite(value):
                self._call(operator.methodcaller("add_scalar", tag, value, step))

    def text(self, tag: str, lines: Sequence[str], step: int) -> None:
        """Shows lines as they are; breaks long ones."""
        wrapped = [textwrap.wrap(line, 100, subsequent_indent="  ") for line in lines]
        shown = visible("\n".join("    " + part for parts in wrapped for part in parts))
        self._call(lambda writer: writer.add_text(tag, shown, step))

    def hparams(self, choices: Mapping[str, Any], metrics: Mapping[str, float]) -> None:
        """Adds the run to the table of hyper-parameters.

        Args:
            choices: {"section.field": value} to compare runs by.
            metrics: the last values of the validation curves.
        """

        def add(writer: Any) -> None:
            from torch.utils.tensorboard.summary import hparams

            flat = {k: v if isinstance(v, int | float | bool) else str(v) for k, v in choices.items()}
            for summary in hparams(flat, {f"valid/{name}": value for name, value in metrics.items()}):
                writer.file_writer.add_summary(summary)

        self._call(add)

    def flush(self) -> None:
        """Writes everything that was added to the disk."""
        self._call(lambda writer: writer.flush())

    def close(self) -> None:
        """Closes the files."""
        self._call(lambda writer: writer.close())
        self._writer = None

    def _open(self, folder: Path, start: int) -> None:
        if not start:
            shutil.rmtree(folder, ignore_errors=True)
        # the first session has a purge_step too: TensorBoard takes the first one it reads for the beginning of the run
        self._writer = open_writer(folder, purge_step=start + 1 if start else 0)

    def _call(self, use: Callable[[Any], None]) -> None:
        if self._writer is not None:
            self._try(lambda: use(self._writer))

    def _try(self, action: Callable[[], None]) -> None:
        try:
            action()
        except Exception as error:  # its writer thread passes on any error of the disk
            writer, self._writer = self._writer, None
            with contextlib.suppress(Exception):
                if writer is not None:
                    writer.close()
            what = "nothing more" if writer is not None else "nothing"
            self._warn(f"{what} is written for TensorBoard: {error}; log.jsonl holds the same figures")


def open_writer(folder: Path, **options: Any) -> Any:
    """Opens a TensorBoard writer whose errors of the disk come out of its calls, and are not printed by its thread.

    Raises:
        OSError: the folder is a link, or cannot be written.
    """
    from torch.utils.tensorboard import SummaryWriter

    if folder.is_symlink():
        raise OSError(errno.ELOOP, "is a link, which is not followed", str(folder))
    threading.excepthook = _without_tensorboard(threading.excepthook)
    return SummaryWriter(str(folder), **options)


def _without_tensorboard(report: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Returns a `threading.excepthook` that leaves out TensorBoard's writer threads: `Board` reports their errors."""

    def hook(failed: Any) -> None:
        if not type(failed.thread).__module__.startswith("tensorboard."):
            report(failed)

    return hook
