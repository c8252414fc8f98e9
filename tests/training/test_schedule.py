"""Learning rates against the formulas of their papers."""

import itertools
import math

import pytest
import torch

from taskmask.config.settings import OptimSettings
from taskmask.training.optim import learning_rate, warmup_steps

SCHEDULES = ("linear", "cosine", "inverse_sqrt", "polynomial", "constant")
STEPS, WARMUP, PEAK = 100, 10, 2.0


def rates(**options):
    settings = OptimSettings(**{"lr": PEAK, "warmup_steps": WARMUP, **options})
    return [learning_rate(settings, step, STEPS) for step in range(1, STEPS + 1)]


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_warm_up_is_linear_and_ends_at_the_peak(schedule):
    course = rates(schedule=schedule)
    assert course[:WARMUP] == [PEAK * step / WARMUP for step in range(1, WARMUP + 1)]
    assert max(course) == PEAK
    after = course[WARMUP - 1 :]
    assert all(a >= b > -1e-12 for a, b in itertools.pairwise(after))


@pytest.mark.parametrize("schedule", ["linear", "cosine", "polynomial"])
@pytest.mark.parametrize("end", [0.0, 0.5])
def test_the_end_would_be_reached_one_step_after_the_last(schedule, end):
    settings = OptimSettings(lr=PEAK, warmup_steps=WARMUP, schedule=schedule, lr_end=end)
    assert learning_rate(settings, STEPS + 1, STEPS) == pytest.approx(end, abs=1e-12)
    first, *_, last = rates(schedule=schedule, lr_end=end)[WARMUP:]
    assert first == PEAK and last > end


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize(("warmup", "steps"), [(0, 1), (0, 2), (1, 2), (3, 10), (None, 1), (None, 100)])
def test_every_update_changes_the_weights(schedule, warmup, steps):
    """The first and the last included, so that `--train.steps 1` trains."""
    settings = OptimSettings(lr=PEAK, schedule=schedule, warmup_steps=warmup)
    assert min(learning_rate(settings, step, steps) for step in range(1, steps + 1)) > PEAK / steps**2 / 10
    assert learning_rate(settings, 1, steps) == PEAK / (warmup_steps(settings, steps) or 1)


@pytest.mark.parametrize("schedule", ["linear", "cosine", "polynomial"])
def test_the_decay_is_that_of_transformers(schedule):
    """transformers 5.23 `get_scheduler` (polynomial: with `lr_end` 0), in which the first update has number 0."""
    transformers = pytest.importorskip("transformers")
    module = torch.nn.Linear(1, 1)
    optimizer = torch.optim.SGD(module.parameters(), lr=PEAK)
    more = {"scheduler_specific_kwargs": {"lr_end": 0.0, "power": 2.0}} if schedule == "polynomial" else {}
    theirs = transformers.get_scheduler(schedule, optimizer, WARMUP, STEPS, **more)
    found = []
    for _ in range(STEPS):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        theirs.step()
    assert rates(schedule=schedule)[WARMUP:] == pytest.approx(found[WARMUP:], rel=1e-9)


def test_half_way():
    half = WARMUP + (STEPS - WARMUP) // 2
    assert rates(schedule="linear")[half] == pytest.approx(PEAK / 2)
    assert rates(schedule="cosine")[half] == pytest.approx(PEAK * (1 + math.cos(math.pi / 2)) / 2)
    assert rates(schedule="polynomial", power=2.0)[half] == pytest.approx(PEAK / 4)
    assert rates(schedule="inverse_sqrt")[39] == pytest.approx(PEAK * math.sqrt(WARMUP / 40))
    assert rates(schedule="constant")[half] == PEAK


def test_default_warm_up_is_a_share_of_the_run():
    assert warmup_steps(OptimSettings(), 1000) == 60
    assert warmup_steps(OptimSettings(), 10) == 0
    assert warmup_steps(OptimSettings(warmup_steps=7), 1000) == 7
