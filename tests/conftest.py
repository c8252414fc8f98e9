"""What all tests need."""

import signal

import pytest
from plug_in_help import plug_ins_taken_back

# A shell starts what runs in its background with SIGINT ignored, and all that the tests start would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def nothing_is_left_registered():
    """No test sees the plug-ins of another."""
    with plug_ins_taken_back():
        yield


def pytest_addoption(parser):
    parser.addoption("--renew", action="store_true", help="write the files of expected results again")
