"""The injector itself: it does nothing unless told to, and then exactly what it was told."""

import errno
import os
import signal
import subprocess
import sys

import pytest

from taskmask.errors import ConfigError
from taskmask.system import failpoints


@pytest.fixture
def order(monkeypatch):
    """order("error@data.read") orders a fault, with nothing counted yet."""
    monkeypatch.setattr(failpoints, "_times", failpoints.collections.Counter())
    return lambda text: monkeypatch.setenv("TASKMASK_FAULT", text)


def test_without_an_order_nothing_happens_and_nothing_is_counted(order, monkeypatch):
    monkeypatch.delenv("TASKMASK_FAULT", raising=False)
    assert [failpoints.reach(point) for point in failpoints.POINTS] == [""] * len(failpoints.POINTS)
    assert not failpoints._times


def test_errors_come_at_their_place_and_time(order):
    order("error@step.loss#2; full@save.write; memory@data.read")
    assert failpoints.reach("step.loss") == ""
    with pytest.raises(RuntimeError, match="a fault on order"):
        failpoints.reach("step.loss")
    assert failpoints.reach("step.loss") == ""
    with pytest.raises(MemoryError):
        failpoints.reach("data.read")
    with pytest.raises(OSError) as error:
        failpoints.reach("save.write")
    assert error.value.errno == errno.ENOSPC


@pytest.mark.parametrize("action", failpoints.LEFT_TO_THE_PLACE)
def test_what_only_the_place_can_do_is_returned_to_it(action, order):
    order(f"{action}@step.loss#1")
    assert [failpoints.reach("step.loss"), failpoints.reach("step.loss")] == [action, ""]


def test_other_processes_and_restarted_ones_are_left_alone(order, monkeypatch):
    order("nan@step.loss,rank=1")
    assert failpoints.reach("step.loss") == ""
    order("nan@step.loss#2,rank=1")
    monkeypatch.setenv("RANK", "1")
    assert failpoints.reach("step.loss") == "nan"
    order("nan@step.loss#3,rank=1")
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    assert failpoints.reach("step.loss") == ""


@pytest.mark.parametrize("action, number", [item for item in failpoints.SIGNALS.items() if item[0] != "hang"])
def test_signals(action, number):
    code = "from taskmask.system.failpoints import reach; reach('save.rename')"
    environment = {**os.environ, "TASKMASK_FAULT": f"{action}@save.rename"}
    process = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True)
    assert -process.returncode == number or (number == signal.SIGINT and b"KeyboardInterrupt" in process.stderr)


@pytest.mark.parametrize(
    "text", ["x", "kill", "kill@nowhere", "dance@data.read", "kill@data.read#x", "kill@data.read;"]
)
def test_an_order_that_cannot_be_read_is_named(text, order):
    order(text)
    with pytest.raises(ConfigError, match="TASKMASK_FAULT"):
        failpoints.reach("data.read")
