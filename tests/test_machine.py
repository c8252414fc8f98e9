"""Cores and threads: affinity, control groups of both versions, and what the user has set."""

import math
import os
import subprocess
import sys

import pytest

from taskmask.system import hardware
from taskmask.system.hardware import num_cores, num_threads, quota, wait_passively

V1 = "cpu.cfs_quota_us", "cpu.cfs_period_us"


def tree(folder, groups, files):
    """Writes the list of groups and their files; returns the arguments of `quota`."""
    root = folder / "cgroup"
    root.mkdir()
    (folder / "groups").write_text(groups)
    for path, text in files.items():
        file = root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{text}\n")
    return folder / "groups", root


TREES = {
    "version 2": ("0::/\n", {"cpu.max": "150000 100000"}, 1.5),
    "version 2, no limit": ("0::/\n", {"cpu.max": "max 100000"}, math.inf),
    "version 2, below": ("0::/a/b\n", {"a/cpu.max": "max 100000", "a/b/cpu.max": "50000 100000"}, 0.5),
    "version 2, above": ("0::/a/b\n", {"a/cpu.max": "200000 100000", "a/b/cpu.max": "300000 100000"}, 2),
    "version 2, own group mounted": ("0::/docker/1f\n", {"cpu.max": "100000 50000"}, 2),
    "version 2, outside of the mount": ("0::/../other\n", {"cpu.max": "300000 100000"}, 3),
    "version 2, beside version 1": ("1:name=systemd:/\n0::/a\n", {"unified/a/cpu.max": "200000 100000"}, 2),
    "version 1": (
        "4:cpu,cpuacct:/a\n",
        {f"cpu,cpuacct/a/{name}": value for name, value in zip(V1, (250000, 100000), strict=True)},
        2.5,
    ),
    "version 1, own name": (
        "4:cpuacct,cpu:/docker/1f\n",
        {f"cpu/{name}": value for name, value in zip(V1, (100000, 100000), strict=True)},
        1,
    ),
    "version 1, no limit": (
        "4:cpu:/a\n",
        {f"cpu/a/{name}": value for name, value in zip(V1, (-1, 100000), strict=True)},
        math.inf,
    ),
    "version 1, above": (
        "4:cpu:/a/b\n",
        {
            **{f"cpu/a/{name}": value for name, value in zip(V1, (100000, 100000), strict=True)},
            **{f"cpu/a/b/{name}": value for name, value in zip(V1, (-1, 100000), strict=True)},
        },
        1,
    ),
    "another controller": ("5:memory:/a\n", {"memory/cpu.max": "100000 100000"}, math.inf),
    "another group": ("0::/a\n", {"b/cpu.max": "100000 100000"}, math.inf),
    "a path with colons": ("0::/a:b/c\n", {"a:b/cpu.max": "100000 100000"}, 1),
    "no sense": ("no groups\n", {"cpu.max": "x y z"}, math.inf),
    "half": ("0::/\n", {"cpu.max": "100000"}, math.inf),
    "period 0": ("0::/\n", {"cpu.max": "100000 0"}, math.inf),
}


@pytest.mark.fault(86)
@pytest.mark.parametrize("name", TREES)
def test_quota_of_control_groups(name, tmp_path):
    groups, files, expected = TREES[name]
    assert quota(*tree(tmp_path, groups, files)) == expected


def test_without_control_groups_there_is_no_limit(tmp_path):
    assert quota(tmp_path / "missing", tmp_path) == math.inf


@pytest.mark.parametrize(
    ("allowed", "limit", "expected"), [(8, 1.5, 2), (8, 0.1, 1), (8, math.inf, 8), (2, 4.0, 2), (8, 3.0, 3)]
)
def test_cores_are_those_of_the_affinity_and_of_the_quota(allowed, limit, expected, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(allowed)), raising=False)
    monkeypatch.setattr(hardware, "quota", lambda: limit)
    assert num_cores() == expected


@pytest.mark.parametrize(
    ("variables", "processes", "expected"),
    [
        ({}, 1, 8),
        ({}, 3, 2),
        ({}, 20, 1),
        ({"OMP_NUM_THREADS": "3"}, 1, 3),
        ({"OMP_NUM_THREADS": "3,2"}, 4, 3),
        ({"OMP_NUM_THREADS": "16"}, 1, 16),
        ({"MKL_NUM_THREADS": "5"}, 1, 5),
        ({"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "5"}, 1, 1),
        ({"OMP_NUM_THREADS": "many"}, 1, 8),
        ({"OMP_NUM_THREADS": "0"}, 1, 8),
        ({"OMP_NUM_THREADS": "99999999999"}, 1, 8),
        ({"OMP_NUM_THREADS": "1", "TORCHELASTIC_RUN_ID": "none"}, 2, 4),  # torchrun's own
        ({"OMP_NUM_THREADS": "2", "TORCHELASTIC_RUN_ID": "none"}, 2, 2),
        ({"OMP_NUM_THREADS": "1", "TORCHELASTIC_RUN_ID": "none"}, 1, 1),  # torchrun sets nothing for one process
    ],
)
def test_threads_are_those_that_the_user_sets_else_one_a_core(variables, processes, expected, monkeypatch):
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "TORCHELASTIC_RUN_ID"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(hardware, "num_cores", lambda: 8)
    assert num_threads(processes) == expected


@pytest.mark.parametrize("variables", [{"GOMP_SPINCOUNT": "7"}, {"OMP_WAIT_POLICY": "active"}])
def test_what_the_user_has_set_stays(variables, monkeypatch):
    monkeypatch.setattr(os, "environ", dict(variables))
    wait_passively()
    assert os.environ == variables


def openmp_of(command, **variables):
    """Returns what the OMP library says of its settings as it is loaded by a command, {name: value}."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_"))}
    environment |= {"OMP_DISPLAY_ENV": "verbose", **variables}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines = [line.partition("=")[::2] for line in done.stderr.splitlines() if " = " in line]
    return {name.split()[-1]: value.strip(" '") for name, value in lines}


@pytest.mark.skipif(sys.platform != "linux", reason="torch comes with libgomp on Linux alone")
def test_waiting_threads_sleep():
    """The library reads the environment once, when torch loads it: this is early enough."""
    code = "from taskmask.system.hardware import wait_passively; wait_passively(); import torch"
    assert openmp_of([sys.executable, "-c", code])["GOMP_SPINCOUNT"] == "0"
    late = "import torch; from taskmask.system.hardware import wait_passively; wait_passively()"
    assert openmp_of([sys.executable, "-c", late])["GOMP_SPINCOUNT"] != "0"
    assert openmp_of([sys.executable, "-c", code], OMP_WAIT_POLICY="ACTIVE")["GOMP_SPINCOUNT"] != "0"
    assert openmp_of([sys.executable, "-c", code], GOMP_SPINCOUNT="77")["GOMP_SPINCOUNT"] == "77"
