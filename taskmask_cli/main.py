"""The front door: `taskmask VERB ...`, and how every command line ends."""

from __future__ import annotations

import errno
import importlib
import os
import sys
import traceback
from collections.abc import Callable, Sequence

from taskmask import __version__
from taskmask.errors import ConfigError, DistributedError, StorageError, TaskmaskError, did_you_mean

VERBS = {
    "preprocess": "text files to a binarized dataset (also: taskmask-preprocess)",
    "train": "train a model on a dataset (also: taskmask-train)",
    "evaluate": "loss, perplexity and accuracy of a checkpoint, with any masker",
    "predict": "fill <mask> in texts with a trained model",
    "list": "the components there are and their options; what a dataset holds",
}

HELP = f"""usage: taskmask VERB [OPTION ...]

taskmask {__version__}: masked-language-model pre-training with pluggable masking policies.

verbs:
""" + "".join(f"  {verb:<12} {text}\n" for verb, text in VERBS.items()) + """
start here:
  taskmask preprocess --train python-docs:train --valid python-docs:valid --out data-bin
  taskmask train --data data-bin --run runs/first
  taskmask predict --from runs/first "The method returns a <mask> object."

taskmask VERB --help tells more."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the verb named first."""
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words[0] in ("-h", "--help", "help"):
        print(HELP)
        return 0
    if words[0] == "--version":
        print(f"taskmask {__version__}")
        return 0
    verb, *rest = words
    if verb not in VERBS:
        raise ConfigError(
            f"unknown verb {verb!r}", where="taskmask", expected=f"one of {', '.join(VERBS)}", fix=did_you_mean(verb, VERBS)
        )
    return importlib.import_module(f"taskmask_cli.{verb}").main(rest)


def run(command: Callable[[Sequence[str] | None], int], argv: Sequence[str] | None = None) -> int:
    """Runs a command line to its exit code: mistakes of the user are one line, `--debug` shows the traceback."""
    debug = "--debug" in (sys.argv[1:] if argv is None else argv)
    try:
        code = command(argv)
        sys.stdout.flush()
        return code
    except TaskmaskError as error:
        return _end(error, debug)
    except BrokenPipeError:  # the reader of our output, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print("taskmask: interrupted", file=sys.stderr)
        return 130
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EFBIG):
            raise
        return _end(StorageError(str(error.strerror), where=str(error.filename or ""), fix="make room and run again"), debug)
    except RuntimeError as error:
        if "torch.distributed" not in sys.modules or type(error).__name__ not in ("DistBackendError", "DistNetworkError"):
            if "Connection closed by peer" not in str(error) and "Timed out waiting" not in str(error):
                raise
        what = f"lost another process: {str(error).splitlines()[0]}"
        return _end(DistributedError(what, fix="see its own message; the same command resumes"), debug)


def _end(error: TaskmaskError, debug: bool) -> int:
    if debug:
        traceback.print_exception(error)
    word = "stopped" if error.exit_code == 75 else "error"
    print(f"taskmask: {word}: {error}", file=sys.stderr)
    return error.exit_code


def cli() -> None:
    """Console script `taskmask`."""
    sys.exit(run(main))


def cli_train() -> None:
    """Console script `taskmask-train`."""
    from taskmask_cli import train

    sys.exit(run(train.main))


def cli_preprocess() -> None:
    """Console script `taskmask-preprocess`."""
    from taskmask_cli import preprocess

    sys.exit(run(preprocess.main))


if __name__ == "__main__":
    cli()
