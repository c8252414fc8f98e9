"""Tickets and batches: each row of an epoch once, and nothing depends on workers or processes."""

import collections
import dataclasses
import itertools
import multiprocessing

import numpy as np
import pytest
import torch
from plug_in_help import plug_ins_taken_back
from training_help import make

from taskmask.errors import ConfigError
from taskmask.registry import load_user_dir
from taskmask.training.data_loader import BatchMaker, Position, batches, frozen_tickets, training_tickets
from taskmask.training.train import open_data

LENGTHS = np.array([5, 9, 32, 17, 8, 8, 30, 12, 3, 25] * 9)
CPU = torch.device("cpu")


def tickets_of(data, tmp_path, rank, size, start=Position(), steps=24, per_step=4):  # noqa: B008 - frozen
    settings = make(data, tmp_path, train={"steps": steps, "max_tokens": 64, "micro_batches_per_step": per_step})
    return list(training_tickets(LENGTHS, settings, 1, start, rank, size))


def test_every_row_once_an_epoch_for_any_number_of_processes(data, tmp_path):
    alone = tickets_of(data, tmp_path, 0, 1)
    for size in (1, 2, 4):
        together = [tickets_of(data, tmp_path, rank, size) for rank in range(size)]
        seen = collections.Counter((t.rng.epoch, int(i)) for share in together for t in share for i in t.ids)
        full = {epoch for epoch, _ in seen} - {max(epoch for epoch, _ in seen)}
        assert len(full) >= 2
        assert all(seen[epoch, row] == 1 for epoch in full for row in range(len(LENGTHS)))
        assert set(seen.values()) == {1}
        merged = sorted(itertools.chain(*together), key=lambda t: (t.after.step, t.number))
        assert [(t.number, t.after, t.ids.tolist()) for t in merged] == [
            (t.number, t.after, t.ids.tolist()) for t in alone
        ]


@pytest.mark.parametrize("sizes", [(1, 2), (2, 1), (2, 4), (4, 1)])
def test_resume_with_another_number_of_processes_misses_no_row(sizes, data, tmp_path):
    alone = [(t.after, t.number, t.ids.tolist()) for t in tickets_of(data, tmp_path, 0, 1)]
    before, after = sizes
    for stop in range(1, 24):
        first = [t for rank in range(before) for t in tickets_of(data, tmp_path, rank, before) if t.after.step <= stop]
        position = max(first, key=lambda t: t.after.step).after
        second = [t for rank in range(after) for t in tickets_of(data, tmp_path, rank, after, position)]
        both = sorted(((t.after, t.number, t.ids.tolist()) for t in first + second), key=lambda t: (t[0].step, t[1]))
        assert both == alone


def test_dropout_of_a_step_has_a_number_for_each_micro_batch(data, tmp_path):
    numbers = collections.Counter((t.after.step, t.number) for r in (0, 1) for t in tickets_of(data, tmp_path, r, 2))
    assert set(numbers.values()) == {1} and {number for _, number in numbers} == {0, 1, 2, 3}


def test_validation_takes_each_row_once_in_epoch_0(data):
    for size in (1, 2, 3, 200):
        tickets = [t for rank in range(size) for t in frozen_tickets(LENGTHS, 64, 1)[rank::size]]
        assert sorted(int(i) for t in tickets for i in t.ids) == list(range(len(LENGTHS)))
        assert {(t.rng.seed, t.rng.epoch, t.rng.progress) for t in tickets} == {(0, 0, 1.0)}


def flat(batch):
    found = {}
    batch.map(lambda tensor: found.setdefault(len(found), tensor.clone()))
    return list(found.values())


PLUG_IN = """
from taskmask import register_masker

@register_masker("every_nth")
def every_nth(batch, rng, *, n: int = 3):
    chosen = batch.maskable.copy()
    chosen[:, ::n] = False
    return chosen
"""


@pytest.fixture(scope="module")
def plug_in(tmp_path_factory):
    file = tmp_path_factory.mktemp("plug-in") / "statistics.py"  # called like a module of the standard library
    file.write_text(PLUG_IN)
    with plug_ins_taken_back():
        load_user_dir(str(file))
        yield "every_nth"


@pytest.fixture
def start_method(request):
    before = multiprocessing.get_start_method(allow_none=True)
    multiprocessing.set_start_method(request.param, force=True)
    yield request.param
    multiprocessing.set_start_method(before, force=True)


def all_batches(settings, workers):
    settings = dataclasses.replace(settings, run=dataclasses.replace(settings.run, workers=workers))
    maker = BatchMaker(open_data(settings), "train", settings)
    tickets = training_tickets(maker.source.lengths, settings, 1, Position(), 0, 1)
    return [(ticket, flat(batch)) for ticket, batch in batches(tickets, maker, CPU)]


@pytest.mark.fault(27, 44)
@pytest.mark.parametrize("start_method", ["fork", "forkserver", "spawn"], indirect=True)
@pytest.mark.parametrize("workers", [1, 2])
def test_workers_give_the_same_batches_in_the_same_order(workers, start_method, plug_in, data, tmp_path):
    masker = {"name": plug_in, "n": 4}
    settings = make(data, tmp_path, masker=masker, train={"steps": 5, "micro_batches_per_step": 3})
    for (a, x), (b, y) in zip(all_batches(settings, 0), all_batches(settings, workers), strict=True):
        assert a.after == b.after and a.number == b.number and np.array_equal(a.ids, b.ids)
        assert all(torch.equal(p, q) for p, q in zip(x, y, strict=True))


class Bad:
    """A task that fails in one way."""

    views = 1

    def __init__(self, what):
        self.what = what

    def make_batch(self, batch, rng):
        raise self.what


def first_batch(what, workers, data, tmp_path):
    """Takes a batch of a task that raises."""
    settings = make(data, tmp_path, run={"workers": workers})
    maker = BatchMaker(dataclasses.replace(open_data(settings), task=Bad(what)), "train", settings)
    next(batches(frozen_tickets(maker.source.lengths, 256, 1), maker, CPU))


@pytest.mark.fault(58)
@pytest.mark.parametrize("workers", [0, 1])
def test_an_error_in_a_worker_is_the_same_one_line(workers, data, tmp_path):
    with pytest.raises(ConfigError) as error:
        first_batch(ConfigError("chose <s>", where="masker mine", fix="mend it"), workers, data, tmp_path)
    assert str(error.value) == "masker mine: chose <s>; mend it" and error.value.fix == "mend it"


@pytest.mark.parametrize("workers", [0, 1])
def test_a_programming_error_in_a_worker_keeps_its_type(workers, data, tmp_path):
    with pytest.raises(ZeroDivisionError):
        first_batch(ZeroDivisionError(), workers, data, tmp_path)
