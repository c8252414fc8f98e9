"""The default text: the documentation that ships with Python, as records of jsonl.

The language reference topics (`pydoc_data.topics`) and every docstring of the standard library, read from its source
files without importing them. Each is one line of text labelled with its top-level module, and with the family of
modules that this belongs to, after the chapters of the library's manual. Nothing is downloaded, so every installation
has a text to try things on, split 90/5/5 by a hash of the text.
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
_FAMILIES = {
    "language": (
        "topics ast builtins codeop code dis enum functools inspect keyword opcode operator symtable token "
        "tokenize types typing weakref abc collections _collections_abc copy contextlib dataclasses graphlib "
        "importlib modulefinder pkgutil runpy zipimport site warnings traceback __future__ _pyio io reprlib "
        "pprint"
    ),
    "numbers and time": (
        "_pydecimal decimal fractions numbers random statistics datetime calendar zoneinfo _strptime heapq "
        "bisect colorsys"
    ),
    "text": (
        "difflib re string stringprep textwrap encodings codecs locale gettext html xml json configparser csv "
        "plistlib tomllib quopri base64 uu"
    ),
    "files": (
        "tarfile zipfile pathlib posixpath ntpath genericpath os shutil tempfile fileinput filecmp glob "
        "fnmatch gzip bz2 lzma _compression shelve dbm pickle pickletools linecache stat mimetypes"
    ),
    "internet": (
        "email http urllib mailbox smtplib imaplib poplib nntplib ftplib telnetlib wsgiref xmlrpc ssl socket "
        "socketserver ipaddress cgi cgitb webbrowser smtpd asyncore asynchat uuid netrc mailcap"
    ),
    "processes": (
        "asyncio multiprocessing concurrent threading subprocess queue sched selectors signal logging pty "
        "contextvars _weakrefset ctypes platform sysconfig getpass argparse optparse getopt cmd"
    ),
    "windows and drawing": ("tkinter idlelib turtle curses"),
    "testing and packaging": (
        "unittest doctest pdb bdb pydoc trace profile cProfile pstats timeit tracemalloc distutils venv "
        "zipapp compileall py_compile faulthandler rlcompleter"
    ),
}
_FAMILY_OF = {module: family for family, modules in _FAMILIES.items() for module in modules.split()}
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

    Each is {"text": one line, "label": name of the top-level module, or "topics", "family": its family of modules, or
    "other"}; the order is always the same.
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
        record = {"text": text, "label": label, "family": _FAMILY_OF.get(label, "other")}
        lines[split].append(json.dumps(record, ensure_ascii=False) + "\n")
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
