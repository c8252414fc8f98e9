"""The mechanism of settings: typed options, flags and files, read strictly. It knows no component.

A setting is a field of a frozen dataclass made with `opt`. The same assignment can stand on the command line
(`--section.field VALUE`), in a TOML or JSON file (tables), or in a Python dict; later assignments win.
"""

from __future__ import annotations

import dataclasses
import json
import math
import tomllib
import types
import typing
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

from taskmask.errors import ConfigError, did_you_mean

C = TypeVar("C")


def opt(default: Any, help: str) -> Any:
    """Declares one setting of a frozen dataclass: its default and its line in `--help`."""
    return dataclasses.field(default=default, metadata={"help": help})


@dataclasses.dataclass(frozen=True)
class Assignment:
    """One value given to one setting: `key` is "section" or "section.field", `source` says where it was written."""

    key: str
    value: Any
    source: str


def read_flags(args: Iterable[str]) -> list[Assignment]:
    """Reads `--section.field VALUE [VALUE ...]`, in order; `--config FILE` stands for what the file says.

    A flag without a value means true. Words keep their text: `build` turns them into the setting's type.
    """
    assignments: list[Assignment] = []
    words = list(args)
    while words:
        flag = words.pop(0)
        if not flag.startswith("--"):
            raise ConfigError(f"{flag!r} belongs to no option", where="command line", fix="see --help")
        name, equals, value = flag[2:].partition("=")
        values = [value] if equals else []
        while not equals and words and not words[0].startswith("--"):
            values.append(words.pop(0))
        if name == "config":
            if not values:
                raise ConfigError("no file given", where="--config", expected="--config FILE.toml or FILE.json")
            for file in values:
                assignments += read_file(file)
        else:
            text: Any = "true" if not values else values[0] if len(values) == 1 else values
            assignments.append(Assignment(name, text, f"--{name}"))
    return assignments


def read_file(path: str | Path) -> list[Assignment]:
    """Reads the assignments of a .toml or .json file: tables are sections."""
    file = Path(path)
    try:
        text = file.read_text(encoding="utf-8")
        tables = json.loads(text) if file.suffix == ".json" else tomllib.loads(text)
    except OSError as error:
        raise ConfigError(f"cannot be read: {error.strerror}", where=str(file), fix="check --config") from None
    except (ValueError, RecursionError) as error:
        kind = "JSON" if file.suffix == ".json" else "TOML"
        raise ConfigError(f"is not valid {kind}: {error}", where=str(file), fix="mend the file") from None
    if not isinstance(tables, dict):
        raise ConfigError("holds no tables", where=str(file), expected="sections such as [train] with settings in them")
    return from_tables(tables, str(file))


def from_tables(tables: Mapping[str, Any], source: str) -> list[Assignment]:
    """Turns {"train": {"steps": 10}, "masker": "span"} into assignments."""
    assignments = []
    for section, content in tables.items():
        if not isinstance(content, Mapping):
            assignments.append(Assignment(section, content, source))
            continue
        for field, value in content.items():
            assignments.append(Assignment(f"{section}.{field}", value, source))
    return assignments


class Problems:
    """Collects what is wrong with the settings, so that all of it is said at once."""

    def __init__(self) -> None:
        self.errors: list[ConfigError] = []

    def add(self, what: str, **parts: str) -> None:
        """Notes one problem; the parts are those of `TaskmaskError`."""
        self.errors.append(ConfigError(what, **parts))

    def check(self, ok: bool, what: str, **parts: str) -> None:
        """Notes a problem unless `ok`."""
        if not ok:
            self.add(what, **parts)

    def raise_any(self) -> None:
        """Raises one ConfigError that says all that was noted, or nothing."""
        if len(self.errors) == 1:
            raise self.errors[0]
        if self.errors:
            raise ConfigError(f"{len(self.errors)} settings are wrong:\n" + "\n".join(f"  {e}" for e in self.errors))


