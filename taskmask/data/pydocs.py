"""The default text: the documentation that ships with Python, as records of jsonl.

The language reference topics (`pydoc_data.topics`) and every docstring of the standard library, read from its source
files without importing them. Each is one line of text labelled with its top-level module. Nothing is downloaded, so
every installation has a text to try things on, split 90/5/5 by a hash of the text.
"""

from __future__ import annotations

import ast
import io
import json
import os
import re
import sysconfig
import warnings
import zlib
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from taskmask.errors import did_you_mean

PREFIX = "python-docs:"
_SPLITS = ("train", "valid", "test")
_SHORTEST = 30  # characters
_SKIPPED = {"test", "tests", "idle_test", "lib2to3", "turtledemo", "site-packages", "dist-packages", "ensurepip",
            "__pycache__", "pydoc_data"}  # fmt: skip
_RULES = re.compile(r"([*=~^\"+#-])\1{3,}")  # lines under headings


def is_python_docs(path: str) -> bool:
    """Whether an input is `python-docs:...` and not a file."""
    return path.startswith(PREFIX)


def problem(path: str) -> str:
    """What is wrong with such an input; empty if nothing."""
    split = path.removeprefix(PREFIX)
    if split in _SPLITS:
        return ""
    return f"{path} is none of {', '.join(PREFIX + name for name in _SPLITS)}; {did_you_mean(split, _SPLITS)}"


def open_records(path: str) -> io.BytesIO:
    """The records of `python-docs:train`, `:valid` or `:test` as the bytes of a jsonl file.

    Each is {"text": one line, "label": name of the top-level module, or "topics"}; the order is always the same.
    """
    return io.BytesIO(_split_lines()[path.removeprefix(PREFIX)])


def size(path: str) -> int:
    """Bytes of the records."""
    return len(_split_lines()[path.removeprefix(PREFIX)])


@lru_cache(maxsize=1)
def _split_lines() -> dict[str, bytes]:
    lines: dict[str, list[str]] = {split: [] for split in _SPLITS}
    seen: set[str] = set()
    for label, text in _documents():
        text = " ".join(_RULES.sub(" ", text).split())
        if len(text) < _SHORTEST or text in seen:
            continue
        seen.add(text)
        share = zlib.crc32(text.encode()) % 100
        split = "train" if share < 90 else "valid" if share < 95 else "test"
        lines[split].append(json.dumps({"text": text, "label": label}, ensure_ascii=False) + "\n")
    return {split: "".join(rows).encode() for split, rows in lines.items()}


def _documents() -> Iterator[tuple[str, str]]:
    """(label, text) of every topic and docstring."""
    from pydoc_data.topics import topics

    for name in sorted(topics):
        yield "topics", topics[name]
    root = Path(sysconfig.get_paths()["stdlib"])
    for folder, folders, files in os.walk(root):
        folders[:] = sorted(set(folders) - _SKIPPED)
        for file in sorted(files):
            if file.endswith(".py"):
                path = Path(folder, file)
                label = path.relative_to(root).parts[0].removesuffix(".py")
                yield from ((label, text) for text in _docstrings(path))


def _docstrings(path: Path) -> Iterator[str]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            tree = ast.parse(path.read_bytes())
        except (SyntaxError, ValueError, OSError):
            return
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node)
            if text:
                yield text
