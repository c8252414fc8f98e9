"""What the tests of faults of taskmask-preprocess share: processes that start warm and can be killed, and contents."""

import multiprocessing
import os
import sys
import time

from taskmask_cli import main, preprocess

WARM = multiprocessing.get_context("forkserver")  # each child is new, but finds everything imported
WARM.set_forkserver_preload(
    ["preprocess_help", "taskmask.preprocess.pipeline", "taskmask.data.writer", "sentencepiece"]
)


def start(arguments, fault=""):
    """Starts taskmask-preprocess in a process of its own, which `fault` may kill at a point of the program."""
    process = WARM.Process(target=_child, args=(arguments, fault))
    process.start()
    return process


def _child(arguments, fault):
    os.environ["TASKMASK_FAULT"] = fault
    with open(os.devnull, "w") as sys.stdout, open(os.devnull, "w") as sys.stderr:
        sys.exit(main.run(preprocess.main, arguments))


def kill_after(seconds, arguments):
    """Kills it that long after its start; less than nothing: after its end."""
    process = start(arguments)
    time.sleep(seconds)
    process.kill()
    process.join()


def content(folder):
    """Every file of a folder: its path inside -> its bytes."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
