"""Names to components: tasks, models, criteria and maskers, built in or plugged in.

A registry knows the built-in components, those of `--user-dir` files, and those of installed packages that declare the
entry-point group `taskmask.<kind>`; a package is imported when its name is asked for. Importing this module imports no
component.
"""

from __future__ import annotations

import ast
import dataclasses
import functools
import importlib
import importlib.machinery
import importlib.metadata
import importlib.util
import inspect
import pkgutil
import shlex
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from taskmask.errors import RegistryError, TaskmaskError, did_you_mean
from taskmask.system.hardware import is_out_of_memory

T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class Entry:
    """One registered component.

    Args:
        name: what the command line calls it.
        config: the frozen dataclass of its options.
        target: the class, or "module:attribute" where loading it must wait (it needs torch).
        place: "file:line" of the registration.
        preset: values a variant sets over the defaults of `config`.
        summary: what a variant is, in one line; empty where the class says it.
        of: name of the component that it is a variant of; "" where it is none.
    """

    name: str
    config: type
    target: Any
    place: str
    preset: dict[str, Any] = dataclasses.field(default_factory=dict)
    summary: str = ""
    of: str = ""

    @property
    def doc(self) -> str:
        """What it is: the summary of a variant, or the docstring of the class, which is not imported for it."""
        if isinstance(self.target, str):
            return self.summary or _docstring_of(self.target)
        return self.summary or inspect.getdoc(self.target) or ""

    @property
    def headline(self) -> str:
        """What it is, in one line, as far as that is known without importing anything."""
        text = self.summary or (self.config.__doc__ if isinstance(self.target, str) else self.doc)
        return (text or "").split("\n")[0]

    def load(self) -> Any:
        """Returns the component's class, importing it where that was put off."""
        if not isinstance(self.target, str):
            return self.target
        module, attribute = self.target.split(":")
        return getattr(importlib.import_module(module), attribute)

    def make(self, *arguments: Any, **options: Any) -> Any:
        """Makes one of it.

        Raises:
            RegistryError: it is of a plug-in, and its constructor fails; names the line.
        """
        file = Path(self.place.rpartition(":")[0])
        try:
            return self.load()(*arguments, **options)
        except Exception as error:
            ours = isinstance(error, TaskmaskError) or file.is_relative_to(Path(__file__).parents[1])
            if ours or is_out_of_memory(error):
                raise
            where = f"{self.name}, {line_of(error, file, self.place)}"
            raise RegistryError(
                f"cannot be made: {type(error).__name__}: {error}", where=where, fix="mend it"
            ) from error


@dataclasses.dataclass(frozen=True)
class NoOptions:
    """It has no options."""


def _docstring_of(target: str) -> str:
    """Returns the docstring of the class "module:attribute", read from the source, so that torch is not imported."""
    module, attribute = target.split(":")
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        return ""
    body = ast.parse(Path(spec.origin).read_text(encoding="utf-8")).body
    found = [node for node in body if isinstance(node, ast.ClassDef) and node.name == attribute]
    return ast.get_docstring(found[0]) or "" if found else ""


def _words(text: str) -> list[str]:
    """Returns the words of a command line; none where a quote is left open."""
    try:
        return shlex.split(text)
    except ValueError:
        return []


