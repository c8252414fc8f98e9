"""Room in the address space: a limit that is too low for a library ends its C++ code without a word of ours."""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import resource
import subprocess
import sys
from collections.abc import Sequence
from typing import NoReturn

from taskmask.errors import StorageError

ENOUGH = 4 << 30
"""Bytes of address space in which every verb begins without a trial."""
MARGIN = 96 << 20
"""Bytes that must be left after the trial."""
NEED_NOTHING = ("-h", "--help", "--version", "help", "list")
WITHOUT_TORCH = ("preprocess", "spans", "collocations")
TRIAL = {
    "PyTorch": "import torch; torch.nn.Linear(64, 64)(torch.ones(512, 64)).sum().backward()",
    "SentencePiece": "import numpy, sentencepiece",
}
TRAINER_THREADS = 33
"""Threads of SentencePiece's trainer, each with a stack: 16 of its own, 16 of OpenMP, and the one that trains."""
TRAINER_BYTES = 20
"""Bytes that the trainer takes for each byte of text."""
_DEFAULT_STACK = 2 << 20  # of the C library, if stacks have no limit
_ARENA_MAX = -8  # of mallopt in glibc


def check_room(verb: str, words: Sequence[str]) -> None:
    """Tries, in a process of its own, whether the libraries of a verb can be loaded below a limit of address space.

    Raises:
        StorageError: they cannot.
    """
    limit = _limit()
    if limit >= ENOUGH or {verb, *words} & {*NEED_NOTHING}:
        return
    _share_arena()
    library = "SentencePiece" if verb in WITHOUT_TORCH else "PyTorch"
    least = max(limit - MARGIN, 1)
    code = f"import resource; resource.setrlimit(resource.RLIMIT_AS, ({least}, {least}))\n{TRIAL[library]}"
    done = subprocess.run([sys.executable, "-P", "-c", code], stdin=subprocess.DEVNULL, capture_output=True)
    if done.returncode:
        _refuse(limit, f"{library} and the work")


def check_room_to_train(text_bytes: int) -> None:
    """Reserves for a moment what the trainer of a vocabulary needs: it aborts if a thread cannot start.

    Args:
        text_bytes: of the text that it is trained on.

    Raises:
        StorageError: there is less left of the address space.
    """
    limit = _limit()
    if limit >= ENOUGH:
        return
    stack = resource.getrlimit(resource.RLIMIT_STACK)[0]
    stack = _DEFAULT_STACK if stack == resource.RLIM_INFINITY else stack
    try:
        mmap.mmap(-1, TRAINER_THREADS * stack + TRAINER_BYTES * text_bytes + MARGIN // 2).close()
    except (OSError, OverflowError):
        _refuse(limit, "training a vocabulary", "raise the limit, or take a vocabulary that exists (--vocab)")


def _limit() -> int:
    """Returns the bytes of address space that this process may have; very many without a limit."""
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    return sys.maxsize if limit == resource.RLIM_INFINITY else limit


def _share_arena() -> None:
    """Lets all threads allocate in one place. Else glibc reserves 64 MiB of address space for each of them."""
    with contextlib.suppress(OSError, AttributeError):  # another C library
        ctypes.CDLL(None).mallopt(_ARENA_MAX, 1)


def _refuse(limit: int, work: str, fix: str = "raise the limit") -> NoReturn:
    what = f"is limited to {limit >> 20:,} MiB, too little for {work}"
    raise StorageError(what, where="address space (ulimit -v)", fix=fix)
