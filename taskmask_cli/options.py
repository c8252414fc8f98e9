"""What the command lines share: parsers whose errors are ours, plug-ins, and settings left to the other options."""

from __future__ import annotations

import argparse
import itertools
import os
import re
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from taskmask import __version__, config
from taskmask.config import Assignment, settings
from taskmask.errors import ConfigError, did_you_mean
from taskmask.registry import load_user_dir

DATA_HELP = "dataset [that of the run; a relative one: from where the run began, else from here]"
LARGEST = 2**31 - 1
MAY_BE_EMPTY = ("missing_label",)  # an empty field is one of its marks
FROM_HELP = "run folder (its best checkpoint; of several seeds, the best of all) or one checkpoint"


def whole(least: int | None = None) -> Callable[[str], int]:
    """Returns the type of options that are whole numbers of at most 31 bits, which no count and no size outgrows."""

    def read(value: str) -> int:
        number = int(value) if re.fullmatch(r"\s*[+-]?\d{1,18}\s*", value, re.ASCII) else None
        low = -LARGEST if least is None else least
        if number is None or not low <= number <= LARGEST:
            raise argparse.ArgumentTypeError(f"{value!r} is no whole number from {low:,} to {LARGEST:,}")
        return number

    return read


class Parser(argparse.ArgumentParser):
    """argparse with whole option names only, and errors as ConfigError."""

    def __init__(self, prog: str, description: str, epilog: str = "", add_help: bool = True):
        super().__init__(
            prog=prog,
            description=description,
            epilog=epilog,
            add_help=add_help,
            allow_abbrev=False,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        self.add_argument("--debug", action="store_true", help="show the traceback of an error")
        self.add_argument("--version", action="version", version=f"taskmask {__version__}", help="show the version")

    @property
    def flags(self) -> list[str]:
        """All options by name."""
        return [flag for action in self._actions for flag in action.option_strings]

    def error(self, message: str) -> NoReturn:
        """Raises what argparse would print."""
        raise ConfigError(message, where=self.prog, fix=f"see {self.prog} --help")

    def parse_all(self, argv: Sequence[str] | None) -> argparse.Namespace:
        """Parses the command line, options before or after other words; an unknown option gives the nearest one."""
        for word in sys.argv[1:] if argv is None else argv:
            flag = word.partition("=")[0]
            if flag == "--":
                break
            if flag.startswith("--") and flag not in self.flags:
                known, near = ", ".join(self.flags), did_you_mean(flag, self.flags)
                raise ConfigError(f"unknown option {flag}", where=self.prog, expected=known, fix=near)
        self._refuse_empty(argv)
        return self.parse_intermixed_args(argv)

    def _refuse_empty(self, argv: Sequence[str] | None) -> None:
        """Raises a ConfigError for an option with nothing in it, as a shell makes of a variable that is not set."""
        taking = [action for action in self._actions if action.nargs != 0 and action.dest not in MAY_BE_EMPTY]
        flags = {flag for action in taking for flag in action.option_strings}
        for word, after in itertools.pairwise([*(sys.argv[1:] if argv is None else argv), None]):
            flag, is_set, value = (word or "").partition("=")
            if flag in flags and (value if is_set else after) == "":
                fix = "leave it out, or look whether a variable of the shell is not set"
                raise ConfigError("is empty", where=flag, fix=fix)

    def parse_settings(self, argv: Sequence[str] | None) -> tuple[argparse.Namespace, list[Assignment]]:
        """Parses the command line, loads the plug-ins, and reads all other options as settings.

        Raises:
            ConfigError: an option is neither, and looks like a misspelt option of the parser.
        """
        self._refuse_empty(argv)
        options, rest = self.parse_known_args(argv)
        load_user_dirs(options)
        for flag in [word[2:].partition("=")[0] for word in rest if word.startswith("--")]:
            is_setting = "." in flag or flag in (*settings.SECTIONS, "config")
            near = "" if is_setting else did_you_mean(flag, [known.lstrip("-") for known in self.flags])
            if near:
                raise ConfigError(f"unknown option --{flag}", where=self.prog, fix=near)
        return options, config.read_flags(rest)


def is_first() -> bool:
    """Whether this process speaks for those that torchrun started."""
    return os.environ.get("RANK", "0") == "0"


def add_user_dir(parser: argparse.ArgumentParser) -> None:
    """Adds `--user-dir PATH`."""
    parser.add_argument(
        "--user-dir",
        action="append",
        default=[],
        metavar="PATH",
        help="file or folder of your own components, loaded before names are looked up; may be repeated",
    )


def load_user_dirs(options: argparse.Namespace) -> None:
    """Loads the plug-ins named with `--user-dir`."""
    for path in options.user_dir:
        load_user_dir(path)