class Registry:
    """The components of one kind, by name.

    Args:
        kind: "task", "model", "criterion" or "masker".
        package: the package whose import registers the built-in ones.
    """

    def __init__(self, kind: str, package: str):
        self.kind, self.package = kind, package
        self._entries: dict[str, Entry] = {}

    def register(self, name: str, *, config: type = NoOptions, place: str = "") -> Callable[[type[T]], type[T]]:
        """Decorator: makes a class known as `name`, with the options of the frozen dataclass `config`."""

        def decorate(target: type[T]) -> type[T]:
            self._insert(Entry(name, config, target, place or caller()))
            return target

        return decorate

    def add(self, name: str, *, config: type, load: str) -> None:
        """Makes "module:attribute" known as `name`; it is imported when it is built, its options at once."""
        self._insert(Entry(name, config, load, caller()))

    def variant(self, name: str, *, of: str, summary: str = "", **values: Any) -> None:
        """Makes `name` known as component `of` with other defaults: an architecture as data."""
        base = self._entries.get(of) or self.get(of)
        preset = {**base.preset, **values}
        base.config(**preset)  # a preset that does not fit its options fails here, not in a user's run
        self._insert(Entry(name, base.config, base.target, caller(), preset, summary, of))

    def get(self, name: str) -> Entry:
        """Returns the entry called `name`; an unknown name gives the nearest one, all names and the remedies."""
        self._load_builtin()
        for point in self._entry_points():
            if point.name == name:  # also where the name is known already: two of a name are an error
                self._load_entry_point(point)
        if name in self._entries:
            return self._entries[name]
        first, _, options = name.partition(" ")
        given = [word.partition("=") for word in _words(options)]
        if first in self._entries and given and all(option and equals for option, equals, _ in given):
            flags = " ".join(f"--{self.kind}.{option} {shlex.quote(value)}" for option, _, value in given)
            fix = f"give options one by one: --{self.kind} {first} {flags}"
            raise RegistryError(f"is {name!r}", where=self.kind, expected="a name alone", fix=fix)
        own = f"your own: --user-dir FILE, or a package with the entry point taskmask.{self.kind}"
        raise RegistryError(
            f"unknown {self.kind} {name!r}",
            expected=f"one of {', '.join(self.names())}",
            fix=f"{did_you_mean(name, self.names(), words=True)} {own}".strip(),
        )

    def names(self) -> list[str]:
        """All names, those of installed packages included (which are not imported for this)."""
        self._load_builtin()
        return sorted({*self._entries, *(point.name for point in self._entry_points())})

    def where(self, name: str) -> str:
        """Returns "file:line" of the registration of `name`."""
        return self.get(name).place

    def installed_by(self, name: str) -> str:
        """Returns "name version" of the installed package that declares `name`; "" where none does."""
        found = [point.dist for point in self._entry_points() if point.name == name and point.dist]
        return f"{found[0].name} {found[0].version}" if found else ""

    def _insert(self, entry: Entry) -> None:
        where, options = f"{self.kind} {entry.name!r}, {entry.place}", entry.config.__qualname__
        if not dataclasses.is_dataclass(entry.config) or not entry.config.__dataclass_params__.frozen:  # type: ignore
            raise RegistryError(f"its config {options} is no frozen dataclass", where=where, fix="make it one")
        if "name" in {field.name for field in dataclasses.fields(entry.config)}:
            raise RegistryError(f"{options} has an option called name", where=where, fix="call it something else")
        known = self._entries.get(entry.name)
        if known and known.place != entry.place:
            raise RegistryError(
                f"{self.kind} {entry.name!r} is registered twice: at {known.place} and at {entry.place}",
                fix="give one of them another name",
            )
        self._entries[entry.name] = entry

    def _load_builtin(self) -> None:
        importlib.import_module(self.package)

    def _entry_points(self) -> tuple[importlib.metadata.EntryPoint, ...]:
        return tuple(_installed(tuple(sys.path)).select(group=f"taskmask.{self.kind}"))

    def _load_entry_point(self, point: importlib.metadata.EntryPoint) -> None:
        package = point.dist.name if point.dist else "an installed package"
        try:
            point.load()
        except TaskmaskError:
            raise
        except (Exception, SystemExit) as error:
            raise RegistryError(
                f"{type(error).__name__}: {error}",
                where=f"{self.kind} {point.name!r} of package {package} ({point.value})",
                fix="mend or remove that package",
            ) from error
        if point.name not in self._entries:
            raise RegistryError(
                f"loading {point.value} registered no {self.kind} called {point.name!r}",
                where=f"package {package}",
                fix=f"decorate it with @register_{self.kind}({point.name!r})",
            )


@functools.cache
def _installed(search: tuple[str, ...]) -> Any:
    """Returns the entry points of all packages on a search path, read once."""
    return importlib.metadata.entry_points()


def caller() -> str:
    """Returns "file:line" of the code that called the caller of this function."""
    frame = sys._getframe(2)
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"


TASKS = Registry("task", "taskmask.tasks")
MODELS = Registry("model", "taskmask.models")
CRITERIA = Registry("criterion", "taskmask.criteria")
MASKERS = Registry("masker", "taskmask.maskers")
REGISTRIES = {registry.kind: registry for registry in (TASKS, MODELS, CRITERIA, MASKERS)}

register_task = TASKS.register
register_model = MODELS.register
register_criterion = CRITERIA.register


def import_modules(package: str) -> None:
    """Imports every module of a package, so that the components in it register themselves."""
    for module in pkgutil.iter_modules(importlib.import_module(package).__path__):
        importlib.import_module(f"{package}.{module.name}")


def line_of(error: BaseException, location: Path, otherwise: str = "") -> str:
    """Returns "file:line" of the last line of the plug-in on the way to the error, or `otherwise`, or its place."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}:{error.lineno or 1}"
    frames = [f for f in traceback.extract_tb(error.__traceback__) if Path(f.filename).is_relative_to(location)]
    return f"{frames[-1].filename}:{frames[-1].lineno}" if frames else otherwise or str(location)
