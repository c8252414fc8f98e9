"""Several processes of one run, started by torchrun: who I am, sums over all, and the wrapping in DDP."""

import contextlib
import dataclasses
import datetime
import itertools
import os
import re
import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.rendezvous import rendezvous
from torch.nn.parallel import DistributedDataParallel

from taskmask.config.settings import RunSettings
from taskmask.errors import ConfigError, DistributedError
from taskmask.system.failpoints import reach
from taskmask.system.hardware import num_threads
from taskmask.training.precision import fast_fp32


@dataclasses.dataclass(frozen=True)
class World:
    """This process among those of the run.

    Args:
        rank: its number, from 0; rank 0 writes the files.
        size: number of processes.
        local_rank: its number on this machine.
        local_size: processes on this machine.
        store: the table of keys and values that all processes share, None for one alone.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1
    store: dist.Store | None = None

    @property
    def is_first(self) -> bool:
        """True in the process that writes the files."""
        return self.rank == 0

    def sum(self, values: list[float]) -> list[float]:
        """Returns the sums of `values` over all processes, the same in each of them."""
        if self.size == 1:
            return values
        tensor = torch.tensor(values, dtype=torch.float64)
        dist.all_reduce(tensor)
        return tensor.tolist()

    def gather(self, value: int) -> list[int]:
        """Returns the 64-bit integer of each process, in their order, in all of them."""
        if self.size == 1:
            return [value]
        found = torch.empty(self.size, dtype=torch.int64)
        dist.all_gather_single(found, torch.tensor([value], dtype=torch.int64))
        return found.tolist()

    def collect(self, value: Any) -> list[Any]:
        """Returns the value of each process, in their order, in all of them; for what is small."""
        if self.size == 1:
            return [value]
        found: list[Any] = [None] * self.size
        dist.all_gather_object(found, value)
        return found

    def told(self, text: str) -> list[str]:
        """Returns the text of each process, in their order; called by all together."""
        if self.store is None:
            return [text]
        self.store.set(f"taskmask-{self.rank}-tells", text)
        self.wait()
        return [self.store.get(f"taskmask-{rank}-tells").decode() for rank in range(self.size)]

    def missing(self, seconds: float = 3.0) -> list[int]:
        """Returns the processes that have not called this too, after waiting for them: called by each that fails."""
        if self.store is None:
            return []
        silent, limit = list(range(self.size)), time.monotonic() + seconds
        try:
            self.store.set(f"taskmask-{self.rank}-failed", "")
            while silent and time.monotonic() < limit:
                time.sleep(0.05)
                silent = [rank for rank in silent if not self.store.check([f"taskmask-{rank}-failed"])]
        except RuntimeError:  # its keeper is gone: without torchrun, the first process
            return [0]
        return silent

    def wait(self) -> None:
        """Returns when every process has come here."""
        if self.size > 1:
            dist.barrier()


_joins = itertools.count()  # a process may join again, for the next seed: what it told before is no longer true


_stores: list[dist.Store] = []


def _meeting_place(rank: int, size: int, patience: datetime.timedelta) -> dist.Store:
    """Returns the store where the processes meet, one for their lives: at each join a new one might be the old one."""
    if not _stores:
        store, _, _ = next(rendezvous("env://", rank, size, timeout=patience))
        if os.environ.get("GROUP_WORLD_SIZE") == "1":
            # torchrun keeps it over a restart, with the addresses of the dead; machines count restarts apart
            store = dist.PrefixStore(f"life-{os.environ.get('TORCHELASTIC_RESTART_COUNT')}", store)
        _stores.append(store)
    return _stores[0]


def join(settings: RunSettings) -> tuple[World, torch.device]:
    """Joins the processes that torchrun started, or none; sets threads; returns this process and its device."""
    number = {name: os.environ.get(name) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")}
    if number["RANK"] is None:
        world = World()
    else:
        try:
            rank, size, local_rank = (int(number[name] or "") for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"))
            world = World(rank, size, local_rank, int(number["LOCAL_WORLD_SIZE"] or size))
        except ValueError:
            world = World(size=0)
        if not 0 <= world.rank < world.size:
            raise ConfigError(
                f"RANK={number['RANK']} WORLD_SIZE={number['WORLD_SIZE']} LOCAL_RANK={number['LOCAL_RANK']}",
                where="environment",
                expected="three numbers, RANK below WORLD_SIZE",
                fix="start several processes with torchrun",
            )
    device = find_device(settings.device, world)
    torch.set_num_threads(settings.threads or num_threads(world.local_size))
    if world.size > 1 and not dist.is_initialized():
        backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
        patience = datetime.timedelta(minutes=settings.timeout_minutes)
        try:
            store = dist.PrefixStore(f"join-{next(_joins)}", _meeting_place(world.rank, world.size, patience))
            dist.init_process_group(backend, store=store, rank=world.rank, world_size=world.size, timeout=patience)
        except (ValueError, RuntimeError) as error:
            what = f"no connection to the other processes: {str(error).splitlines()[0]}"
            raise DistributedError(what, fix="start them with torchrun") from error
        world = dataclasses.replace(world, store=store)
    return world, device


@contextlib.contextmanager
def last_words() -> Iterator[None]:
    """Ignores the SIGTERM by which torchrun ends a process whose peer is lost, as long as this one finds out whose."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def peers_watched(world: World) -> Iterator[None]:
    """Turns the many errors by which torch tells that another process is gone, or silent, into a DistributedError."""
    try:
        yield
    except RuntimeError as error:
        if not isinstance(error, dist.DistError) and not re.search(r"gloo|NCCL|by peer|Timed out waiting", str(error)):
            raise
        with last_words():
            lost = ", ".join(map(str, world.missing()))
        reason = re.sub(r"\[\S+\.cc:\d+\] ?", "", str(error).splitlines()[0]).split(". ")[0]  # without torch's advice
        what = f"lost {f'process {lost}' if lost else 'another process'}: {reason}"
        raise DistributedError(what, fix="see its own message; the same command resumes") from error


