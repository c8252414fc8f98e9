"""What the machine gives and refuses: cores, threads, memory, and the errors of the system in plain words."""

from __future__ import annotations

import math
import multiprocessing
import os
import resource
from pathlib import Path

from taskmask.errors import ConfigError, StorageError, TaskmaskError, storage_error

MOST_THREADS = 1024
"""Of a process, and processes that prepare batches: far more of them end in a crash or take all memory."""


def num_cores() -> int:
    """Returns the cores that this process may use, which in a container or a batch job are not all of the machine."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return math.ceil(min(allowed, quota()))


def quota(groups: Path = Path("/proc/self/cgroup"), root: Path = Path("/sys/fs/cgroup")) -> float:
    """Returns how many cores the control groups of this process allow, on average; infinity without a limit.

    Args:
        groups: the list of the groups, as Linux gives it.
        root: where their files are mounted; in a container, those of its own group may be all that is there.
    """
    try:
        folders = [folder for line in groups.read_text().splitlines() for folder in _groups(line, root)]
        return min((share for folder in folders for share in _shares(folder)), default=math.inf)
    except (OSError, ValueError):
        return math.inf


def _groups(line: str, root: Path) -> list[Path]:
    """Returns the folders of a line "number:controllers:path": of the group, and of all that it stands in."""
    _, controllers, path = line.split(":", 2)
    homes: list[Path] = []
    if not controllers:  # version 2
        homes = [root, root / "unified"]
    elif "cpu" in controllers.split(","):
        homes = [root / controllers, root / "cpu"]
    parts = [part for part in path.split("/") if part not in ("", "..")]
    return [home.joinpath(*parts[:depth]) for home in homes for depth in range(len(parts) + 1)]


def _shares(folder: Path) -> list[float]:
    """Returns the limit of a control group, in cores, as a list of one; an empty list where it has none."""
    files = [folder / "cpu.max"]  # version 2: "150000 100000", or "max 100000"
    if not files[0].exists():
        files = [folder / "cpu.cfs_quota_us", folder / "cpu.cfs_period_us"]  # version 1: -1 is no limit
    words = " ".join(file.read_text() for file in files if file.exists()).split()
    if len(words) != 2 or not all(word.isdecimal() for word in words) or int(words[1]) == 0:
        return []
    return [int(words[0]) / int(words[1])]


def num_threads(processes: int = 1) -> int:
    """Returns the threads to compute with, where no setting says: those of OMP_NUM_THREADS, or one a core.

    Args:
        processes: those that share the cores of this machine.
    """
    asked = {
        name: os.environ.get(name, "").partition(",")[0].strip() for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
    }
    if "TORCHELASTIC_RUN_ID" in os.environ and processes > 1 and asked["OMP_NUM_THREADS"] == "1":
        del asked["OMP_NUM_THREADS"]  # torchrun sets 1 where the user sets nothing
    given = [int(text) for text in asked.values() if text.isdecimal() and 0 < int(text) <= MOST_THREADS]
    return given[0] if given else max(1, num_cores() // processes)


def wait_passively() -> None:
    """Lets waiting threads sleep instead of spin, unless the user has set it. Call it before torch is loaded.

    libgomp, which comes with torch, spins for milliseconds. If two programs share cores, each then spins while the
    other could work, and both are several times slower.
    """
    if not {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"} & os.environ.keys():
        os.environ["OMP_WAIT_POLICY"] = "passive"


def check_semaphores(queues: int, instead: str) -> None:
    """Tries what worker processes need beside their own memory: semaphores, which Linux keeps in /dev/shm.

    Args:
        queues: between the processes.
        instead: the option that asks for no workers.

    Raises:
        StorageError: there is no room for them; a library would leave its workers half made, or blame another file.
    """
    try:
        for queue in [multiprocessing.get_context().Queue() for _ in range(queues)]:
            queue.close()
    except (OSError, ImportError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        what = f"has no room for the semaphores of worker processes: {reason}"
        raise StorageError(what, where="/dev/shm", fix=f"enlarge it (docker: --shm-size), or give {instead}") from None


_NO_MEMORY = ("can't allocate memory", "cannot allocate memory", "can't start new thread", "failed to map segment")


def is_out_of_memory(error: BaseException) -> bool:
    """Tells the errors by which Python and torch, on CPU and GPU, say that there is no more memory."""
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or any(sign in str(error).lower() for sign in _NO_MEMORY)
    )


def in_our_words(error: BaseException) -> TaskmaskError | None:
    """Says what an error of the system or of PyTorch means for the user; None where it is a bug of ours."""
    text = str(error).split("\n")[0]
    if isinstance(error, TaskmaskError):
        return error
    if is_out_of_memory(error):
        fix = "lower --train.max_tokens, or take a smaller model"
        if resource.getrlimit(resource.RLIMIT_AS)[0] != resource.RLIM_INFINITY:
            fix = f"raise the limit of the address space (ulimit -v); else {fix}"
        return StorageError(f"not enough memory: {text or type(error).__name__}", fix=fix)
    if type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
        return ConfigError(f"torch.compile failed: {text}", where="run.compile", fix="leave --run.compile out")
    if isinstance(error, OSError) and error.errno:
        path = str(error.filename or "")
        return StorageError(error.strerror or text, where=path, fix=storage_error(Path(path), error).fix)
    return None
