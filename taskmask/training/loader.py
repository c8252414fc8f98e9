"""From tickets (which rows, in which epoch) to batches of tensors, here or in worker processes."""

from __future__ import annotations

import contextlib
import dataclasses
import signal
from collections.abc import Iterator

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from taskmask.data.draws import Draw
from taskmask.data.plan import plan_epoch, this_rank
from taskmask.data.rows import Batch
from taskmask.data.source import RowSource
from taskmask.errors import DataError, TaskmaskError
from taskmask.settings import Settings
from taskmask.tasks.base import Task


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
        draw: their random numbers.
        number: the micro-batch's number in its step, over all processes; dropout is seeded with it.
        after: the position when the step is done.
    """

    ids: np.ndarray
    draw: Draw
    number: int = 0
    after: Position = Position()


def training_tickets(
    lengths: np.ndarray, settings: Settings, views: int, start: Position, rank: int, world_size: int
) -> Iterator[Ticket]:
    """Yields this process's tickets, step by step, from `start` to the last step of the run.

    A step takes the next `train.micro_batches_per_step` micro-batches of the stream, in which epochs follow each other
    without a seam; so no step is ever short, and the position is two numbers.
    """
    train = settings.train
    epoch, place = start.epoch, start.micro_batch
    plan = plan_epoch(lengths, train.seed, epoch, train.max_tokens, views)
    for step in range(start.step, train.steps):
        orders = []
        for _ in range(train.micro_batches_per_step):
            if place == len(plan):
                epoch, place = epoch + 1, 0
                plan = plan_epoch(lengths, train.seed, epoch, train.max_tokens, views)
            orders.append((epoch, plan[place]))
            place += 1
        for number in this_rank(0, train.micro_batches_per_step, rank, world_size):
            row_epoch, ids = orders[number]
            draw = Draw(train.seed, row_epoch, ids, progress=step / train.steps)
            yield Ticket(ids, draw, number, Position(step + 1, epoch, place))


def frozen_tickets(lengths: np.ndarray, max_tokens: int, views: int, rank: int, world_size: int) -> Iterator[Ticket]:
    """Yields this process's tickets for one pass over a split whose masks never change: epoch 0, seed 0, always."""
    plan = plan_epoch(lengths, 0, 0, max_tokens, views)
    for place in range(rank, len(plan), world_size):
        yield Ticket(plan[place], Draw(0, 0, plan[place], progress=1.0))


class BatchMaker(Dataset):
    """Makes the batch of a ticket; what worker processes run.

    Args:
        source: the rows of a split.
        task: makes batches of rows.
    """

    def __init__(self, source: RowSource, task: Task):
        self.source, self.task = source, task

    def make(self, ticket: Ticket) -> Batch:
        """Makes the batch that a ticket orders."""
        batch = self.task.make_batch(self.source[ticket.ids], ticket.draw)
        return batch.map(lambda array: torch.from_numpy(np.ascontiguousarray(array)))

    def __getitem__(self, ticket: Ticket) -> Batch | TaskmaskError:
        try:
            return self.make(ticket)
        except TaskmaskError as error:  # raised in a worker process, it would come out as a traceback
            return error


def batches(
    tickets: Iterator[Ticket], maker: BatchMaker, workers: int, device: torch.device
) -> Iterator[tuple[Ticket, Batch]]:
    """Yields each ticket with its batch on `device`; with workers, batches are prepared ahead, in the same order."""
    if not workers:
        for ticket in tickets:
            yield ticket, maker.make(ticket).map(lambda tensor: tensor.to(device))
        return
    sent: list[Ticket] = []

    def remember() -> Iterator[Ticket]:
        for ticket in tickets:
            sent.append(ticket)
            yield ticket

    loader = DataLoader(
        maker,
        batch_size=None,
        sampler=remember(),
        num_workers=workers,
        worker_init_fn=_outlive_signals,
        multiprocessing_context="fork",  # plug-ins and functions as maskers live in this process alone
        pin_memory=device.type == "cuda",
    )
    for batch in loader:
        if isinstance(batch, TaskmaskError):
            raise batch
        yield sent.pop(0), batch.map(lambda tensor: tensor.to(device, non_blocking=True))


def _outlive_signals(worker: int) -> None:
    """Lets a worker process live through the signal that stops the run and reaches the whole group of processes.

    The training process goes on to the end of its step, and needs batches. A second SIGTERM ends a worker as usual.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda number, frame: signal.signal(number, signal.SIG_DFL))


@contextlib.contextmanager
def workers_watched() -> Iterator[None]:
    """Turns the several errors that torch raises, anywhere, when a worker process has died, into one line."""
    try:
        yield
    except (RuntimeError, ConnectionError, EOFError) as error:
        if not any(sign in repr(error) for sign in ("DataLoader worker", "ConnectionReset", "EOFError")):
            raise
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise DataError(
            f"a process that prepares batches has died: {reason}",
            where="run.workers",
            fix="lower run.workers if memory is short, or check the dataset's files; the same command resumes",
        ) from error
