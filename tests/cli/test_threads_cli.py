"""Threads of real commands: how they wait, and how many there are."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

RUN = [sys.executable, "-m", "taskmask_cli.main"]


def ended(words, **variables):
    """Runs a command without the variables of this process about threads; returns what it says on standard error."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_", "MKL_"))}
    done = subprocess.run([*RUN, *words], env={**plain, **variables}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stderr


@pytest.mark.fault(86)
@pytest.mark.skipif(sys.platform != "linux", reason="torch comes with libgomp on Linux alone")
@pytest.mark.parametrize("verb", ["train", "predict"])
def test_waiting_threads_sleep(verb, data, trained, tiny, tmp_path):
    """The OMP library says what it has read, when it is loaded."""
    words = {
        "train": ["train", "--data", data, "--run", str(tmp_path / "run"), *tiny, "--dry-run"],
        "predict": ["predict", "--from", trained, "a <mask> b"],
    }[verb]
    assert "GOMP_SPINCOUNT = '0'" in ended(words, OMP_DISPLAY_ENV="verbose")
    assert "GOMP_SPINCOUNT = '77'" in ended(words, OMP_DISPLAY_ENV="verbose", GOMP_SPINCOUNT="77")


@pytest.mark.parametrize(("variables", "words", "expected"), [({"OMP_NUM_THREADS": "3"}, [], 3), ({}, ["2"], 2)])
def test_threads_are_those_of_the_setting_else_of_the_environment(variables, words, expected, data, tiny, tmp_path):
    plug_in = tmp_path / "counting.py"
    plug_in.write_text(
        "import json, torch\nfrom pathlib import Path\nfrom taskmask import register_masker\n\n"
        "@register_masker('counting')\ndef counting(batch, rng):\n    '''Counts threads.'''\n"
        f"    Path({str(tmp_path / 'threads')!r}).write_text(json.dumps(torch.get_num_threads()))\n"
        "    return batch.maskable\n"
    )
    at = tiny.index("--run.threads")
    words = [*tiny[:at], *tiny[at + 2 :], *(["--run.threads", *words] if words else []), "--masker", "counting"]
    ended(["train", "--data", data, "--run", str(tmp_path / "run"), "--user-dir", str(plug_in), *words], **variables)
    assert json.loads(Path(tmp_path / "threads").read_text()) == expected
