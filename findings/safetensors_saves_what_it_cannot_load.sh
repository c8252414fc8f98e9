#!/bin/bash
# safetensors saves a file of torch under a path that is not UTF-8, and then refuses to load it.
#
# Guess: load_file(path) loads what save_file(tensors, path) has saved. Both take a path as str, and Python spells any path
#   of Linux as a str (os.fsdecode, PEP 383).
#
# Library: safetensors 0.8.0. Source: bindings/python/src/lib.rs, safe_open; py_src/safetensors/torch.py, save_file.
#
# Behaviour: save_file makes the file, also in a folder whose name is not UTF-8 (an old disk, another locale). load_file and
# safe_open with framework="pt" say "Path ... is not valid UTF-8"; with "np" they load it. By its number, /dev/fd/N, it opens.
#
# Output seen:
#   saved True
#   load_file SafetensorError: is not valid UTF-8
#   safe_open SafetensorError: is not valid UTF-8
#   safe_open of /dev/fd/N ['a']
#
# Exits with 1 if the behaviour has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check safetensors==0.8.0 numpy torch==2.13.0
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import os
import sys

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

path = os.fsdecode(b"weights\xff.safetensors")
save_file({"a": torch.ones(2)}, path)
is_saved = os.path.exists(path)
print("saved", is_saved)
refused = []
for name, load in (("load_file", load_file), ("safe_open", lambda path: safe_open(path, framework="pt"))):
    try:
        load(path)
    except Exception as error:
        refused.append("is not valid UTF-8" in str(error))
        print(name, f"{type(error).__name__}: is not valid UTF-8" if refused[-1] else error)
with open(path, "rb") as file:
    names = list(safe_open(f"/dev/fd/{file.fileno()}", framework="pt").keys())
print("safe_open of /dev/fd/N", names)
sys.exit(0 if is_saved and refused == [True, True] and names == ["a"] else 1)
PYTHON
