"""Names to components: tasks, models, criteria and maskers, built in or plugged in.

A registry finds a name in this order: what is registered already (built-ins and `--user-dir` files), then the
installed packages that declare the entry-point group `taskmask.<kind>`. Importing this module imports no component.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib
import importlib.metadata
import importlib.util
import inspect
import pkgutil
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from taskmask.errors import RegistryError, TaskmaskError, did_you_mean

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
    """

    name: str
    config: type
    target: Any
    place: str
    preset: dict[str, Any] = dataclasses.field(default_factory=dict)
    summary: str = ""

    @property
    def doc(self) -> str:
        """What it is: the summary of a variant, or the docstring of the class, which is loaded for it."""
        return self.summary or inspect.getdoc(self.load()) or ""

    def load(self) -> Any:
        """Returns the component's class, importing it where that was put off."""
        if not isinstance(self.target, str):
            return self.target
        module, attribute = self.target.split(":")
        return getattr(importlib.import_module(module), attribute)


@dataclasses.dataclass(frozen=True)
class NoOptions:
    """It has no options."""


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
        base = self._entries[of]
        preset = {**base.preset, **values}
        base.config(**preset)  # a preset that does not fit its options fails here, not in a user's run
        self._insert(Entry(name, base.config, base.target, caller(), preset, summary))

    def get(self, name: str) -> Entry:
        """Returns the entry called `name`; an unknown name gives the nearest one, all names and the remedies."""
        self._load_builtin()
        if name not in self._entries:
            for point in self._entry_points():
                if point.name == name:
                    self._load_entry_point(point)
        if name in self._entries:
            return self._entries[name]
        raise RegistryError(
            f"unknown {self.kind} {name!r}; {did_you_mean(name, self.names())}".rstrip("; "),
            expected=f"one of {', '.join(self.names())}",
            fix=f"load your own with --user-dir FILE, or install a package with the entry point taskmask.{self.kind}",
        )

    def names(self) -> list[str]:
        """All names, those of installed packages included (which are not imported for this)."""
        self._load_builtin()
        return sorted({*self._entries, *(point.name for point in self._entry_points())})

    def where(self, name: str) -> str:
        """Returns "file:line" of the registration of `name`."""
        return self.get(name).place

    def _insert(self, entry: Entry) -> None:
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
        return tuple(importlib.metadata.entry_points(group=f"taskmask.{self.kind}"))

    def _load_entry_point(self, point: importlib.metadata.EntryPoint) -> None:
        package = point.dist.name if point.dist else "an installed package"
        try:
            point.load()
        except TaskmaskError:
            raise
        except Exception as error:
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


def load_user_dir(path: str) -> None:
    """Runs the plug-in file, or every file of the plug-in folder, at `path`.

    The code is loaded under a private module name: nothing is put on `sys.path`, so a plug-in can be called like any
    module of the standard library and shadows none. Files of a folder import each other with `from . import name`.

    Raises:
        RegistryError: there is no such file, or it does not run; names its file and line.
    """
    location = Path(path).resolve()
    name = "taskmask_user_" + hashlib.sha256(str(location).encode()).hexdigest()[:16]
    if name in sys.modules:
        return
    if location.is_file():
        _run_module(name, location)
        return
    if not location.is_dir():
        raise RegistryError(f"no file or folder {path}", where="--user-dir", fix="name a .py file or a folder of them")
    package = importlib.util.module_from_spec(importlib.machinery.ModuleSpec(name, None, is_package=True))
    package.__path__ = [str(location)]
    sys.modules[name] = package
    files = sorted(location.glob("*.py"))
    if not files:
        raise RegistryError(f"no .py file in {path}", where="--user-dir", fix="name a .py file or a folder of them")
    for file in files:
        if f"{name}.{file.stem}" not in sys.modules:  # an earlier file may have imported it
            _run_module(f"{name}.{file.stem}", file)


def _run_module(name: str, file: Path) -> None:
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise RegistryError(f"{file} is not a Python file", where="--user-dir", fix="name a .py file or a folder of them")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        if isinstance(error, TaskmaskError):
            raise
        line = error.lineno if isinstance(error, SyntaxError) else traceback.extract_tb(error.__traceback__)[-1].lineno
        last = error.filename if isinstance(error, SyntaxError) else traceback.extract_tb(error.__traceback__)[-1].filename
        raise RegistryError(
            f"the plug-in does not run: {type(error).__name__}: {error}", where=f"{last}:{line}", fix="mend it"
        ) from error
