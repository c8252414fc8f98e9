"""This revision of taskmask beside an earlier one: the cost of preprocess, train, evaluate, annotate and variance.

Both revisions run the same commands on the same files, in turn. The dataset and the checkpoint come from the earlier
revision. A value is the processor time of the command and its children, without imports.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import common

ROOT = Path(__file__).parent.parent
VERBS = ("preprocess", "train", "evaluate", "annotate", "variance")
MODEL = ["--model", "tiny", "--run.threads", "1", "--run.tensorboard", "false", "--train.max_tokens", "2048"]


def main() -> None:
    """Measures and prints the table."""
    if sys.argv[1:2] == ["--child"]:
        return timed(sys.argv[2:])
    args = make_parser().parse_args()
    with tempfile.TemporaryDirectory() as name, checkout(args.before, Path(name, "before")) as before:
        folder = Path(name)
        common.quiet(folder, 1)
        common.pin(1)
        import inputs

        inputs.write_text(folder / "text.txt", inputs.base_lines(args.text), args.megabytes)
        prepare(args, before, folder)
        table = common.Table("Cost of a command", "processor seconds", more_is_better=False)
        for verb in args.verbs:
            values = common.interleave(
                {"now": maker(args, ROOT, verb, folder), "before": maker(args, before, verb, folder)}, args.repeats
            )
            table.add(verb, values["now"], args.before, values["before"])
    common.report(f"{args.megabytes:g} MB of text, {args.rows} rows for variance, one core.", table)


def make_parser() -> argparse.ArgumentParser:
    """The options."""
    parser = common.make_parser(__doc__)
    parser.add_argument("--before", required=True, help="the earlier revision: anything that git resolves to a commit")
    parser.add_argument("--verbs", nargs="+", choices=VERBS, default=list(VERBS), help="commands to measure")
    parser.add_argument("--text", help="a text file, repeated up to the size (default: documentation of Python)")
    parser.add_argument("--megabytes", type=float, default=2.0, help="size of the text, in 10^6 bytes")
    parser.add_argument("--vocab-size", type=common.positive, default=2000)
    parser.add_argument("--steps", type=common.positive, default=40, help="updates of the training that is measured")
    parser.add_argument("--rows", type=common.positive, default=12, help="rows that variance measures")
    return parser


@contextmanager
def checkout(revision: str, folder: Path) -> Iterator[Path]:
    """Yields a temporary checkout of a revision of this repository."""
    git = ["git", "-C", str(ROOT), "worktree"]
    common.run([*git, "add", "--detach", str(folder), revision])
    try:
        yield folder
    finally:
        common.run([*git, "remove", "--force", str(folder)])


def prepare(args: argparse.Namespace, before: Path, folder: Path) -> None:
    """Makes the dataset `base`, the run `mlm`, and a dataset and a run of a classifier, with the earlier revision."""
    size = ["--vocab-size", str(args.vocab_size), "--workers", "0"]
    text = str(folder / "text.txt")
    measure(before, ["preprocess", "--train", text, "--valid", text, *size, "--out", str(folder / "base")])
    docs = ["--train", "python-docs:train", "--valid", "python-docs:valid", "--label", "family"]
    vocab = ["--vocab", str(folder / "base"), "--workers", "0"]
    measure(before, ["preprocess", *docs, *vocab, "--out", str(folder / "labelled")])
    brief = ["--train.steps", "5", *MODEL]
    measure(before, ["train", "--data", str(folder / "base"), "--run", str(folder / "mlm"), *brief])
    task = ["--task", "classification", "--task.label", "family"]
    measure(before, ["train", "--data", str(folder / "labelled"), "--run", str(folder / "labels"), *task, *brief])


def maker(args: argparse.Namespace, root: Path, verb: str, folder: Path) -> Callable[[], float]:
    """Returns a function that runs one command with one revision and returns its cost in seconds."""
    base, mlm, text = str(folder / "base"), str(folder / "mlm"), str(folder / "text.txt")
    labelled, labels = str(folder / "labelled"), str(folder / "labels")

    def once() -> float:
        with tempfile.TemporaryDirectory(dir=folder) as out:
            words = {
                "preprocess": ["--train", text, "--vocab", base, "--workers", "0", "--out", f"{out}/bin"],
                "train": ["--data", base, "--run", f"{out}/run", "--train.steps", str(args.steps), *MODEL],
                "evaluate": ["--from", mlm, "--split", "valid"],
                "annotate": ["--data", labelled, "--from", labels, "--column", f"c{Path(out).name}=probabilities"],
                "variance": ["--from", mlm, "--rows", str(args.rows), "--draws", "2"],
            }
            return measure(root, [verb, *words[verb]])

    return once


def measure(root: Path, words: list[str]) -> float:
    """Runs a command with the checkout at `root` in a fresh process; returns its cost in seconds."""
    command = [sys.executable, str(Path(__file__).resolve()), "--child", str(root), *words]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    done = subprocess.run(command, capture_output=True, text=True, cwd=root, env=environment)
    if done.returncode:
        raise SystemExit(f"{root}: taskmask {' '.join(words)}\nended with {done.returncode}:\n{done.stderr[-3000:]}")
    return float(done.stdout.splitlines()[-1])


def timed(words: list[str]) -> None:
    """In the child: runs `taskmask VERB ...` of a checkout and prints the processor seconds that it took."""
    root, *argv = words
    import torch  # noqa: F401  imports are left out of the time

    import taskmask
    from taskmask_cli.main import main as taskmask_main

    if not Path(taskmask.__file__).is_relative_to(root):
        raise SystemExit(f"taskmask comes from {taskmask.__file__}, not from {root}")
    began = processor_seconds()
    code = taskmask_main(argv)
    if code:
        raise SystemExit(code)
    print(f"\n{processor_seconds() - began}")


def processor_seconds() -> float:
    """Returns the processor time of this process and of its children that have ended, in seconds."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


if __name__ == "__main__":
    main()
