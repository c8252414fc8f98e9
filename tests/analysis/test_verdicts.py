"""Verdicts in words, on made-up results with a known effect; learning curves and what the baseline's score costs."""

import dataclasses
import math

import numpy as np
import pytest
from results_help import TONE, TOPIC, made_up

from taskmask.analysis.compare.learning_curves import Reached, cost_ratio, crossings, curves
from taskmask.analysis.compare.results import Asked, Cost, Scores
from taskmask.analysis.compare.verdicts import Row, num_comparisons, of_language_models, of_tasks, warnings
from taskmask.stats.bootstrap import Measure, OverRuns, over_runs
from taskmask.stats.limits import SHARE
from taskmask.stats.paired import Difference, holm, paired_difference

SMALL = {"points": 2, "examples": 200, "tasks": (TOPIC,), "maskers": ("uniform",)}


@pytest.fixture(scope="module")
def results():
    return made_up(**{**SMALL, "tasks": (TOPIC, TONE)})


@pytest.fixture(scope="module")
def rows(results):
    return of_tasks(results)


def constant(value):
    return Measure(10, lambda index: {"accuracy": value, "loss": value})


def row(mean, p, *, is_lower_better=False, lacking=0, seeds=(1, 2, 3)):
    asked = Asked("it", "loss" if is_lower_better else "accuracy", is_lower_better, "test")
    difference = Difference(mean, mean - 1, mean + 1, p, seeds, (mean,) * len(seeds))
    score = OverRuns(0.5, 0.1, 0.4, 0.6, (0.5,) * len(seeds))
    return Row(asked, "ours", seeds, score, difference, p, lacking, len(seeds) + lacking)


def test_known_effects_are_found(rows):
    found = {(one.asked.name, one.policy): one for one in rows}
    assert len(found) == 8
    assert found["topic", "span"].verdict == "better" and found["topic", "worst"].verdict == "worse"
    assert found["topic", ""].verdict == "worse" and found["topic", ""].name == "no intermediate stage"
    assert found["topic", "uniform"].verdict == "baseline" and found["topic", "uniform"].difference is None


def test_the_figures_are_those_of_the_statistics(results, rows):
    ours, baseline = results.runs_of(results.tasks[1], "span"), results.runs_of(results.tasks[1], "uniform")
    one = next(one for one in rows if (one.asked.name, one.policy) == ("tone", "span"))
    assert one.score == over_runs(list(ours.values()), "macro_f1")
    assert one.difference == paired_difference(ours, baseline, "macro_f1")
    assert ours is results.runs_of(results.tasks[1], "span")  # drawn once


def test_holm_over_all_tasks_and_over_language_models_apart(results, rows):
    tested = [one for one in rows if one.difference]
    assert num_comparisons(rows) == len(tested) == 6
    assert [one.p_holm for one in tested] == holm([one.difference.p for one in tested])
    models = of_language_models(results)
    assert num_comparisons(models) == 2
    assert [one.p_holm for one in models if one.difference] == holm([m.difference.p for m in models if m.difference])


def test_less_loss_is_better(results):
    found = {one.policy: one for one in of_language_models(results)}
    assert "" not in found  # such models were not asked
    assert found["span"].difference.mean > 0 and found["span"].verdict == "worse"  # on uniform masks uniform is at home


@pytest.mark.parametrize(
    "made, verdict",
    [
        (row(0.1, 0.04), "better"),
        (row(-0.1, 0.04), "worse"),
        (row(0.1, 0.04, is_lower_better=True), "worse"),
        (row(-0.1, 0.04, is_lower_better=True), "better"),
        (row(0.1, 0.06), "not shown at n = 3"),
        (row(0.0, 1.0), "not shown at n = 3"),
        (row(0.1, 0.05), "not shown at n = 3"),
        (row(0.1, 0.001, lacking=2), "better; failed (2 of 5 seeds)"),
        (row(0.1, math.nan, seeds=(1,)), "not shown at n = 1"),
        (row(math.nan, math.nan), "undefined at n = 3"),
        (row(math.nan, math.nan, seeds=()), "no seed in common with the baseline"),
        (dataclasses.replace(row(0.1, 0.5, lacking=3, seeds=()), score=None), "failed (3 of 3 seeds)"),
        (dataclasses.replace(row(0.1, 0.5), difference=None), "baseline"),
    ],
)
def test_verdicts_in_words(made, verdict):
    assert made.verdict == verdict and "equal" not in made.verdict


def test_failures_are_counted_where_they_are_lacking():
    failed = [("intermediate", "span", 2), ("fine-tuning topic", "span", 4), ("fine-tuning topic", "", 1)]
    failed += [("intermediate", "worst", seed) for seed in (1, 2, 3, 4, 5)]
    found = made_up(**SMALL, failed=failed)
    rows = {one.policy: one for one in of_tasks(found)}
    assert rows["span"].verdict.endswith("; failed (2 of 5 seeds)") and rows["span"].seeds == (1, 3, 5)
    assert rows["worst"].verdict == "failed (5 of 5 seeds)" and math.isnan(rows["worst"].p_holm)
    assert rows[""].n == 4 and rows[""].lacking == 1
    models = {one.policy: one for one in of_language_models(found)}
    assert models["span"].lacking == 1 and "" not in models
    assert warnings(found) == ["8 stages failed; the report goes on with the rest."]
    assert {one.policy for one in curves(found)} == {"uniform", "span"}


