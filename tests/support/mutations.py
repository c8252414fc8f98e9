"""Applies small mistakes to the package, one by one, and records which of them the tests see.

    python tests/support/mutations.py --list                          # is every mistake still found in the package?
    python tests/support/mutations.py --record caught.json            # the tests that are likely to see each
    python tests/support/mutations.py --record caught.json --whole    # for those that survive, the whole suite
    python tests/support/mutations.py --compare old.json caught.json  # what was caught and is not any more

The mistakes are in mutations.toml. Each is made in a copy of the tree, never in the checkout. The record, {name: test
or "survived"}, is written after each mistake; the same command goes on with those that it does not have. At the end the
tests of the record run once without a mistake: one that fails then, too, is no witness, and is named.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import os
import queue
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TABLE = Path(__file__).with_suffix(".toml")
PACKAGES = ("taskmask", "taskmask_cli")
SURVIVED = "survived"
NO_TESTS = 5  # the exit code of pytest
TOO_LONG = "no end in time"
_WITNESS = re.compile(r"^(?:FAILED|ERROR) (\S.*?)(?: - .*)?$", re.MULTILINE)


@dataclasses.dataclass(frozen=True)
class Mutation:
    """A mistake: the part of a line that it replaces, and the names of the tests that are likely to see it."""

    name: str
    tests: str
    old: str
    new: str


def read_table(file: Path) -> list[Mutation]:
    """Returns the mistakes of a table; two of one name are an error."""
    found = [Mutation(**entry) for entry in tomllib.loads(file.read_text(encoding="utf-8"))["mutation"]]
    names = [one.name for one in found]
    if twice := {name for name in names if names.count(name) > 1}:
        raise SystemExit(f"{file}: named twice: {', '.join(sorted(twice))}")
    return found


def sources(root: Path) -> dict[Path, str]:
    """Returns the text of each file of the package."""
    files = [file for package in PACKAGES for file in sorted((root / package).rglob("*.py"))]
    return {file: file.read_text(encoding="utf-8") for file in files}


def place_of(mutation: Mutation, texts: Mapping[Path, str]) -> Path:
    """Returns the one file of the package that has the old text, once.

    Raises:
        ValueError: there is no such file, or more than one.
        SyntaxError: the mistake does not compile.
    """
    if "\n" in mutation.old or mutation.old == mutation.new:
        raise ValueError("the old text is more than a line, or the new one is the same")
    counts = {file: text.count(mutation.old) for file, text in texts.items() if mutation.old in text}
    if sum(counts.values()) != 1:
        places = ", ".join(f"{file} ({count})" for file, count in counts.items())
        raise ValueError(f"the old text has to occur once; it is in: {places or 'no file'}")
    (file,) = counts
    compile(texts[file].replace(mutation.old, mutation.new), str(file), "exec")
    return file


def likely_tests(mutation: Mutation, root: Path) -> list[str]:
    """Returns the files and folders under tests/ that the mistake names; raises a ValueError if one is missing."""
    found = []
    for name in mutation.tests.split():
        places = [*(root / "tests").rglob(f"{name}.py"), *(p for p in (root / "tests").rglob(name) if p.is_dir())]
        if not places:
            raise ValueError(f"tests/ has no file and no folder {name}")
        found += [str(place.relative_to(root)) for place in sorted(places)]
    return found


class Copy:
    """A copy of the tree, in which one mistake at a time is made.

    Args:
        root: the tree.
        folder: where the copy goes.
        seconds: time that a run of the tests may take.
    """

    def __init__(self, root: Path, folder: Path, seconds: float):
        self.root, self.seconds = folder, seconds
        self.times = itertools.count(1_000_000_000)
        ignored = shutil.ignore_patterns(".git", ".venv", "__pycache__", ".*_cache", "*.egg-info")
        shutil.copytree(root, folder, ignore=ignored, symlinks=True)

    def failures(self, tests: Sequence[str], *options: str) -> list[str]:
        """Runs tests; returns the names of those that fail."""
        command = [sys.executable, "-m", "pytest", "-q", "-rfE", "--tb=no", "-p", "no:cacheprovider", *options, *tests]
        environment = {**os.environ, "PYTHONPATH": str(self.root)}
        try:
            done = subprocess.run(
                command, cwd=self.root, env=environment, capture_output=True, text=True, timeout=self.seconds
            )
        except subprocess.TimeoutExpired:
            return [TOO_LONG]
        found = _WITNESS.findall(done.stdout)
        if done.returncode == NO_TESTS or (done.returncode and not found):
            raise SystemExit(f"{' '.join(command)}:\n{done.stdout}{done.stderr}")
        return found

    def try_on(self, mutation: Mutation, suites: Iterable[Sequence[str]]) -> str:
        """Makes a mistake, runs suites until a test sees it, and takes it back."""
        texts = sources(self.root)
        file = place_of(mutation, texts)
        before = texts[file]
        for suite in suites:
            self._write(file, before.replace(mutation.old, mutation.new))
            failures = self.failures(suite, "-x")
            self._write(file, before)
            if failures:
                return failures[0]
        return SURVIVED

    def _write(self, file: Path, text: str) -> None:
        """Writes a file with a time that it never had, so that Python compiles it again."""
        file.write_text(text, encoding="utf-8")
        time = next(self.times)
        os.utime(file, (time, time))


def try_all(
    suites_of: Mapping[Mutation, Sequence[Sequence[str]]],
    root: Path,
    jobs: int,
    seconds: float,
    note: Callable[[str, str], None],
) -> None:
    """Tries mistakes on their suites in `jobs` copies of the tree, and calls `note(name, witness)` after each."""
    with tempfile.TemporaryDirectory(prefix="mutations-") as folder:
        copies: queue.Queue[Copy] = queue.Queue()
        for number in range(min(jobs, len(suites_of))):
            copies.put(Copy(root, Path(folder) / str(number), seconds))

        def one(mutation: Mutation) -> None:
            copy = copies.get()
            try:
                note(mutation.name, copy.try_on(mutation, suites_of[mutation]))
            finally:
                copies.put(copy)

        with ThreadPoolExecutor(max(jobs, 1)) as pool:
            list(pool.map(one, suites_of))


def unfit(witnesses: Iterable[str], root: Path, seconds: float) -> list[str]:
    """Returns those tests that fail without a mistake, too: they are no witnesses."""
    functions = sorted({witness.partition("[")[0] for witness in witnesses if "::" in witness})
    with tempfile.TemporaryDirectory(prefix="mutations-") as folder:
        return Copy(root, Path(folder) / "0", seconds).failures(functions) if functions else []


def check_all(mutations: Sequence[Mutation], root: Path) -> int:
    """Prints where each mistake would be made; returns 1 if one cannot be made."""
    code, texts = 0, sources(root)
    for mutation in mutations:
        try:
            likely_tests(mutation, root)
            print(f"{mutation.name}: {place_of(mutation, texts).relative_to(root)}")
        except (ValueError, SyntaxError) as error:
            print(f"{mutation.name}: WRONG: {error}")
            code = 1
    print(f"{len(mutations)} mistakes")
    return code


def compare(old: Path, new: Path) -> int:
    """Prints what one record has as caught and another has not; returns 1 if there is any."""
    before, after = (json.loads(file.read_text(encoding="utf-8")) for file in (old, new))
    caught = [name for name, witness in before.items() if witness != SURVIVED]
    lost = [name for name in caught if after.get(name, SURVIVED) == SURVIVED]
    for name in lost:
        print(f"{name}: was caught by {before[name]}, now {after.get(name, 'not tried')}")
    print(f"{len(lost)} of {len(caught)} are not caught any more")
    return 1 if lost else 0


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--list", action="store_true", help="show the file of each mistake; 1 if one is not found")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="these mistakes, or those whose names begin so")
    parser.add_argument("--whole", action="store_true", help="ask the whole suite about those that survive")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="mistakes to try side by side [1]")
    parser.add_argument("--record", type=Path, metavar="FILE", help="JSON file with the witnesses")
    parser.add_argument("--compare", type=Path, nargs=2, metavar=("OLD", "NEW"), help="compare two records")
    parser.add_argument("--table", type=Path, default=TABLE, metavar="FILE", help="mistakes [mutations.toml]")
    parser.add_argument("--root", type=Path, default=ROOT, metavar="DIR", help="the tree [this one]")
    parser.add_argument("--seconds", type=float, default=3600, help="time of a run of the tests [3600]")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line."""
    args = parse(argv)
    if args.compare:
        return compare(*args.compare)
    mutations = [one for one in read_table(args.table) if not args.only or one.name.startswith(tuple(args.only))]
    if args.list or not mutations:
        return check_all(mutations, args.root)
    record = json.loads(args.record.read_text(encoding="utf-8")) if args.record and args.record.exists() else {}
    suites_of = {}
    for one in mutations:
        suites = [] if record.get(one.name) == SURVIVED else [likely_tests(one, args.root)]
        suites += [[]] if args.whole else []  # pytest's own choice
        if suites and record.get(one.name, SURVIVED) == SURVIVED:
            suites_of[one] = suites
    lock = threading.Lock()

    def note(name: str, witness: str) -> None:
        with lock:
            record[name] = witness
            print(f"{name}: {witness}", flush=True)
            if args.record:
                args.record.write_text(json.dumps(record, indent=1, sort_keys=True) + "\n", encoding="utf-8")

    try_all(suites_of, args.root, args.jobs, args.seconds, note)
    survived = [one.name for one in mutations if record.get(one.name) == SURVIVED]
    wrong = unfit([record[one.name] for one in mutations if one.name in record], args.root, args.seconds)
    for witness in wrong:
        print(f"{witness} fails without a mistake, too: mend it, and take it out of the record")
    print(f"{len(mutations) - len(survived)} caught, {len(survived)} survived")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
