"""The front door: `taskmask VERB ...`, and how every command line ends."""

from __future__ import annotations

import faulthandler
import importlib
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import NoReturn

from taskmask import __version__
from taskmask.errors import ConfigError, did_you_mean, visible
from taskmask.system.address_space import check_room
from taskmask.system.hardware import in_our_words, wait_passively
from taskmask.system.streams import guard_streams, ignore_lost_output

VERBS = {
    "preprocess": "text files to a binarized dataset (also: taskmask-preprocess)",
    "train": "train a model on a dataset (also: taskmask-train)",
    "evaluate": "metrics of a checkpoint on any split, with intervals",
    "predict": "fill <mask>, classify, tag or answer with a trained model",
    "annotate": "write what a trained model says into a dataset, as columns",
    "collocations": "words that stand together more often than by chance, as a list",
    "spans": "write spans into a dataset: a tagger's, collocations, names and dates",
    "inspect": "see what maskers mask, on real rows and over a corpus",
    "compare": "masking policies side by side: one experiment file, one report",
    "variance": "how much the choice of masks makes the gradient vary",
    "check": "do maskers keep the laws? a table, with counterexamples",
    "convert": "models of Hugging Face to runs, and runs to models of Hugging Face",
    "list": "the components there are and their options; what a dataset holds",
}

WRITERS = ("preprocess", "train", "annotate", "collocations", "spans", "compare", "convert")  # of files

HELP = (
    f"""usage: taskmask VERB [OPTION ...]

taskmask {__version__}: masked-language-model pre-training with pluggable masking policies.

verbs:
"""
    + "".join(f"  {verb:<12} {text}\n" for verb, text in VERBS.items())
    + """
start here:
  taskmask preprocess --train python-docs:train --valid python-docs:valid --out data-bin
  taskmask train --data data-bin --run runs/first
  taskmask predict --from runs/first "The method returns a <mask> object."

taskmask VERB --help tells more."""
)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the verb named first."""
    words = list(sys.argv[1:] if argv is None else argv)
    if words[:1] == ["--debug"]:
        words[:2] = reversed(words[:2])
    if not words or words[0] in ("-h", "--help", "help"):
        print(HELP)
        return 0
    if words[0] == "--version":
        print(visible(f"taskmask {__version__}"))
        return 0
    verb, *rest = words
    if verb not in VERBS:
        names, near = ", ".join(VERBS), did_you_mean(verb, VERBS)
        raise ConfigError(f"unknown verb {verb!r}", where="taskmask", expected=f"one of {names}", fix=near)
    return run_verb(verb, rest)


def run_verb(verb: str, words: Sequence[str]) -> int:
    """Runs a verb with its options."""
    check_room(verb, words)
    code: int = importlib.import_module(f"taskmask_cli.{verb}").main(words)
    return code


def run(command: Callable[[Sequence[str] | None], int], argv: Sequence[str] | None = None) -> int:
    """Runs a command line to its exit code: mistakes of the user are one line, `--debug` shows the traceback."""
    try:
        try:
            code = command(argv)
        except SystemExit as end:  # argparse, after --help
            code = int(end.code or 0)
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # the reader of our output, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print("taskmask: interrupted", file=sys.stderr)
        return 130
    except Exception as error:
        known = in_our_words(error)
        if known is None:
            raise
        if "--debug" in (sys.argv[1:] if argv is None else argv):
            print(visible("".join(traceback.format_exception(error))), file=sys.stderr)
        kind = "stopped" if known.exit_code == 75 else "error"
        print(visible(f"taskmask: {kind}: {known}"), file=sys.stderr)
        return known.exit_code


def start(command: Callable[[Sequence[str] | None], int], prints_its_result: bool = False) -> NoReturn:
    """Runs a command line as the whole of a process.

    If the system kills it (a bus error: a dataset was cut while it was read), the place in the program is printed.

    Args:
        command: the command line.
        prints_its_result: whether it has nothing left to do once nobody reads its output.
    """
    guard_streams()
    faulthandler.enable()
    wait_passively()
    if not prints_its_result:
        ignore_lost_output()
    sys.exit(run(command))


def cli() -> None:
    """Console script `taskmask`."""
    start(main, prints_its_result=not {*sys.argv[1:2]} & {*WRITERS})


def cli_train() -> None:
    """Console script `taskmask-train`."""
    start(lambda _: run_verb("train", sys.argv[1:]))


def cli_preprocess() -> None:
    """Console script `taskmask-preprocess`."""
    start(lambda _: run_verb("preprocess", sys.argv[1:]))


if __name__ == "__main__":
    cli()