def test_a_baseline_that_failed():
    found = made_up(**SMALL, failed=[("intermediate", "uniform", seed) for seed in (1, 2, 3, 4, 5)])
    rows = {one.policy: one for one in of_tasks(found)}
    assert rows["uniform"].verdict == "failed (5 of 5 seeds)"
    assert rows["span"].verdict == "no seed in common with the baseline" and rows["span"].score.mean > 0
    assert math.isnan(cost_ratio(found, "span", "flops"))
    assert all(math.isnan(one.reached.share) for one in curves(found))


@pytest.mark.parametrize("seeds, begin", [((7,), "One seed:"), ((1, 2), "Two seeds:"), ((1, 2, 3), "Three seeds:")])
def test_few_seeds_are_warned_of(seeds, begin):
    found = made_up(**SMALL, seeds=seeds)
    assert warnings(found)[0].startswith(begin)
    if len(seeds) == 1:
        assert {one.verdict for one in of_tasks(found)} == {"baseline", "not shown at n = 1"}


def test_a_task_and_a_masker_of_one_name_are_told_apart():
    task, masker = Asked("span", "accuracy", False, "test"), Asked("span", "loss", True, "valid")
    found = dataclasses.replace(
        made_up(**SMALL),
        tasks=[task],
        maskers=[masker],
        scores=[Scores("span", "uniform", 1.0, {1: constant(0.5)})],
        language_models=[Scores("span", "uniform", 1.0, {1: constant(2.0)})],
    )
    assert [one.score.mean for one in of_tasks(found)] == [0.5]
    assert [one.score.mean for one in of_language_models(found)] == [2.0]


def test_where_curves_cross():
    shares = np.array([0, 0.5, 1])
    values = np.array([
        [0.5, 0.7, 0.9, 0.8],  # between the last two points
        [0.5, 0.7, 0.9, 0.7],  # at a point
        [0.5, 0.7, 0.9, 0.4],  # there from the beginning
        [0.5, 0.7, 0.9, 0.95],  # never
        [0.5, 0.9, 0.6, 0.7],  # the first time counts
        [0.5, 0.5, 0.5, 0.5],  # flat
        [0.5, math.nan, 0.9, 0.7],
        [0.5, 0.7, 0.9, math.nan],
    ])  # fmt: skip
    found = crossings(shares, values)
    assert found[:6] == pytest.approx([0.75, 0.5, 0, math.inf, 0.25, 0]) and np.isnan(found[6:]).all()


def test_the_share_of_the_cost_at_which_the_baseline_is_reached(results):
    found = {(one.task.name, one.policy): one for one in curves(results)}
    span, worst, base = (found["topic", name] for name in ("span", "worst", "uniform"))
    assert span.shares == base.shares == (0, 0.5, 1) and len(span.points) == 3
    assert base.points[-1] == over_runs(list(results.runs_of(TOPIC, "uniform").values()), "accuracy")
    assert 0.2 < span.reached.low <= span.reached.share <= span.reached.high < 1
    assert worst.reached.share == math.inf == worst.reached.high and 0 < base.reached.share <= 1
    assert cost_ratio(results, "span", "updates") == 1 and cost_ratio(results, "span", "flops") == pytest.approx(1.3)


def test_reached_by_less_loss_and_by_the_model_without_a_stage():
    task = Asked("number", "loss", True, "test")
    levels = {("", 0.0): 1.0, ("base", 0.5): 0.9, ("base", 1.0): 0.8, ("ours", 0.5): 0.6, ("ours", 1.0): 0.5}
    scores = [Scores("number", *key, dict.fromkeys((1, 2), constant(level))) for key, level in levels.items()]
    found = dataclasses.replace(
        made_up(**SMALL), tasks=[task], scores=scores, baseline="base", policies=["base", "ours"], costs={}
    )
    assert [one.reached for one in curves(found)] == [Reached(1, 1, 1), Reached(*[pytest.approx(0.25)] * 3)]
    scores[0] = Scores("number", "", 0.0, dict.fromkeys((1, 2), constant(0.1)))
    at_once = dataclasses.replace(found, scores=scores)
    assert [one.reached.share for one in curves(at_once)] == [0, 0]


def test_costs_are_means_of_seeds(results):
    made = dataclasses.replace(results, costs={"uniform": {1: Cost(2, 4, 6, 8.0, 10.0), 2: Cost(4, 4, 6, 8.0, 30.0)}})
    assert made.mean_cost("uniform") == Cost(3, 4, 6, 8.0, 20.0) and made.mean_cost("span") is None


def test_policies_that_are_right_on_all_examples_are_not_told_apart():
    right = Measure(200, lambda index: {"accuracy": 1.0}, {"accuracy": SHARE})
    task = Asked("it", "accuracy", False, "test")
    scores = [Scores("it", name, 1.0, dict.fromkeys((1, 2, 3), right)) for name in ("uniform", "span")]
    found = dataclasses.replace(made_up(**SMALL, seeds=(1, 2, 3)), tasks=[task], scores=scores)
    baseline, span = (row for row in of_tasks(found) if row.score)
    assert baseline.score.low == pytest.approx(0.025 ** (1 / 200)) and baseline.score.high == 1
    assert span.verdict == "not shown at n = 3" and span.difference.low < -0.005 and span.difference.high > 0.005


def test_one_seed_that_is_left_is_told():
    found = made_up(**SMALL, failed=[("intermediate", "span", seed) for seed in (1, 2, 3, 4)])
    (line,) = warnings(found)[1:]
    assert line == "topic, span: one seed is left, so that its interval is over examples alone."
    (row,) = [row for row in of_tasks(found) if row.policy == "span"]
    assert row.n == 1 and math.isnan(row.p_holm) and row.verdict.startswith("not shown at n = 1; failed")
