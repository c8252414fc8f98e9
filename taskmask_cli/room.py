"""Room in the address space: a limit that is too low for a library ends its C++ code without a word of ours."""

from __future__ import annotations

import resource
import subprocess
import sys
from collections.abc import Sequence

from taskmask.errors import StorageError

ENOUGH = 4 << 30
"""Bytes of address space in which every verb begins without a trial."""
MARGIN = {"PyTorch": 96 << 20, "SentencePiece": 512 << 20}
"""Bytes that must be left after the trial: SentencePiece starts 16 threads."""
NEED_NOTHING = ("-h", "--help", "--version", "help", "list")
WITHOUT_TORCH = ("preprocess", "spans", "collocations")
TRIAL = {
    "PyTorch": "import torch; torch.nn.Linear(64, 64)(torch.ones(512, 64)).sum().backward()",
    "SentencePiece": "import numpy, sentencepiece",
}


def check_room(verb: str, words: Sequence[str]) -> None:
    """Tries, in a process of its own, whether the libraries of a verb can be loaded below a limit of address space.

    Raises:
        StorageError: they cannot.
    """
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    if limit == resource.RLIM_INFINITY or limit >= ENOUGH or {verb, *words} & {*NEED_NOTHING}:
        return
    library = "SentencePiece" if verb in WITHOUT_TORCH else "PyTorch"
    least = max(limit - MARGIN[library], 1)
    code = f"import resource; resource.setrlimit(resource.RLIMIT_AS, ({least}, {least}))\n{TRIAL[library]}"
    done = subprocess.run([sys.executable, "-P", "-c", code], stdin=subprocess.DEVNULL, capture_output=True)
    if done.returncode:
        what = f"is limited to {limit >> 20:,} MiB, too little for {library} and the work"
        raise StorageError(what, where="address space (ulimit -v)", fix="raise the limit")
