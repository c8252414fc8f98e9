"""The mechanism of settings: typed options, flags and files, read strictly. It knows no component.

A setting is a field of a frozen dataclass made with `opt`. The same assignment can stand on the command line
(`--section.field VALUE`), in a TOML or JSON file (tables), or in a Python dict; later assignments win.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import shlex
import textwrap
import tomllib
import types
import typing
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

from taskmask.errors import ConfigError, did_you_mean
from taskmask.system.files import MIB, read_text
from taskmask.system.json_input import from_json

C = TypeVar("C")
LARGEST = 4 * MIB


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

    A flag without a value means true. Words keep their text: `build` turns them into the setting's type. `--flag ""`
    empties a setting that takes several values.
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
            text: Any = True if not values else values[0] if len(values) == 1 else values
            assignments.append(Assignment(name, text, f"--{name}"))
    return assignments


def read_file(path: str | Path) -> list[Assignment]:
    """Reads the assignments of a .toml or .json file: tables are sections."""
    return from_tables(read_tables(path), str(path))


def read_tables(path: str | Path) -> dict[str, Any]:
    """Reads the tables of a .toml or .json file."""
    file = Path(path)
    try:
        text = read_text(file, LARGEST, streams=True)
        tables = from_json(text) if file.suffix == ".json" else tomllib.loads(text)
    except OSError as error:
        raise ConfigError(f"cannot be read: {error.strerror}", where=str(file), fix="check the path") from None
    except (ValueError, RecursionError) as error:  # of tomllib, too
        kind = "JSON" if file.suffix == ".json" else "TOML"
        raise ConfigError(f"is not valid {kind}: {error}", where=str(file), fix="mend the file") from None
    if not isinstance(tables, dict):
        raise ConfigError("holds no tables", where=str(file), expected="sections such as [train] with settings in them")
    return tables


def from_tables(tables: Mapping[str, Any], source: str) -> list[Assignment]:
    """Turns {"train": {"steps": 10}, "masker": "span"} into assignments; in a table, "name" comes first."""
    assignments = []
    for section, content in tables.items():
        if not isinstance(content, Mapping):
            assignments.append(Assignment(str(section), content, source))
            continue
        for field, value in sorted(content.items(), key=lambda item: item[0] != "name"):
            assignments.append(Assignment(f"{section}.{field}", value, source))
    return assignments


class Problems:
    """Collects what is wrong with the settings, so that all of it is said at once."""

    def __init__(self) -> None:
        self.errors: list[ConfigError] = []

    def add(self, what: str, **parts: str) -> None:
        """Notes one problem; the parts are those of `TaskmaskError`."""
        self.errors.append(ConfigError(what, **parts))

    def take(self, error: ConfigError) -> None:
        """Notes an error that was raised elsewhere, each of its parts for itself."""
        self.errors += error.parts or (error,)

    def check(self, ok: bool, what: str, **parts: str) -> None:
        """Notes a problem unless `ok`."""
        if not ok:
            self.add(what, **parts)

    def raise_any(self) -> None:
        """Raises one ConfigError that says all that was noted, or nothing."""
        if len(self.errors) == 1:
            raise self.errors[0]
        if self.errors:
            raise ConfigError.of(self.errors)


def fields_of(cls: type) -> dict[str, tuple[Any, Any, str]]:
    """Returns {name: (type, default, help)} of a dataclass of options, in the order of its fields.

    Raises:
        ConfigError: a field has no default, or a type that no flag can express.
    """
    fields, where = {}, f"options {cls.__module__}.{cls.__qualname__}"
    try:
        hints = typing.get_type_hints(cls)
    except NameError as error:
        raise ConfigError(str(error), where=where, fix="import what the types of its fields name") from None
    for field in dataclasses.fields(cls):
        kind, default = hints[field.name], field.default
        if default is dataclasses.MISSING:
            fix = f"write {field.name}: TYPE = opt(DEFAULT, HELP)"
            raise ConfigError("has no default", where=f"{where}, field {field.name}", fix=fix)
        if not _is_supported(kind):
            expected = "int, float, bool, str, Literal[...] of texts, tuple[T, ...] of one of these, or T | None"
            raise ConfigError(f"has type {kind}", where=f"{where}, field {field.name}", expected=expected)
        fields[field.name] = (kind, default, field.metadata.get("help", ""))
    return fields


def _is_supported(kind: Any) -> bool:
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        some = [t for t in inner if t is not type(None)]
        return len(inner) == 2 and len(some) == 1 and _is_supported(some[0])
    if origin is Literal:
        return all(isinstance(choice, str) for choice in inner)
    if origin is tuple:
        return len(inner) == 2 and inner[1] is Ellipsis and inner[0] in (int, float, bool, str)
    return kind in (int, float, bool, str)


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
    arguments, fits, before = dict(preset), True, len(problems.errors)
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
            fits = False
            problems.add(f"{section}.{name} {said(assignment)}", where=assignment.source, expected=str(error))
    if not fits:
        return None
    try:
        options = cls(**arguments)
    except ConfigError as error:
        problems.take(error)
    except ValueError as error:  # what the author of a plug-in may raise
        problems.add(str(error), where=section)
    return options if len(problems.errors) == before else None


def said(assignment: Assignment) -> str:
    """Returns what an assignment says, for messages: "is 'x'", or "has no value" for a flag alone."""
    value = assignment.value
    if value is True and assignment.source.startswith("--"):
        return "has no value"
    text = repr(shlex.join(map(str, value)) if isinstance(value, list) else value)
    return f"is {text if len(text) <= 80 else text[:77] + '...'}"


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
        items = value if isinstance(value, list | tuple) else [] if value == "" else [value]
        return tuple(convert(item, inner[0]) for item in items)
    if kind is str:
        value = os.fspath(value) if isinstance(value, os.PathLike) else value
    elif isinstance(value, str):
        value = _from_text(value, kind)
    if kind is float and type(value) is int and abs(value) < 2**1023:
        value = float(value)
    if type(value) is not kind or (kind is float and not math.isfinite(value)):
        raise ValueError(type_name(kind))
    if kind is int and not -(2**63) <= value < 2**63:
        raise ValueError("integer of 64 bits")
    return value


def _from_text(text: str, kind: Any) -> Any:
    """Returns the number or truth value that `text` says, or None."""
    if kind is bool:
        return {"true": True, "false": False}.get(text.lower())
    try:
        return kind(text)
    except ValueError:
        return None


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
        shown = shlex.join(map(str, value)) if isinstance(value, tuple) else str(value)
        suffix = f" [{shown.lower() if isinstance(value, bool | None) else shown}]" if shown else ""
        lines += two_columns(f"{flag} {type_name(kind)}", text + suffix)
    return lines


def two_columns(left: str, right: str) -> list[str]:
    """Returns the lines of one entry of `--help`, at most 120 wide; a long `left` stands on a line of its own."""
    column = 42
    lines = textwrap.wrap(right, 120 - column, break_long_words=False, break_on_hyphens=False)
    if not lines or len(left) > column - 4:
        return [f"  {left}", *(f"{'':<{column}}{line}" for line in lines)]
    return [f"  {left:<{column - 2}}{lines[0]}", *(f"{'':<{column}}{line}" for line in lines[1:])]
