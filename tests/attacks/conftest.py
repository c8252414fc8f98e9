"""A tiny dataset and a tiny checkpoint without training, for the attacks to spoil; a child process to try them in."""

import json
import os
import subprocess
import sys

import pytest

from taskmask.data.dataset import Column
from taskmask.data.writer import DatasetWriter
from taskmask.tokenizer.tokenizer import Vocabulary, train_vocabulary

LINES = [f"the {a} quick brown fox number {i} jumps over {b} lazy dogs" for a in "abc" for b in "xyz" for i in range(9)]


@pytest.fixture(scope="session")
def vocabulary():
    return Vocabulary(train_vocabulary(LINES, 300, character_coverage=1.0))


@pytest.fixture
def dataset(tmp_path, vocabulary):
    """A whole dataset with the split train: tokens, and a label a row."""
    import numpy as np

    with DatasetWriter(tmp_path / "data", vocabulary) as writer:
        split = writer.split("train", {"tokens": Column("ragged", "uint16"), "label": Column("row", "uint8")})
        rows = [np.append(ids, vocabulary.eos) for ids in vocabulary.encode(LINES)]
        tokens = np.concatenate(rows).astype("uint16"), np.array([len(row) for row in rows])
        split.append({"tokens": tokens, "label": np.zeros(len(rows), "uint8")})
        writer.labels["label"] = ["neg", "pos"]
    return tmp_path / "data"


@pytest.fixture(scope="session")
def settings_tables():
    return {"model": {"name": "tiny", "layers": 1, "width": 32, "heads": 2}, "data": {"length": 32}}


@pytest.fixture(scope="session")
def good_state(vocabulary, settings_tables):
    """What a checkpoint of an untrained model holds."""
    from taskmask.config.settings import Settings
    from taskmask.training.build import build_objective, build_task

    settings = Settings.of(settings_tables)
    objective = build_objective(settings, build_task(settings, vocabulary, {}))
    return {
        "step": 1, "model": objective.state_dict(), "average": None, "optimizer": {}, "loss_scale": {}, "progress": {},
        "settings": settings.to_dict(), "vocabulary": vocabulary.model_bytes, "labels": {}, "data_fingerprint": "f",
    }  # fmt: skip


MEASURE = """
import json, re, resource, sys
from taskmask.data.dataset import Dataset
from taskmask.errors import TaskmaskError
from taskmask.inference import loaded_model
import taskmask.criteria.masked_lm, taskmask.models.encoder, taskmask.config.settings, taskmask.tasks.masked_lm

def status(name):
    return int(re.search(name + r":\\s+(\\d+)", open("/proc/self/status").read())[1])

def megabytes_more():
    return (status("VmHWM") - before) // 1024

limit = status("VmSize") * 1024 + (2 << 30)  # more fails here, and does not take the machine with it
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
for path in sys.argv[2:]:
    open("/proc/self/clear_refs", "w").write("5")  # the peak begins anew
    before, code, text = status("VmHWM"), 0, ""
    try:
        exec(sys.argv[1])
    except TaskmaskError as error:
        code, text = error.exit_code, str(error)
    except BaseException as error:
        code, text = -1, f"{type(error).__name__}: {error}"
    print(json.dumps([path, code, megabytes_more(), len(text), text[:300]]), flush=True)
"""


@pytest.fixture
def refused_cheaply():
    """refused_cheaply(line, paths, code): the line of Python ends in one short error with that exit code for every
    `path`, in a child process, and allocates less than 200 MB."""
    if not os.path.exists("/proc/self/clear_refs"):
        pytest.skip("memory is measured as Linux tells it")

    def run(line, paths, code, seconds=60):
        command = [sys.executable, "-c", MEASURE, line, *map(str, paths)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds)
        results = [json.loads(line) for line in done.stdout.splitlines()]
        assert done.returncode == 0 and len(results) == len(paths), (results[-1:], done.stderr[-2000:])
        wrong = [result for result in results if result[1] != code or result[2] > 200 or result[3] > 2000]
        assert not wrong, wrong
        return {os.path.basename(path): text for path, _, _, _, text in results}

    return run
