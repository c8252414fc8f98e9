#!/usr/bin/env bash
# Sets up all that the tests need and runs them. Arguments go to pytest: bash tests/run.sh -k span
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../examples/environment.sh" "[dev]"
cd "$root"
ruff check .
mypy
# a process for each core, and so a thread for each process: more would wait for each other
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
python -m pytest -n auto --maxprocesses 4 "$@"