def fields_of(cls: type) -> dict[str, tuple[Any, Any, str]]:
    """Returns {name: (type, default, help)} of a dataclass of options, in the order of its fields."""
    hints = typing.get_type_hints(cls)
    return {f.name: (hints[f.name], f.default, f.metadata.get("help", "")) for f in dataclasses.fields(cls)}


def build(cls: type[C], values: Mapping[str, Assignment], section: str, problems: Problems, **preset: Any) -> C | None:
    """Makes a `cls` from assignments to its fields; what does not fit goes into `problems`, and None comes back.

    Args:
        cls: a frozen dataclass of options.
        values: {field name: assignment}.
        section: the name of the section, for messages.
        problems: collects unknown fields, wrong types, and what `__post_init__` finds contradictory.
        preset: values that stand in for the defaults of `cls`.
    """
    fields = fields_of(cls)
    arguments = dict(preset)
    before = len(problems.errors)
    for name, assignment in values.items():
        if name not in fields:
            names = ", ".join(fields) or "no options"
            hint = did_you_mean(f"{section}.{name}", [f"{section}.{field}" for field in fields])
            problems.add(
                f"unknown option {section}.{name}", where=assignment.source, expected=f"one of {names}", fix=hint
            )
            continue
        try:
            arguments[name] = convert(assignment.value, fields[name][0])
        except ValueError as error:
            problems.add(
                f"{section}.{name} is {_shown(assignment.value)}", where=assignment.source, expected=str(error)
            )
    if len(problems.errors) > before:
        return None
    try:
        return cls(**arguments)
    except ConfigError as error:
        problems.errors.append(error)
        return None


def convert(value: Any, kind: Any) -> Any:
    """Turns a word of the command line, or a value of a file, into a value of type `kind`.

    Raises:
        ValueError: it does not fit; the message says what was expected.
    """
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        if value is None or (isinstance(value, str) and value.lower() == "none"):
            return None
        return convert(value, next(t for t in inner if t is not type(None)))
    if origin is Literal:
        if value in inner:
            return value
        raise ValueError("one of " + ", ".join(map(str, inner)))
    if origin is tuple:
        items = value if isinstance(value, list | tuple) else [value]
        return tuple(convert(item, inner[0]) for item in items)
    if isinstance(value, str):
        return _from_text(value, kind)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if type(value) is not kind or (kind is float and not math.isfinite(value)):
        raise ValueError(type_name(kind))
    return value


def _from_text(text: str, kind: Any) -> Any:
    if kind is str:
        return text
    if kind is bool:
        if text.lower() in ("true", "false"):
            return text.lower() == "true"
    elif kind in (int, float):
        try:
            number = kind(text)
        except ValueError:
            number = math.nan
        if math.isfinite(number):
            return number
    raise ValueError(type_name(kind))


def type_name(kind: Any) -> str:
    """Says in a word or two what a setting of type `kind` takes."""
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return type_name(next(t for t in inner if t is not type(None))) + " or none"
    if origin is Literal:
        return "|".join(map(str, inner))
    if origin is tuple:
        return type_name(inner[0]) + " ..."
    return {int: "integer", float: "number", bool: "true|false", str: "text"}[kind]


def to_dict(options: Any) -> dict[str, Any]:
    """Returns a dataclass of options as a dict of JSON types, which `build` takes back unchanged."""
    return json.loads(json.dumps(dataclasses.asdict(options), allow_nan=False))


def help_lines(cls: type, section: str, main: str = "", **preset: Any) -> list[str]:
    """Returns the lines of `--help` for one dataclass; field `main` can be given as `--section` alone."""
    lines = []
    for name, (kind, default, text) in fields_of(cls).items():
        flag = f"--{section}" if name == main else f"--{section}.{name}"
        value = preset.get(name, default)
        shown = " ".join(map(str, value)) if isinstance(value, tuple) else str(value)
        suffix = f" [{shown.lower() if isinstance(value, bool | None) else shown}]" if shown else ""
        lines.append(f"  {flag + ' ' + type_name(kind):<44} {text}{suffix}")
    return lines


def _shown(value: Any) -> str:
    return repr(" ".join(map(str, value)) if isinstance(value, list) else value)
