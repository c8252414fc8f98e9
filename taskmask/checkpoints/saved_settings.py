"""The settings of a checkpoint, read back. They can be read without the code of the run's masker."""

from __future__ import annotations

import dataclasses
import keyword
from collections.abc import Mapping, Sequence
from typing import Any

from taskmask import config
from taskmask.config import Assignment, from_tables
from taskmask.config.settings import Component, Settings, parse
from taskmask.errors import ConfigError


@dataclasses.dataclass(frozen=True)
class UncheckedOptions:
    """Options of a masker whose code is not loaded: as the checkpoint has them."""


def parse_saved(tables: Mapping[str, Any], where: str, overrides: Sequence[Assignment] = ()) -> Settings:
    """Makes the settings of a checkpoint.

    Predictions, conversions and other trainings need its weights, not its masker. So a masker that is unknown here, or
    has other options now, keeps its name and options as `UncheckedOptions`.

    Args:
        tables: as of `Settings.to_dict`.
        where: the file, for errors.
        overrides: settings that differ.

    Raises:
        ConfigError: another component or option is unknown.
    """
    given = from_tables(tables, where)
    try:
        return parse([*given, *overrides])
    except ConfigError as error:
        masker = _unchecked(tables.get("masker"))
        try:
            rest = parse([*(one for one in given if one.key.partition(".")[0] != "masker"), *overrides])
        except ConfigError as other:
            raise (error if masker is None else other) from None
        if masker is None or rest.masker is None:
            raise
        return dataclasses.replace(rest, masker=masker)


def without_unchecked(settings: Settings) -> Settings:
    """Returns the settings without a masker whose code is not loaded."""
    is_unchecked = settings.masker is not None and isinstance(settings.masker.options, UncheckedOptions)
    return dataclasses.replace(settings, masker=None) if is_unchecked else settings


def _unchecked(table: Any) -> Component | None:
    """Returns the masker of a table; None unless the table has a name and options that are JSON types."""
    if not isinstance(table, Mapping) or not isinstance(table.get("name"), str):
        return None
    values = {name: value for name, value in table.items() if name != "name"}
    if not all(isinstance(name, str) and name.isidentifier() and not keyword.iskeyword(name) for name in values):
        return None
    options = dataclasses.make_dataclass("Options", values, bases=(UncheckedOptions,), frozen=True)(**values)
    try:
        config.to_dict(options)
    except (TypeError, ValueError):
        return None
    return Component(table["name"], options)
