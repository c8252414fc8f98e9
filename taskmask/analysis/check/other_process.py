"""The same masks from another process, which knows nothing but name, options, plug-ins and rows: what a worker knows.

Run as a program, it reads a folder that this module wrote, masks the rows that are there, and writes the masks.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from taskmask import config
from taskmask.analysis.check.bench import Bench, Wrong
from taskmask.analysis.check.cases import Case
from taskmask.analysis.check.invariance_properties import difference
from taskmask.config import Assignment, Problems
from taskmask.data.batch import TokenBatch
from taskmask.data.rng import RowRng
from taskmask.errors import visible
from taskmask.maskers.base import build_masker
from taskmask.registry import MASKERS, load_user_dir, user_dirs
from taskmask.tokenizer.tokenizer import Vocabulary

PATIENCE = 300.0  # seconds


class Elsewhere(Exception):
    """No other process can make the masker; says why."""


def other_process(benches: Sequence[Bench], cases: Sequence[Case]) -> tuple[int, Wrong] | None:
    """Masks cases here and in a process of its own, whose texts hash otherwise and whose generators begin elsewhere.

    Args:
        benches: masker and vocabulary.
        cases: what each of them masks.

    Returns:
        The number of the first bench whose masks differ and what is wrong; None where all are the same.

    Raises:
        Elsewhere: the masker is registered in this process alone.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows = [bench.rows(case) for bench, case in zip(benches, cases, strict=True)]
        _write(folder, benches[0], rows, cases)
        path = os.pathsep.join(sys.path)
        try:
            process = subprocess.run(
                [sys.executable, "-P", "-m", __name__, name],
                env={**os.environ, "PYTHONPATH": path, "PYTHONHASHSEED": "7"},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=PATIENCE,
            )
        except subprocess.TimeoutExpired:
            return 0, Wrong(0, None, f"another process has not masked it in {PATIENCE:g} seconds")
        if process.returncode == 3:
            raise Elsewhere(process.stderr.strip().splitlines()[-1])
        if process.returncode:
            lines = process.stderr.strip().splitlines() or [f"exit code {process.returncode}"]
            return 0, Wrong(0, None, f"another process cannot mask it: {lines[-1]}")
        for number, (bench, case) in enumerate(zip(benches, cases, strict=True)):
            found = np.load(folder / f"{number}.masks.npy", allow_pickle=False)
            expected = bench.raw(rows[number], case.rng(), bench.made(case.options))
            if wrong := difference(expected, found, "another process masks it otherwise"):
                return number, wrong
    return None


def _write(folder: Path, bench: Bench, batch: Sequence[TokenBatch], cases: Sequence[Case]) -> None:
    chosen = {
        "name": bench.chosen.name,
        "place": MASKERS.where(bench.chosen.name),
        "options": config.to_dict(bench.chosen.options),
        "user_dirs": user_dirs(),
        "draws": [[case.seed, case.epoch, case.progress] for case in cases],
    }
    (folder / "chosen.json").write_text(json.dumps(chosen))
    for number, some in enumerate(batch):
        arrays: dict[str, Any] = {"tokens": some.tokens, "lengths": some.lengths, "ids": some.ids}
        arrays |= {f"column.{name}": array for name, array in some.columns.items()}
        arrays |= {} if some.allowed is None else {"allowed": some.allowed}
        np.savez(folder / f"{number}.npz", **arrays)
        (folder / f"{number}.vocab").write_bytes(some.vocab.model_bytes)


def main(name: str) -> int:
    """Masks the rows of a folder; exit code 3: no such masker."""
    folder = Path(name)
    chosen = json.loads((folder / "chosen.json").read_text())
    for path in chosen["user_dirs"]:
        load_user_dir(path)
    known = chosen["name"] in MASKERS.names()
    if not known or MASKERS.where(chosen["name"]) != chosen["place"]:
        text = f"{chosen['name']} is registered in one process alone, at {chosen['place']}"
        print(visible(text), file=sys.stderr)
        return 3
    entry, problems = MASKERS.get(chosen["name"]), Problems()
    values = {key: Assignment(f"masker.{key}", value, "") for key, value in chosen["options"].items()}
    options = config.build(entry.config, values, "masker", problems)
    problems.raise_any()
    for number, (seed, epoch, progress) in enumerate(chosen["draws"]):
        arrays = dict(np.load(folder / f"{number}.npz", allow_pickle=False))
        vocab = Vocabulary((folder / f"{number}.vocab").read_bytes())
        columns = {key.removeprefix("column."): value for key, value in arrays.items() if key.startswith("column.")}
        rows = TokenBatch(arrays["tokens"], arrays["lengths"], arrays["ids"], vocab, columns, arrays.get("allowed"))
        mask = np.asarray(
            build_masker(entry.name, options, vocab).select(rows, RowRng(seed, epoch, rows.ids, progress))
        )
        np.save(folder / f"{number}.masks.npy", mask[None] if mask.ndim == 2 else mask, allow_pickle=False)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
