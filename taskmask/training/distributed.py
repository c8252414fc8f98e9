"""Several processes of one run, started by torchrun: who I am, sums over all, and the wrapping in DDP."""

import contextlib
import dataclasses
import datetime
import os
import re
from collections.abc import Iterator

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from taskmask.errors import ConfigError, DistributedError
from taskmask.machine import num_cores
from taskmask.settings import RunSettings


@dataclasses.dataclass(frozen=True)
class World:
    """This process among those of the run.

    Args:
        rank: its number, from 0; rank 0 writes the files.
        size: number of processes.
        local_rank: its number on this machine.
        local_size: processes on this machine.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1

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

    def wait(self) -> None:
        """Returns when every process has come here."""
        if self.size > 1:
            dist.barrier()


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
    device = _device(settings.device, world)
    torch.set_num_threads(settings.threads or max(1, num_cores() // world.local_size))
    if world.size > 1 and not dist.is_initialized():
        backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
        try:
            dist.init_process_group(backend, timeout=datetime.timedelta(minutes=settings.timeout_minutes))
        except (ValueError, RuntimeError) as error:
            what = f"no connection to the other processes: {str(error).splitlines()[0]}"
            raise DistributedError(what, fix="start them with torchrun") from error
    return world, device


@contextlib.contextmanager
def peers_watched() -> Iterator[None]:
    """Turns the many errors by which torch tells that another process is gone, or silent, into a DistributedError."""
    try:
        yield
    except RuntimeError as error:
        if not isinstance(error, dist.DistError) and not re.search(r"gloo|NCCL|by peer|Timed out waiting", str(error)):
            raise
        what = f"lost another process: {str(error).splitlines()[0]}"
        raise DistributedError(what, fix="see its own message; the same command resumes") from error


def leave() -> None:
    """Leaves the group of processes, if there is one."""
    if dist.is_initialized():
        dist.destroy_process_group()


def wrap(objective: nn.Module, world: World) -> nn.Module:
    """Wraps the objective so that gradients are summed over the processes; alone it is returned as it is."""
    if world.size == 1:
        return objective
    wrapped = DistributedDataParallel(objective, gradient_as_bucket_view=True)
    wrapped.register_comm_hook(None, _sum_gradients)
    return wrapped


def _sum_gradients(state: None, bucket: dist.GradBucket) -> torch.futures.Future[torch.Tensor]:
    """Sums instead of averaging: each loss is already divided by the count over all processes."""
    work = dist.all_reduce(bucket.buffer(), async_op=True)
    return work.get_future().then(lambda future: future.value()[0])


def _device(name: str, world: World) -> torch.device:
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if not re.fullmatch(r"cpu|cuda(:\d+)?", name):
        raise ConfigError(f"is {name!r}", where="run.device", expected="auto, cpu, cuda or cuda:N")
    if name == "cpu":
        return torch.device("cpu")
    number = int(name.partition(":")[2] or world.local_rank)
    if number >= torch.cuda.device_count():
        raise ConfigError(
            f"is {name!r}, GPU number {number}, but torch sees {torch.cuda.device_count()}",
            where="run.device",
            fix="use --run.device cpu, or start a process for each GPU",
        )
    torch.cuda.set_device(number)
    return torch.device("cuda", number)
