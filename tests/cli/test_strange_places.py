"""Strange places: paths, locales and clocks change nothing. The real command lines, each in a process of its own."""

import json
import os
import subprocess
import sys

import pytest
import torch

from taskmask.checkpoints import checkpoint

NAME = "a b\té\n\udcff'\"$HOME;*"  # as the shell gives it: the byte 0xff is no UTF-8
ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0"}
TINY = """--model.layers 1 --model.width 32 --model.heads 2 --data.length 32 --train.max_tokens 256
--train.steps 3 --optim.lr 1e-3 --run.threads 1 --run.log_every 1""".split()  # noqa: SIM905
CLOCK = """
import sys, time
def back(clock, now=[1e9]):
    def read():
        if not sys._getframe(1).f_globals.get("__name__", "").startswith("taskmask"):
            return clock()
        now[0] -= 3600.0
        return now[0]
    return read
time.time, time.monotonic, time.perf_counter = back(time.time), back(time.monotonic), back(time.perf_counter)
"""


def taskmask(*words, folder, code=0, **environment):
    """Runs a command line in `folder`; returns what it prints."""
    command = [sys.executable, "-m", "taskmask_cli.main", *words]
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("LC_", "LANG", "PYTHONUTF8"))}
    plain["PYTHONPATH"] = os.pathsep.join(filter(None, [environment.pop("PYTHONPATH", ""), *sys.path]))
    done = subprocess.run(command, capture_output=True, cwd=folder, env={**plain, "LC_ALL": "C.UTF-8", **environment})
    assert done.returncode == code and b"Traceback" not in done.stderr, done.stderr.decode(errors="replace")[-3000:]
    return done.stdout.decode()


def whole_way(folder, name, texts, **environment):
    """Preprocess, train, evaluate and predict, all in `folder / name`.

    Returns:
        The figures, the answer, and the parts of the checkpoint: none of it may depend on the place.
    """
    place, settings = folder / name, {"folder": folder, **environment}
    place.mkdir(parents=True)
    for split in ("train", "valid"):
        content = (texts / f"{split}.txt").read_text(encoding="utf-8")
        (place / f"{split}.txt").write_text(content.replace("list", "café"), encoding="utf-8")
    run, data = os.path.join(name, "run"), os.path.join(name, "data")
    splits = ["--train", os.path.join(name, "train.txt"), "--valid", os.path.join(name, "valid.txt")]
    taskmask("preprocess", *splits, "--out", data, "--vocab-size", "330", "--workers", "1", **settings)
    taskmask("train", "--data", data, "--run", run, *TINY, **settings)
    figures = json.loads(taskmask("evaluate", "--from", run, "--json", **settings))
    shown = taskmask("predict", "--from", run, "--top", "300", "a café <mask>.", **settings)
    del figures["checkpoint"]
    (file,) = checkpoint.all_of(place / "run")
    state = checkpoint.load(file)
    return figures, shown, {part: state[part] for part in ("model", "optimizer", "progress", "data_fingerprint")}


@pytest.fixture(scope="module")
def plain(tmp_path_factory, texts):
    return whole_way(tmp_path_factory.mktemp("plain"), "plain", texts)


@pytest.mark.fault(46)
@pytest.mark.slow
@pytest.mark.parametrize("kind", ["paths", "locale", "clock"])
def test_nothing_changes(kind, plain, texts, tmp_path):
    (tmp_path / "clock").mkdir()
    (tmp_path / "clock" / "sitecustomize.py").write_text(CLOCK)
    clock = {"PYTHONPATH": str(tmp_path / "clock")}
    name, environment = {"paths": (NAME, {}), "locale": (NAME, ASCII), "clock": ("plain", clock)}[kind]
    figures, shown, state = whole_way(tmp_path, name, texts, **environment)
    assert figures == plain[0] and shown == plain[1] and "café" in shown
    same(state, plain[2])


def same(a, b):
    assert type(a) is type(b)
    if isinstance(a, dict):
        assert a.keys() == b.keys()
        for key in a:
            same(a[key], b[key])
    elif isinstance(a, list | tuple):
        for x, y in zip(a, b, strict=True):
            same(x, y)
    else:
        assert torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b
