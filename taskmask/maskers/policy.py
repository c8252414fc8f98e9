"""A masking policy in a few words: its name and options, such as "span p=0.3 longest=5"."""

from __future__ import annotations

from typing import Any

from taskmask import config
from taskmask.config import Assignment, Problems
from taskmask.config.settings import Component
from taskmask.errors import ConfigError
from taskmask.maskers.base import MaskerConfig
from taskmask.registry import MASKERS


def read_policy(text: str, **shared: Any) -> Component:
    """Reads "name option=value option=value,value".

    Args:
        text: what the user wrote.
        shared: options that hold where the text does not give them; to those that are lists the text's are added.

    Raises:
        ConfigError: no such masker, an option that it does not have, or a value that does not fit.
    """
    name, *words = text.split() or [""]
    entry = MASKERS.get(name)
    values = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals:
            raise ConfigError(f"{word!r} has no value", expected=f'"{name} option=value"')
        items = value.split(",")
        if isinstance(shared.get(key), tuple):
            items = [*shared[key], *items]
        values[key] = Assignment(key, items if len(items) > 1 else value, "")
    problems = Problems()
    options = config.build(entry.config, values, name, problems, **{**shared, **entry.preset})
    problems.raise_any()
    return Component(name, options)


def shared_options(options: MaskerConfig) -> dict[str, Any]:
    """Returns the options that every masker has, as the `shared` of `read_policy`."""
    return {field: getattr(options, field) for field in config.fields_of(MaskerConfig)}
