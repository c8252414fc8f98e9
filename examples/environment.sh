# Sourced by the scripts of this project: makes .venv in the project's root, installs taskmask with the extras named in
# $1 (such as "[dev]", or nothing), and activates it. What is installed already stays.
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
python=${PYTHON:-python3}
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || {
  echo "taskmask needs Python 3.11 or later; $python is $("$python" --version 2>&1). Name another with PYTHON=..." >&2
  exit 1
}
"$root/.venv/bin/python" -m pip --version >/dev/null 2>&1 || "$python" -m venv --clear "$root/.venv" || {
  echo "cannot make a virtual environment; on Debian and Ubuntu: apt-get install python3-venv" >&2
  exit 1
}
stamp="$root/.venv/installed$1"
if [ ! -e "$stamp" ] || [ "$root/pyproject.toml" -nt "$stamp" ] || [ "$root/constraints.txt" -nt "$stamp" ]; then
  echo "installing taskmask$1 into .venv ..."
  "$root/.venv/bin/python" -m pip install --quiet --disable-pip-version-check \
    --constraint "$root/constraints.txt" --editable "$root$1"
  touch "$stamp"
fi
export PATH="$root/.venv/bin:$PATH"
