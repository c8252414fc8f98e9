"""Fully-explored masks in training: K views are K accumulated micro-batches; resume and processes change nothing."""

import numpy as np
import pytest
import torch
from test_resume import check_every_stop
from training_help import Launch, make, rows, tables

from taskmask.training.data_loader import BatchMaker, Position, training_tickets
from taskmask.training.train import open_data, train

MODES = ["together", "in_turn", "sequential"]
RUN = {"train": {"steps": 6, "micro_batches_per_step": 2, "valid_every": 3}, "run": {"save_every": 3, "keep_last": 9}}


@pytest.mark.parametrize("mode", ["in_turn", "sequential"])  # the default is tested where every masker is
def test_stopped_within_the_masks_of_a_row(mode, settings, tmp_path, monkeypatch):
    masker = {"name": "fully_explored", "masks": 3, "mode": mode}
    train = {"max_tokens": 2048, "steps": 5}  # an epoch in a step or two
    check_every_stop(settings, tmp_path, monkeypatch, "stop", masker=masker, train=train)
    position = torch.load(max((tmp_path / "whole" / "checkpoints").glob("step-5*")), weights_only=False)["progress"]
    assert mode == "sequential" or position["position"]["epoch"] >= 3, position


@pytest.mark.parametrize("mode", MODES)
def test_two_processes_are_as_one(mode, data, tmp_path):
    masker = {"name": "fully_explored", "masks": 3, "mode": mode}
    train(make(data, tmp_path / "one", masker=masker, **RUN))
    launch = Launch(tmp_path, tables(data, tmp_path / "two", masker=masker, **RUN), ranks=2)
    assert launch.wait() == [0, 0], launch.text()
    for one, two in zip(rows(tmp_path / "one"), rows(tmp_path / "two"), strict=True):
        assert one["loss"] == pytest.approx(two["loss"], rel=1e-6)


START = Position()


def batches_of(settings, start=START):
    parts = open_data(settings)
    maker, task = BatchMaker(parts, "train", settings), parts.task
    tickets = training_tickets(maker.source.lengths, settings, task.views, start, 0, 1, task.turns)
    return maker, list(tickets)


def test_a_sequence_of_updates_sees_the_same_rows_and_all_of_their_tokens(data, tmp_path):
    masker = {"name": "fully_explored", "masks": 3, "mode": "sequential"}
    settings = make(data, tmp_path, masker=masker, train={"steps": 30, "micro_batches_per_step": 2, "max_tokens": 512})
    maker, tickets = batches_of(settings)
    for first in range(0, 18, 6):  # three updates of two micro-batches
        for one in range(2):
            same_rows = tickets[first + one : first + 6 : 2]
            assert [t.rng.turn for t in same_rows] == [0, 1, 2]
            assert all(np.array_equal(same_rows[0].ids, t.ids) for t in same_rows)
            chosen = np.concatenate([maker.make(t).inputs["positions"]["mlm"] for t in same_rows])
            assert len(set(chosen.tolist())) == len(chosen) == maker.source[same_rows[0].ids].maskable.sum()


def test_views_in_one_batch_are_views_accumulated(trainer, settings):
    """The gradient of K views is that of K micro-batches of one view, summed over all targets."""
    chosen = {"masker": {"name": "fully_explored", "masks": 4}, "model": {"name": "tiny", "dropout": 0.0}}
    together = trainer("together", train={"max_tokens": 2048}, **chosen)
    maker, tickets = batches_of(together.settings)
    ticket = tickets[0]
    views = []
    for turn in range(4):
        alone = {**chosen, "masker": {**chosen["masker"], "mode": "sequential"}}
        sequential = settings(f"turn-{turn}", train={"max_tokens": 512}, **alone)
        own = BatchMaker(open_data(sequential), "train", sequential)
        rng = type(ticket.rng)(ticket.rng.seed, ticket.rng.epoch, ticket.ids, ticket.rng.progress, turn)
        views.append(own.make(type(ticket)(ticket.ids, rng)))
    whole = maker.make(ticket)
    assert whole.num_tokens == sum(view.num_tokens for view in views)
    objective = together.objective.eval()

    def gradient(batches):
        objective.zero_grad()
        count = sum(len(batch.targets["mlm"]) for batch in batches)
        for batch in batches:
            (objective(batch.map(torch.from_numpy))["mlm"] / count).backward()
        return {name: p.grad.clone() for name, p in objective.named_parameters()}

    one, accumulated = gradient([whole]), gradient(views)
    for name in one:
        assert torch.allclose(one[name], accumulated[name], rtol=1e-4, atol=1e-7), name


@pytest.mark.parametrize(("partition", "told"), [("random", False), ("contiguous", True)])
def test_a_bias_is_told_of_before_the_training(data, tmp_path, partition, told, capsys):
    masker = {"name": "fully_explored", "masks": 3, "partition": partition}
    train(make(data, tmp_path / "run", masker=masker, train={"steps": 1}))
    assert ("warning: masker.partition contiguous: the gradient is biased" in capsys.readouterr().err) == told


@pytest.mark.parametrize("group", [1, 2, 4])
def test_all_rows_in_all_turns_whatever_an_update_takes(group, data, tmp_path):
    """Also where the micro-batches of an epoch are no multiple of those of an update."""
    masker = {"name": "fully_explored", "masks": 3, "mode": "sequential"}
    train = {"steps": 60, "max_tokens": 512, "micro_batches_per_step": group}
    settings = make(data, tmp_path, masker=masker, train=train)
    _, tickets = batches_of(settings)
    updates = [tickets[first : first + group] for first in range(0, 60 * group, group)]
    for first in range(0, 60, 3):
        same = updates[first : first + 3]
        assert [{t.rng.turn for t in update} for update in same] == [{0}, {1}, {2}]
        assert len({tuple((t.rng.epoch, *t.ids.tolist()) for t in update) for update in same}) == 1
    last = max(t.rng.epoch for t in tickets)
    assert last > 1
    for epoch in range(1, last):
        seen = [(int(i), t.rng.turn) for t in tickets if t.rng.epoch == epoch for i in t.ids]
        assert len(seen) == len(set(seen)) == 3 * len({row for row, _ in seen})
    for stop in (1, 2, 4, 29):  # the position is where the same stream goes on
        _, rest = batches_of(settings, updates[stop - 1][-1].after)
        for one, other in zip(rest, tickets[stop * group :], strict=True):
            assert np.array_equal(one.ids, other.ids) and one.rng.turn == other.rng.turn
            assert one.rng.epoch == other.rng.epoch and one.after == other.after
