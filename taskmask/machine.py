"""What the machine gives and refuses: cores, memory, and the errors of the system in plain words."""

from __future__ import annotations

import os
from pathlib import Path

from taskmask.errors import ConfigError, StorageError, TaskmaskError, storage_error


def num_cores() -> int:
    """Returns the cores that this process may use, which in a container or a batch job are not all of the machine."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


_NO_MEMORY = "can't allocate memory"


def is_out_of_memory(error: BaseException) -> bool:
    """Tells the errors by which Python and torch, on CPU and GPU, say that there is no more memory."""
    return isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError" or _NO_MEMORY in str(error)


def in_our_words(error: BaseException) -> TaskmaskError | None:
    """Says what an error of the system or of PyTorch means for the user; None where it is a bug of ours."""
    text = str(error).split("\n")[0]
    if isinstance(error, TaskmaskError):
        return error
    if is_out_of_memory(error):
        fix = "lower --train.max_tokens, or take a smaller model"
        return StorageError(f"not enough memory: {text or type(error).__name__}", fix=fix)
    if type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
        return ConfigError(f"torch.compile failed: {text}", where="run.compile", fix="leave --run.compile out")
    if isinstance(error, OSError) and error.errno:
        path = str(error.filename or "")
        return StorageError(error.strerror or text, where=path, fix=storage_error(Path(path), error).fix)
    return None
