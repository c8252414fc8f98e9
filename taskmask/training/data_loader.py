"""From tickets (which rows, in which epoch) to batches of tensors, here or in worker processes."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import multiprocessing
import signal
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader

from taskmask.config.settings import Settings
from taskmask.data.batch import Batch
from taskmask.data.batching import Plan, plan_epoch, this_rank
from taskmask.data.dataset import Dataset
from taskmask.data.rng import RowRng
from taskmask.errors import DataError, TaskmaskError
from taskmask.registry import load_user_dir, user_dirs
from taskmask.system.failpoints import reach
from taskmask.system.hardware import check_semaphores
from taskmask.training.build import DataParts, build_data

LOOK_EVERY = 2.0


@dataclasses.dataclass(frozen=True)
class Position:
    """A place in the endless stream of micro-batches: the next one to take."""

    step: int = 0
    epoch: int = 1
    micro_batch: int = 0


@dataclasses.dataclass(frozen=True)
class Ticket:
    """An order for one micro-batch.

    Args:
        ids: int64 [B], the rows.
        rng: their random numbers.
        number: the micro-batch's number in its step, over all processes; dropout is seeded with it.
        after: the position when the step is done.
    """

    ids: np.ndarray
    rng: RowRng
    number: int = 0
    after: Position = Position()


def training_tickets(
    lengths: np.ndarray, settings: Settings, views: int, start: Position, rank: int, world_size: int, num_turns: int = 1
) -> Iterator[Ticket]:
    """Yields this process's tickets, step by step, from `start` to the last step of the run.

    A step takes the next `train.micro_batches_per_step` micro-batches of the stream, in which epochs follow each other
    without a seam; so no step is ever short, and the position is two numbers. With several turns the micro-batches of a
    step come again in as many steps in succession.
    """
    train = settings.train
    epoch, place = start.epoch, start.micro_batch

    @functools.lru_cache(maxsize=min(num_turns, 2))  # a step that comes again may lie on the seam of two epochs
    def plan_of(epoch: int) -> Plan:
        return plan_epoch(lengths, train.seed, epoch, train.max_tokens, views)

    for step in range(start.step, train.steps):
        turn, orders, next_epoch, next_place = step % num_turns, [], epoch, place
        for _ in range(train.micro_batches_per_step):
            if next_place >= len(plan_of(next_epoch)):
                next_epoch, next_place = next_epoch + 1, 0
            orders.append((next_epoch, plan_of(next_epoch)[next_place]))
            next_place += 1
        if turn == num_turns - 1:
            epoch, place = next_epoch, next_place
        for number in this_rank(0, train.micro_batches_per_step, rank, world_size):
            row_epoch, ids = orders[number]
            rng = RowRng(train.seed, row_epoch, ids, progress=step / train.steps, turn=turn)
            yield Ticket(ids, rng, number, Position(step + 1, epoch, place))


def frozen_tickets(lengths: np.ndarray, max_tokens: int, views: int) -> list[Ticket]:
    """Returns the tickets of one pass over a split whose masks never change: epoch 0, seed 0, always."""
    plan = plan_epoch(lengths, 0, 0, max_tokens, views)
    return [Ticket(plan[place], RowRng(0, 0, plan[place], progress=1.0)) for place in range(len(plan))]


class BatchMaker:
    """Makes the batch of a ticket; what worker processes run.

    A process that is forked inherits it. One that is spawned gets the settings and makes it anew, since a plug-in's
    classes and functions cannot be sent, but can be loaded there again.

    Args:
        parts: task and rows.
        split: the split whose rows it takes.
        settings: what the parts were made from.
        labels: names of the labels that the task knows; None: those of the dataset.
    """

    def __init__(self, parts: DataParts, split: str, settings: Settings, labels: dict[str, list[str]] | None = None):
        self.source, self.task = parts.sources[split], parts.task
        self.split, self.settings, self.labels = split, settings, labels

    def __reduce__(self) -> tuple[Any, ...]:
        return _make_anew, (self.settings.to_dict(), self.split, self.labels, user_dirs(), self.source.checksums)

    def make(self, ticket: Ticket) -> Batch:
        """Makes the batch that a ticket orders, of numpy arrays."""
        reach("data.read")
        return self.task.make_batch(self.source[ticket.ids], ticket.rng)

    def __getitem__(self, ticket: Ticket) -> Batch | TaskmaskError:
        try:
            return self.make(ticket)
        except TaskmaskError as error:  # raised in a worker process, it would come out as a traceback
            return error


class _Failed:
    """What a worker process has in the place of a `BatchMaker` that it cannot make: the error, as each batch."""

    def __init__(self, error: TaskmaskError):
        self.error = error

    def __getitem__(self, ticket: Ticket) -> TaskmaskError:
        return self.error


def _make_anew(
    tables: dict[str, Any],
    split: str,
    labels: dict[str, list[str]] | None,
    plug_ins: tuple[str, ...],
    checksums: list[str],
) -> BatchMaker | _Failed:
    """Makes a `BatchMaker` in a process that shares no memory with the one that trains, of the same rows."""
    try:
        for path in plug_ins:
            load_user_dir(path)
        settings = Settings.of(tables)
        maker = BatchMaker(build_data(settings, [split], labels), split, settings, labels)
        if maker.source.checksums != checksums:
            raise DataError(
                f"split {split!r} was replaced by another during the work",
                where=settings.data.path,
                fix="put the old dataset back and run the same command again, or begin anew with this one",
            )
    except TaskmaskError as error:
        return _Failed(error)
    return maker


def on_device(batch: Batch, device: torch.device) -> Batch:
    """Returns the batch as tensors on `device`; to a GPU through pinned memory, so that nobody waits for the copy."""

    def move(array: np.ndarray) -> torch.Tensor:
        tensor = torch.from_numpy(np.ascontiguousarray(array))
        return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor

    return batch.map(move)


def batches(tickets: Iterable[Ticket], maker: BatchMaker, device: torch.device) -> Iterator[tuple[Ticket, Batch]]:
    """Yields each ticket with its batch on `device`; with workers, batches are prepared ahead, in the same order.

    Workers are started in Python's own way, which `multiprocessing.set_start_method` changes.
    """
    run = maker.settings.run
    if not run.workers:
        for ticket in tickets:
            yield ticket, on_device(maker.make(ticket), device)
        return
    check_semaphores(2 * (run.workers + 2), "--run.workers 0")  # twice: those of training wait while others validate
    sent: list[Ticket] = []

    def remember() -> Iterator[Ticket]:
        for ticket in tickets:
            sent.append(ticket)
            yield ticket

    loader: Any = DataLoader(
        maker,  # type: ignore[arg-type]
        batch_size=None,
        sampler=remember(),
        num_workers=run.workers,
        worker_init_fn=_outlive_signals,
        timeout=LOOK_EVERY,
    )
    for batch in _waited_for(iter(loader), 60 * run.timeout_minutes):
        if isinstance(batch, TaskmaskError):
            raise batch
        yield sent.pop(0), on_device(batch, device)


def _waited_for(batches_of_workers: Iterator[Any], patience: float) -> Iterator[Any]:
    """Yields the batches of worker processes. Every `LOOK_EVERY` seconds torch looks whether the workers still live.

    Raises:
        RuntimeError: a worker has died, or all are silent for longer than `patience` seconds.
    """
    waited = 0.0
    while True:
        try:
            batch = next(batches_of_workers)
        except StopIteration:
            return
        except RuntimeError as error:
            waited += LOOK_EVERY
            if "timed out" not in str(error) or waited >= patience:
                raise
        else:
            waited = 0.0
            yield batch


def _outlive_signals(worker: int) -> None:
    """Lets a worker process live through the signal that stops the run and reaches the whole group of processes.

    The training process goes on to the end of its step, and needs batches. A second SIGTERM ends a worker as usual.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda number, frame: signal.signal(number, signal.SIG_DFL))


@contextlib.contextmanager
def workers_watched(data: str) -> Iterator[None]:
    """Turns the several errors that torch raises when a worker process has died into one line.

    Args:
        data: folder of the dataset. A file that shrinks while it is mapped kills its reader without a word of it.
    """
    try:
        yield
    except BaseException as error:
        for worker in multiprocessing.active_children():
            if worker.daemon:  # as torch makes its workers; one that outlives signals, or hangs, would hold up the end
                worker.kill()
        signs = ("DataLoader worker (", "DataLoader timed out", "ConnectionReset", "EOFError()")
        if not any(sign in repr(error) for sign in signs):  # a mistake in the code that a worker ran comes out as it is
            raise
        if data:
            Dataset.open(data)  # names the file that is not as long as it was
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise DataError(
            f"a process that prepares batches has died or hangs: {reason}",
            where="run.workers",
            fix="lower run.workers if memory is short, or check the dataset's files; the same command resumes",
        ) from error
