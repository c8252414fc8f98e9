#!/bin/bash
# A package installed with `pip install --editable` lends its modules to another copy of it that comes first on PYTHONPATH.
#
# Guess: with PYTHONPATH=copy, `import package` takes the copy, and so `import package.module` takes the copy's module or
#   raises ModuleNotFoundError if the copy has none.
#
# Library: setuptools 84.2.1. Source: setuptools/command/editable_wheel.py, _EditableFinder.find_spec in its template.
#
# Behaviour: the package is the copy's, but a submodule that the copy lacks is found in the installed folder, without a
# word: the finder of the editable install maps the package's name, and maps all names below it, too. So a module that was
# moved or deleted in a working copy can still be imported there; tests pass, and fail once the copy is merged.
#
# Output seen:
#   package of copy: True
#   only_there of installed: True
#
# Exits with 1 if the behaviour has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check setuptools==84.2.1
mkdir -p "$folder/installed/package" "$folder/installed/other" "$folder/copy/package"
touch "$folder/installed/package/__init__.py" "$folder/installed/other/__init__.py" "$folder/copy/package/__init__.py"
echo "VALUE = 1" > "$folder/installed/package/only_there.py"
cat > "$folder/installed/pyproject.toml" <<'TOML'
[build-system]
requires = ["setuptools==84.2.1"]
build-backend = "setuptools.build_meta"

[project]
name = "package"
version = "1"

[tool.setuptools]
packages = ["package", "other"]
TOML
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check --no-build-isolation --editable "$folder/installed"
cd /
PYTHONPATH="$folder/copy" "$folder/venv/bin/python" - "$folder" <<'PYTHON'
import sys
from pathlib import Path

import package
import package.only_there

folder = Path(sys.argv[1]).resolve()
of_copy = Path(package.__file__).resolve().is_relative_to(folder / "copy")
of_installed = Path(package.only_there.__file__).resolve().is_relative_to(folder / "installed")
print("package of copy:", of_copy)
print("only_there of installed:", of_installed)
sys.exit(not (of_copy and of_installed))
PYTHON
