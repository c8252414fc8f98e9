"""Relative paths in the settings of a run: where they lead from another folder, or after the run has been moved.

A relative path is meant from where the run began. `run.folder` led from there to the run, so the place of the run tells
it. If that does not help, the path is looked for from here, and then from the folders above the run.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path

from taskmask.config import Assignment
from taskmask.errors import ConfigError
from taskmask.system.files import DATASET_HEADER

RESOLVED = ("data.path", "run.folder")
_SHORT = {"data": "data.path", "run": "run.folder"}


def home_of(run: Path, folder: str) -> Path | None:
    """Returns where a run began: the folder from which `folder`, its `run.folder`, leads to it; None if unknown."""
    here, named = Path(os.path.abspath(run)).parts, Path(os.path.normpath(folder))
    length = len(named.parts)
    if not folder or named.is_absolute() or ".." in named.parts or here[-length:] != named.parts:
        return None
    return Path(*here[:-length])


def places_of(path: str, run: Path, folder: str) -> list[str]:
    """Returns where the dataset of a run may be, the likeliest place first.

    Args:
        path: `data.path`.
        run: where the run is.
        folder: `run.folder`.
    """
    if not path or os.path.isabs(path):
        return [path]
    home, above = home_of(run, folder), Path(os.path.abspath(run)).parents
    places = [*([home] if home else []), Path.cwd(), *above]
    return list(dict.fromkeys(path if place == Path.cwd() else os.path.normpath(place / path) for place in places))


def find_data(path: str, run: Path, folder: str) -> str:
    """Returns the first of `places_of` that is a dataset, or the path as it is."""
    found = (place for place in places_of(path, run, folder) if Path(place, DATASET_HEADER).is_file())
    return next(found, path) if path else path


def from_their_homes(given: Sequence[Assignment]) -> list[Assignment]:
    """Returns assignments whose paths lead from here, also those of the settings.json of a run that is elsewhere.

    Raises:
        ConfigError: a file names another folder than a flag before it: the flag would have no effect.
    """
    _check_order(given)
    folders = {one.source: one.value for one in given if one.key == "run.folder"}
    homes = {
        source: home_of(Path(source).parent, folder)
        for source, folder in folders.items()
        if Path(source).name == "settings.json" and isinstance(folder, str)
    }
    return [_from_home(one, homes.get(one.source)) for one in given]


def _check_order(given: Sequence[Assignment]) -> None:
    flags: dict[str, Assignment] = {}
    for one in given:
        key = _SHORT.get(one.key, one.key)
        if key not in RESOLVED:
            continue
        flag = flags.get(key)
        if one.source.startswith("--"):
            flags[key] = one
        elif flag and flag.value != one.value:
            what = f"is {flag.value}, and {one.source}, which comes after it, says {one.value}"
            raise ConfigError(what, where=flag.source, fix=f"give --config before {flag.source}")


def _from_home(one: Assignment, home: Path | None) -> Assignment:
    is_relative = one.key in RESOLVED and isinstance(one.value, str) and one.value and not os.path.isabs(one.value)
    if home is None or home == Path.cwd() or not is_relative:
        return one
    return dataclasses.replace(one, value=os.path.normpath(home / one.value))
