"""Killed at any instant, the same command goes on to the same bits: weights, optimizer and log."""

import functools
import random
import time

import pytest
from training_help import FEW_EVERY_DAY, OWN, Launch, last, rows, same, same_runs, tables

from taskmask.checkpoints import checkpoint

CONFIG = {
    "train": {"steps": 12, "valid_every": 3, "micro_batches_per_step": 2},
    "run": {"log_every": 2, "save_every": 2, "keep_last": 2, "keep_best": 1},
}
POINTS = ["save.write", "save.fsync", "save.rename", "save.prune", "log.write", "step.update", "resume.load"]
DAY = 4  # how many times a run is killed before it is left alone


@pytest.fixture(scope="module")
def uninterrupted(data, tmp_path_factory):
    """uninterrupted(masker) is the folder of a run that nobody stopped."""

    @functools.cache
    def run(masker, name="whole"):
        folder = tmp_path_factory.mktemp("uninterrupted") / name
        launch = Launch(folder.parent, tables(data, folder, masker=masker, **CONFIG))
        assert launch.wait() == [0], launch.text()
        return folder

    return run


@pytest.fixture(scope="module")
def seconds(uninterrupted):
    """From the start to the end of a run, but for the first of all, whose process may be slow."""
    uninterrupted("uniform")
    began = time.monotonic()
    uninterrupted("uniform", "timed")
    return time.monotonic() - began


def check_whole(whole, run):
    """Every checkpoint of the run loads, and its end is that of the uninterrupted run."""
    assert not list((run / "checkpoints").glob(".*"))
    for file in checkpoint.all_of(run):
        checkpoint.load(file)
    same_runs(whole, run)


def kill_at_random(masker, data, folder, kills, seed, whole, seconds):
    """Kills runs at random instants, a few times each; between two kills the same command goes on."""
    numbers, killed, number = random.Random(seed), 0, 0
    while killed < kills:
        number += 1
        run = folder / f"killed-{number}"
        for _ in range(DAY):
            launch = Launch(folder / f"launch-{number}", tables(data, run, masker=masker, **CONFIG))
            time.sleep(numbers.uniform(0.1, 1.0) * seconds)
            launch.processes[0].kill()
            (code,) = launch.wait()
            assert code in (-9, 0), launch.text()
            if code == 0:  # it was done before
                seconds *= 0.8
                break
            killed += 1
        launch = Launch(folder / f"launch-{number}", tables(data, run, masker=masker, **CONFIG))
        assert launch.wait() == [0], launch.text()
        check_whole(whole, run)


@pytest.mark.fault(35)
@pytest.mark.parametrize("masker", FEW_EVERY_DAY)
def test_killed_at_random_instants(masker, data, tmp_path, uninterrupted, seconds):
    kill_at_random(masker, data, tmp_path, DAY, OWN.index(masker), uninterrupted(masker), seconds)


@pytest.mark.slow
@pytest.mark.parametrize("masker", OWN)
def test_killed_at_50_random_instants(masker, data, tmp_path, uninterrupted, seconds):
    kill_at_random(masker, data, tmp_path, 50, 100 + OWN.index(masker), uninterrupted(masker), seconds)


@pytest.mark.fault(35)
@pytest.mark.parametrize("point", POINTS)
def test_killed_at_the_worst_instants(point, data, tmp_path, uninterrupted):
    """The third time: with a checkpoint before, and inside the save, the prune or the log of the next."""
    config = tables(data, tmp_path / "run", masker="uniform", **CONFIG)
    first = "step.update#7" if point == "resume.load" else f"{point}#3"
    assert Launch(tmp_path, config, order=f"kill@{first}").wait() == [-9]
    for _ in range(2):  # and again, in the resumed run
        assert Launch(tmp_path, config, order=f"kill@{point}").wait() == [-9]
    assert Launch(tmp_path, config).wait() == [0]
    check_whole(uninterrupted("uniform"), tmp_path / "run")


@pytest.mark.fault(35, 44)
def test_two_processes_killed_at_once_go_on(data, tmp_path):
    whole = {**CONFIG, "train": {**CONFIG["train"], "steps": 8}}
    assert Launch(tmp_path, tables(data, tmp_path / "whole", **whole), 2).wait() == [0, 0]
    config = tables(data, tmp_path / "run", **whole)
    for time_of_day, rank in ((5, 0), (3, 1)):
        codes = Launch(tmp_path, config, 2, order=f"kill@step.update#{time_of_day},rank={rank}").wait()
        assert codes[rank] == -9 and codes[1 - rank] == 6
    assert Launch(tmp_path, config, 2).wait() == [0, 0]
    same(last(tmp_path / "whole"), last(tmp_path / "run"))
    assert rows(tmp_path / "whole") == rows(tmp_path / "run")
