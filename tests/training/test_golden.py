"""Fifty steps with every masker: the same losses as ever, and the same bits twice on one machine.

A change that moves the losses on purpose renews the file: `python -m pytest tests/training/test_golden.py --renew`.
"""

import itertools
import json
import zlib
from pathlib import Path

import numpy as np
import pytest
from training_help import OWN, make, rows, same_runs

from taskmask.training.data_loader import BatchMaker, Position, training_tickets
from taskmask.training.train import open_data, train

FILE = Path(__file__).with_name("golden.json")
STEPS = {"train": {"steps": 50, "valid_every": 0}, "run": {"log_every": 5}}
TOLERANCE = 2e-3  # kernels of other CPUs add up in another order


def masked(settings):
    """A checksum of the rows and the masked positions of the first steps, which no CPU may change."""
    maker = BatchMaker(open_data(settings), "train", settings)
    tickets, checksum = training_tickets(maker.source.lengths, settings, maker.task.views, Position(), 0, 1), 0
    for ticket in itertools.islice(tickets, 10):
        batch = maker.make(ticket)
        for array in (ticket.ids, batch.inputs["positions"]["mlm"], batch.inputs["tokens"]):
            checksum = zlib.crc32(np.ascontiguousarray(array, "<i8"), checksum)
    return checksum


@pytest.mark.parametrize("masker", OWN)
def test_losses_are_those_of_the_file(masker, data, tmp_path, request):
    runs = [make(data, tmp_path / name, masker=masker, **STEPS) for name in "ab"]
    for settings in runs:
        train(settings)
    same_runs(tmp_path / "a", tmp_path / "b")
    losses = [row["loss"] for row in rows(tmp_path / "a") if row["kind"] == "train"]
    found = {"losses": [round(loss, 5) for loss in losses], "masks": masked(runs[0])}
    if request.config.getoption("--renew"):
        kept = json.loads(FILE.read_text()) if FILE.exists() else {}
        FILE.write_text(json.dumps({**kept, masker: found}, indent=1, sort_keys=True) + "\n")
    golden = json.loads(FILE.read_text())[masker]
    assert found["masks"] == golden["masks"]
    assert found["losses"] == pytest.approx(golden["losses"], rel=TOLERANCE)
    assert losses[-1] < losses[0] - 0.3, "fifty steps teach something"


def test_the_file_speaks_of_every_masker_and_of_no_other():
    assert sorted(json.loads(FILE.read_text())) == sorted(OWN)
