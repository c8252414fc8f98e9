"""Plug-ins: files and folders of `--user-dir`, run under private module names."""

from __future__ import annotations

import hashlib
import importlib
import importlib.machinery
import importlib.metadata
import importlib.util
import stat
import sys
from pathlib import Path

from taskmask.errors import RegistryError, TaskmaskError, visible
from taskmask.registry.components import line_of
from taskmask.system.process_state import folder_kept

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
            f"the plug-in does not run: {type(error).__name__}: {what}", where=line_of(error, location), fix="mend it"
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
