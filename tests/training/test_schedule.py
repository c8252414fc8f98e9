"""Learning rates against the formulas of their papers."""

import itertools
import math

import pytest

from taskmask.settings import OptimSettings
from taskmask.training.schedule import learning_rate, warmup_steps

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
def test_the_end_is_reached_at_the_last_step(schedule, end):
    assert rates(schedule=schedule, lr_end=end)[-1] == pytest.approx(end, abs=1e-12)


def test_half_way():
    half = WARMUP + (STEPS - WARMUP) // 2 - 1
    assert rates(schedule="linear")[half] == pytest.approx(PEAK / 2)
    assert rates(schedule="cosine")[half] == pytest.approx(PEAK * (1 + math.cos(math.pi / 2)) / 2)
    assert rates(schedule="polynomial", power=2.0)[half] == pytest.approx(PEAK / 4)
    assert rates(schedule="inverse_sqrt")[39] == pytest.approx(PEAK * math.sqrt(WARMUP / 40))
    assert rates(schedule="constant")[half] == PEAK


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_without_warm_up_and_in_a_run_of_one_step(schedule):
    settings = OptimSettings(lr=PEAK, warmup_steps=0, schedule=schedule)
    assert all(math.isfinite(learning_rate(settings, step, 5)) for step in range(1, 6))
    assert math.isfinite(learning_rate(settings, 1, 1))


def test_default_warm_up_is_a_share_of_the_run():
    assert warmup_steps(OptimSettings(), 1000) == 60
    assert warmup_steps(OptimSettings(), 10) == 0
    assert warmup_steps(OptimSettings(warmup_steps=7), 1000) == 7
