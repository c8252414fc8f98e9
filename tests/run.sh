#!/usr/bin/env bash
# Sets up all that the tests need and runs them. Arguments go to pytest: bash tests/run.sh -k span
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../examples/environment.sh" "[dev]"
cd "$root"
ruff check .
mypy
python -m pytest -n auto --maxprocesses 4 "$@"
