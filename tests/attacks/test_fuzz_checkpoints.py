"""Checkpoints whose content lies in one place: each ends in a result or in one clear error, and allocates little."""

import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as profile
from hypothesis import strategies as st

from taskmask.checkpoints import checkpoint
from taskmask.config.settings import Settings
from taskmask.errors import TaskmaskError
from taskmask.inference import loaded_model
from taskmask.training.train import train

PHASES = (Phase.explicit, Phase.generate)  # no shrinking: each example is one change already
PROFILE = dict(deadline=None, derandomize=True, suppress_health_check=list(HealthCheck), database=None, phases=PHASES)
HOSTILE = [
    None, True, 0, -1, 7, 1 << 31, 1 << 62, 1 << 63, 10**40, 1.5, -0.5, 1e308, float("nan"), float("inf"), "",
    "x" * 999, "../..", "\x1b[31m\ud800", b"", b"\x80", [], [[]], [None] * 9, (), {}, {"a": 1}, {"": {}},
    {1: 2}, {None: None}, torch.zeros(0), torch.tensor(3), torch.tensor(float("nan")), torch.ones(2, 3),
    torch.zeros(1).expand(1 << 40),
    torch.zeros(1, dtype=torch.complex64), torch.empty(3, device="meta"), torch.zeros(3).to_sparse(),
]  # fmt: skip


def places(tree, path=()):
    """The paths of all parts of nested dicts and lists."""
    for key, value in tree.items() if isinstance(tree, dict) else enumerate(tree):
        yield (*path, key)
        if isinstance(value, dict | list | tuple):
            yield from places(value, (*path, key))


def spoil(state, path, how, value):
    """A copy of the state, with one part of it replaced, left out, or set beside another."""
    state = inner = dict(state)
    for key in path[:-1]:
        inner[key] = dict(inner[key]) if isinstance(inner[key], dict) else list(inner[key])
        inner = inner[key]
    if how == "replace" or not isinstance(inner, dict):
        inner[path[-1]] = value
    elif how == "drop":
        del inner[path[-1]]
    else:
        inner["strange" if how == "add" else 5] = value
    return state


def memory():
    return int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1]) // 1024


def ends_well(action):
    """Whether it comes to a result; an error must be one of ours, for bad settings, data or a bad checkpoint."""
    before = memory()
    try:
        action()
    except TaskmaskError as error:
        assert error.exit_code in (2, 3, 4) and len(str(error)) < 3000, str(error)[:3000]
        return False
    finally:
        assert memory() - before < 200
    return True


hows = st.sampled_from(["replace", "replace", "replace", "drop", "add", "add a number"])


@pytest.fixture(scope="module")
def run(tmp_path_factory, vocabulary, settings_tables):
    """A run of two steps with a checkpoint of the first: its folder, its settings, and that checkpoint."""
    import numpy as np

    from taskmask.data.dataset import Column
    from taskmask.data.writer import DatasetWriter

    folder = tmp_path_factory.mktemp("fuzzed")
    with DatasetWriter(folder / "data", vocabulary) as writer:
        split = writer.split("train", {"tokens": Column("ragged", "uint16")})
        rows = [np.append(ids, vocabulary.eos) for ids in vocabulary.encode(["the quick brown fox jumps"] * 40)]
        split.append({"tokens": (np.concatenate(rows).astype("uint16"), np.array([len(row) for row in rows]))})
    tables = {
        **settings_tables,
        "data": {"path": str(folder / "data"), "length": 32},
        "train": {"steps": 2, "max_tokens": 64, "ema": 0.5},
        "optim": {"warmup_steps": 0},
        "run": {"folder": str(folder / "run"), "save_every": 1, "keep_last": 9, "threads": 1, "tensorboard": False},
    }
    settings = Settings.of(tables)
    train(settings)
    first = checkpoint.all_of(folder / "run")[0]
    assert checkpoint.step_of(first) == 1
    return folder, settings, {"format": 1, **torch.load(first, weights_only=True)}


def test_used(run, tmp_path_factory):
    file, tried = tmp_path_factory.mktemp("used") / "step-1.pt", [0, 0]

    @profile(max_examples=100, **PROFILE)
    @given(st.sampled_from(list(places(run[2]))), hows, st.sampled_from(HOSTILE))
    def check(path, how, value):
        torch.save(spoil(run[2], path, how, value), file)
        tried[ends_well(lambda: loaded_model.load(str(file)).predict(["the <mask> fox"], 1))] += 1

    check()
    assert min(tried) > 20


def test_used_settings(run, tmp_path_factory):
    """The settings in it reach the furthest."""
    file = tmp_path_factory.mktemp("used") / "step-1.pt"
    inner = [path for path in places(run[2]) if path[0] in ("settings", "labels", "vocabulary")]

    @profile(max_examples=80, **PROFILE)
    @given(st.sampled_from(inner), hows, st.sampled_from(HOSTILE))
    def check(path, how, value):
        torch.save(spoil(run[2], path, how, value), file)
        ends_well(lambda: loaded_model.load(str(file)).predict(["the <mask> fox"], 1))

    check()


def resumes(run, folder, state):
    """Whether a run that finds this checkpoint goes on from it, for one step."""
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "checkpoints").mkdir(parents=True)
    shutil.copy(run[0] / "run" / "settings.json", folder)
    torch.save(state, folder / "checkpoints" / "step-1.pt")
    chosen = Settings.of(run[1].to_dict(), run={**run[1].to_dict()["run"], "folder": str(folder)})
    return ends_well(lambda: train(chosen))


@pytest.mark.fault(38)
def test_resumed(run, tmp_path_factory, capfd):
    folder, tried = tmp_path_factory.mktemp("resumed") / "run", [0, 0]
    assert resumes(run, folder, run[2])
    inner = [path for path in places(run[2]) if path[0] in ("optimizer", "loss_scale", "progress", "average", "step")]

    @profile(max_examples=40, **PROFILE)
    @given(st.sampled_from(inner), hows, st.sampled_from(HOSTILE))
    def check(path, how, value):
        tried[resumes(run, folder, spoil(run[2], path, how, value))] += 1

    check()
    assert min(tried) > 5 and "Traceback" not in capfd.readouterr().err
    json.loads((folder / "settings.json").read_text())
