"""Little address space, and no room in /dev/shm: one line that says what to do, and exit code 7."""

import errno
import multiprocessing
import os
import resource
import subprocess
import sys

import pytest

from taskmask.errors import StorageError
from taskmask.system.hardware import check_semaphores

KIB = 1024


def run(words, kib, folder):
    """Runs a command below a limit of address space; returns its exit code and the lines that it prints."""
    code = f"import resource; resource.setrlimit(resource.RLIMIT_AS, ({kib * KIB},) * 2)\n"
    command = [sys.executable, "-c", f"{code}from taskmask_cli.main import cli; cli()", *words]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=90)
    return done.returncode, (done.stdout + done.stderr).splitlines()


@pytest.mark.fault(78)
@pytest.mark.parametrize("kib", [300_000, 500_000])
@pytest.mark.parametrize("verb", ["preprocess", "train", "predict", "--help", "train --help"])
def test_a_limit_of_the_address_space(verb, kib, tiny, data, trained, texts, tmp_path):
    words = {
        "preprocess": ["preprocess", "--train", str(texts / "train.txt"), "--out", "d", "--vocab-size", "330"],
        "train": ["train", "--data", data, "--run", "r", *tiny],
        "predict": ["predict", "--from", str(trained), "the <mask>"],
    }.get(verb, verb.split())
    code, lines = run(words, kib, tmp_path)
    if "--help" in words:
        assert code == 0
    else:
        assert code in (0, 7), lines
    if code == 7:
        assert len(lines) == 1 and "ulimit -v" in lines[0], lines
        assert not list(tmp_path.iterdir())
    if kib == 300_000 and "--help" not in words:
        assert code == 7


@pytest.mark.fault(78)
@pytest.mark.parametrize("kib", [300_000, 400_000, 440_000, 480_000, 700_000, 900_000])
def test_a_vocabulary_is_trained_or_refused_before_its_threads_start(kib, texts, tmp_path):
    words = ["preprocess", "--train", str(texts / "train.txt"), "--out", "d", "--vocab-size", "330"]
    code, lines = run(words, kib, tmp_path)
    if kib < 700_000 and code:
        assert code == 7 and len(lines) == 1 and "training a vocabulary" in lines[0] and "--vocab" in lines[0], lines
        assert not list(tmp_path.iterdir())
    else:
        assert code == 0, lines


@pytest.mark.fault(78)
def test_no_room_for_semaphores(monkeypatch):
    class Full:
        def Queue(self):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    check_semaphores(2, "--run.workers 0")
    monkeypatch.setattr(multiprocessing, "get_context", Full)
    with pytest.raises(StorageError, match=r"/dev/shm: has no room .*--run\.workers 0"):
        check_semaphores(2, "--run.workers 0")


@pytest.mark.fault(78)
@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts")
@pytest.mark.parametrize("verb", ["train", "preprocess"])
def test_a_small_shm(verb, data, tiny, tmp_path):
    (tmp_path / "long.txt").write_text("the cat sat on the mat\n" * 100_000)
    words = {
        "train": ["--data", data, "--run", str(tmp_path / "r"), *tiny, "--run.workers", "2"],
        "preprocess": ["--train", str(tmp_path / "long.txt"), "--vocab", data, "--workers", "2", "--out", "d"],
    }[verb]
    shell = 'mount -t tmpfs -o size=4k tmpfs /dev/shm && exec "$@"'
    command = [sys.executable, "-c", "from taskmask_cli.main import cli; cli()", verb, *words]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    whole = ["unshare", "-m", "sh", "-c", shell, "sh", *command]
    done = subprocess.run(whole, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=90)
    if "mount" in done.stderr or "unshare" in done.stderr:
        pytest.skip("this machine mounts nothing")
    assert done.returncode == 7 and "/dev/shm" in done.stderr.splitlines()[-1] and "Traceback" not in done.stderr
    assert "workers" in done.stderr.splitlines()[-1]


def test_without_a_limit_nothing_is_tried(monkeypatch):
    from taskmask.system import address_space

    monkeypatch.setattr(resource, "getrlimit", lambda which: (resource.RLIM_INFINITY,) * 2)
    monkeypatch.setattr(subprocess, "run", pytest.fail)
    address_space.check_room("train", [])
