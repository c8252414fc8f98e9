"""A dead or full output never stops the work, and never makes a program say that it has worked."""

import subprocess
import sys

import pytest

WORK = """
import sys, time
from taskmask_cli.main import start

def work(argv):
    for _ in range(50):
        print("x" * 99, flush=True)
        print("y" * 99, file=sys.stderr, flush=True)
        time.sleep(0.002)
    open("done", "w").close()
    return 0

start(work, prints_its_result=sys.argv[1] == "reader")
"""


@pytest.fixture
def end(tmp_path):
    (tmp_path / "work.py").write_text(WORK)

    def run(kind, redirect):
        command = f"({sys.executable} work.py {kind}) {redirect}; echo ${{PIPESTATUS[0]}}"
        done = subprocess.run(command, shell=True, executable="/bin/bash", capture_output=True, text=True, cwd=tmp_path)
        return int(done.stdout.split()[-1]), (tmp_path / "done").exists()

    return run


@pytest.mark.fault(61)
@pytest.mark.parametrize(
    "redirect", ["2>&1 | true", "2>&1 | head -1", "2>/dev/full", ">/dev/full 2>&1", ">&-", "2>&-", ">&- 2>&-", "<&-"]
)
def test_work_goes_on_in_silence(redirect, end):
    assert end("writer", redirect) == (0, True)


@pytest.mark.fault(61)
def test_a_verb_that_prints_its_result_stops_without_a_reader_and_fails_on_a_full_disk(end):
    assert end("reader", "| head -1") == (0, False)
    assert end("reader", "2>&1 >/dev/full") == (7, False)
    assert end("reader", "2>/dev/full") == (0, True)
    assert end("reader", "2>&-") == (0, True)
