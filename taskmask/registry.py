"""Names to components: tasks, models, criteria and maskers, built in or plugged in.

A registry knows the built-in components, those of `--user-dir` files, and those of installed packages that declare the
entry-point group `taskmask.<kind>`; a package is imported when its name is asked for. Importing this module imports no
component.
"""

from __future__ import annotations

import ast
import dataclasses
import functools
import hashlib
import importlib
import importlib.machinery
import importlib.metadata
import importlib.util
import inspect
import pkgutil
import shlex
import stat
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from taskmask.errors import RegistryError, TaskmaskError, did_you_mean, visible
from taskmask.machine import is_out_of_memory
from taskmask.process_state import folder_kept

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
            ours = isinstance(error, TaskmaskError) or file.is_relative_to(Path(__file__).parent)
            if ours or is_out_of_memory(error):
                raise
            where = f"{self.name}, {_line_of(error, file, self.place)}"
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


_user_dirs: dict[str, str] = {}


def user_dirs() -> tuple[str, ...]:
    """Returns the plug-ins that were loaded, as absolute paths: what another process must load to know the same."""
    return tuple(_user_dirs)


def user_dir_checksums() -> dict[str, str]:
    """Returns {absolute path: sha256 of the names and contents of its .py files} of the plug-ins that were loaded."""
    return dict(_user_dirs)


def load_user_dir(path: str) -> None:
    """Runs the plug-in file, or every file of the plug-in folder, at `path`.

    The code is loaded under a private module name: nothing is put on `sys.path`, so a plug-in can be called like any
    module of the standard library and shadows none. Files of a folder import each other with `from . import name`.

    Raises:
        RegistryError: there is no such file, or it does not run; names its file and line.
    """
    location = Path(path).resolve()
    name = "taskmask_user_" + hashlib.sha256(str(location).encode(errors="surrogateescape")).hexdigest()[:16]
    if name in sys.modules:
        return
    files = sorted(location.glob("*.py")) if location.is_dir() else [location]
    if not (files and files[0].suffix == ".py" and files[0].exists()):
        what = "holds no .py file" if location.is_dir() else "is no .py file" if location.exists() else "does not exist"
        raise RegistryError(f"{path} {what}", where="--user-dir", fix="name a .py file or a folder of them")
    checksum = _looked_over(location, files)
    try:
        with folder_kept():
            if location.is_file():
                _run_module(name, location)
            else:
                _make_package(name, location)
            for file in files if location.is_dir() else []:
                module = f"{name}.{file.stem}"
                if file.stem != "__init__" and module not in sys.modules:  # an earlier file may have imported it
                    _run_module(module, file)
        _user_dirs[str(location)] = checksum
    except BaseException as error:
        for loaded in [module for module in sys.modules if module.partition(".")[0] == name]:
            del sys.modules[loaded]
        if isinstance(error, TaskmaskError) or not isinstance(error, Exception | SystemExit):
            raise
        what = error.msg if isinstance(error, SyntaxError) else str(error)
        raise RegistryError(
            f"the plug-in does not run: {type(error).__name__}: {what}", where=_line_of(error, location), fix="mend it"
        ) from error


def _looked_over(location: Path, files: list[Path]) -> str:
    """Returns the sha256 of a plug-in, and warns of what anybody on this machine may change in it."""
    for path in dict.fromkeys((location.parent, location, *files)):
        mode = path.stat().st_mode
        if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:  # in a sticky folder only one's own files can be replaced
            text = f"taskmask: warning: anybody may change {path}, and what is in it runs with your rights; chmod o-w"
            print(visible(text), file=sys.stderr)
    content = hashlib.sha256()
    for file in files:
        content.update(f"{file.name}\0{file.stat().st_size}\0".encode(errors="surrogateescape") + file.read_bytes())
    return content.hexdigest()


def _make_package(name: str, folder: Path) -> None:
    """Makes a folder a package, so that its files can import each other; runs its __init__.py if it has one."""
    if (folder / "__init__.py").exists():
        _run_module(name, folder / "__init__.py", [str(folder)])
        return
    package = importlib.util.module_from_spec(importlib.machinery.ModuleSpec(name, None, is_package=True))
    package.__path__ = [str(folder)]
    sys.modules[name] = package


def _run_module(name: str, file: Path, search: list[str] | None = None) -> None:
    spec = importlib.util.spec_from_file_location(name, file, submodule_search_locations=search)
    assert spec is not None and spec.loader is not None  # so it is for every .py file
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)


def _line_of(error: BaseException, location: Path, otherwise: str = "") -> str:
    """Returns "file:line" of the last line of the plug-in on the way to the error, or `otherwise`, or its place."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}:{error.lineno or 1}"
    frames = [f for f in traceback.extract_tb(error.__traceback__) if Path(f.filename).is_relative_to(location)]
    return f"{frames[-1].filename}:{frames[-1].lineno}" if frames else otherwise or str(location)