@contextlib.contextmanager
def joined(settings: RunSettings) -> Iterator[tuple[World, torch.device]]:
    """Joins as `join` does, for the time of a `with`, in which fp32 products are fast.

    After an error nobody leaves: on GPUs leaving waits for the others, who may be waiting for this process.
    """
    with own_threads():
        world, device = join(settings)
        with fast_fp32(device):
            yield world, device
        leave()


@contextlib.contextmanager
def own_threads() -> Iterator[None]:
    """Gives the caller back, at the end of a `with`, the number of threads that torch had."""
    before = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(before)


def check_same(world: World, checkpoint: str) -> None:
    """Raises a DistributedError unless all processes chose the same checkpoint: its run may be at work."""
    chosen = dict.fromkeys(world.told(checkpoint))
    if len(chosen) > 1:
        what = f"the processes chose different checkpoints: {', '.join(chosen)}"
        raise DistributedError(what, where="--from", fix="name one of them")


def leave() -> None:
    """Leaves the group of processes, if there is one."""
    if dist.is_initialized():
        # A thread of torch drops the tensors of the last exchange and needs the interpreter for it; the end of the
        # group, which holds the interpreter, waits for that thread. So the thread goes first.
        time.sleep(0.1)
        dist.destroy_process_group()


def wrap(objective: nn.Module, world: World) -> nn.Module:
    """Wraps the objective so that gradients are summed over the processes; alone it is returned as it is."""
    if world.size == 1:
        return objective
    wrapped = DistributedDataParallel(objective, gradient_as_bucket_view=True)
    wrapped.register_comm_hook(None, _sum_gradients)
    return wrapped


def check_replicas(module: nn.Module, world: World, since: int) -> None:
    """Checks that all processes hold the same weights, to the last bit.

    DDP sums gradients, not weights: once weights differ, by a flipped bit or a step that one process made alone, they
    differ for ever, and no norm of a gradient shows it.

    Args:
        module: the objective.
        world: the processes.
        since: the last step at which they were the same.

    Raises:
        DistributedError: they differ; names the processes.
    """
    if world.size == 1:
        return
    # the sum of all weights as integers: one other bit changes it
    sums = [p.detach().view(getattr(torch, f"int{8 * p.element_size()}")).sum() for p in module.parameters()]
    hashes = world.gather(int(torch.stack(sums).sum()))
    apart = [str(rank) for rank, value in enumerate(hashes) if value != hashes[0]]
    if apart:
        raise DistributedError(
            f"the weights of process {', '.join(apart)} differ from those of process 0; at step {since} they did not",
            fix="the same command goes on from the last checkpoint, which is sound; if it happens again, suspect the "
            "machine of that process, or code of your own that treats processes differently",
        )


def _sum_gradients(state: None, bucket: dist.GradBucket) -> torch.futures.Future[torch.Tensor]:
    """Sums instead of averaging: each loss is already divided by the count over all processes."""
    if reach("step.gradients") == "skip":
        alone: torch.futures.Future[torch.Tensor] = torch.futures.Future()
        alone.set_result(bucket.buffer())
        return alone
    work = dist.all_reduce(bucket.buffer(), async_op=True)
    return work.get_future().then(lambda future: future.value()[0])


def find_device(name: str, world: World, where: str = "run.device") -> torch.device:
    """Returns the device that a setting names, and makes a GPU the current one.

    Args:
        name: "auto" (a GPU if torch sees one), "cpu", "cuda" or "cuda:N".
        world: without a number, each process takes the GPU of its local rank.
        where: the name of the setting, for errors.

    Raises:
        ConfigError: the name is wrong, or there is no such GPU.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if not re.fullmatch(r"cpu|cuda(:\d+)?", name):
        raise ConfigError(f"is {name!r}", where=where, expected="auto, cpu, cuda or cuda:N")
    if name == "cpu":
        return torch.device("cpu")
    number = int(name.partition(":")[2] or world.local_rank)
    if number >= torch.cuda.device_count():
        raise ConfigError(
            f"is {name!r}, GPU number {number}, but torch sees {torch.cuda.device_count()}",
            where=where,
            fix=f"use {where} cpu, or start a process for each GPU",
        )
    torch.cuda.set_device(number)
    return torch.device("cuda", number)
