"""Learning curves: the score along the intermediate stage, and at what cost a policy reaches the baseline's score."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from taskmask.analysis.compare.results import Asked, Results
from taskmask.stats.bootstrap import OverRuns, Resampled, over_runs


@dataclass(frozen=True)
class Reached:
    """How much of its intermediate stage a policy needs for the baseline's final score.

    Args:
        share: of its own stage, 0 to 1, linear between the points of the curve; 0 where the model without the stage is
            there already, infinite where the curve never is, NaN where it cannot be told.
        low: lower end of a rough interval: 95 % of resamples of seeds and examples, drawn with replacement. With few
            seeds it is too narrow; with one it is over examples alone.
        high: its upper end, infinite where over 2.5 % of the resamples never reach the score.
    """

    share: float
    low: float
    high: float


@dataclass(frozen=True)
class Curve:
    """A task's metric along the intermediate stage of a policy.

    Args:
        task: the task.
        policy: name of the policy.
        shares: of the stage, rising; the first is 0, the model without the stage, where that was measured.
        points: the metric at each.
        reached: what it needs for the baseline's final score.
    """

    task: Asked
    policy: str
    shares: tuple[float, ...]
    points: tuple[OverRuns, ...]
    reached: Reached


def curves(results: Results) -> list[Curve]:
    """Returns the curve of each task and policy that has points."""
    found = []
    for task in results.tasks:
        of_baseline = results.runs_of(task, results.baseline)
        for policy in results.policies:
            points = _points(results, task, policy)
            if points:
                scores = tuple(over_runs(list(runs.values()), task.metric) for runs in points.values())
                reached = _reached(points, of_baseline, task)
                found.append(Curve(task, policy, tuple(points), scores, reached))
    return found


def cost_ratio(results: Results, policy: str, currency: str) -> float:
    """Returns what a policy's whole intermediate stage costs, as a multiple of the baseline's; NaN where unknown.

    Args:
        results: of the experiment.
        policy: name of the policy.
        currency: a field of `Cost`.
    """
    ours, baseline = results.mean_cost(policy), results.mean_cost(results.baseline)
    if ours is None or baseline is None or not getattr(baseline, currency):
        return math.nan
    return getattr(ours, currency) / getattr(baseline, currency)


def _points(results: Results, task: Asked, policy: str) -> dict[float, dict[int, Resampled]]:
    shares = sorted({one.share for one in results.scores if (one.of, one.policy) == (task.name, policy)})
    points = {0.0: results.runs_of(task, "", 0.0), **{share: results.runs_of(task, policy, share) for share in shares}}
    return {share: runs for share, runs in points.items() if runs} if shares else {}


def _reached(points: dict[float, dict[int, Resampled]], baseline: dict[int, Resampled], task: Asked) -> Reached:
    """Compares the seeds that the baseline and every point of the curve have."""
    seeds = sorted(set(baseline).intersection(*points.values()))
    if not seeds:
        return Reached(math.nan, math.nan, math.nan)
    sign = -1 if task.is_lower_better else 1
    columns = [*points.values(), baseline]
    values = sign * np.array([[runs[seed].value[task.metric] for runs in columns] for seed in seeds])[None]
    drawn = sign * np.stack([np.stack([runs[seed].drawn[task.metric] for runs in columns], 1) for seed in seeds], 1)
    random = np.random.Generator(np.random.PCG64(0))
    chosen = random.integers(len(seeds), size=drawn.shape[:2])
    redrawn = np.take_along_axis(drawn, chosen[:, :, None], 1)
    shares = np.array(list(points))
    share = float(crossings(shares, values.mean(1))[0])
    usable = crossings(shares, redrawn.mean(1))
    usable = usable[~np.isnan(usable)]
    if math.isnan(share) or not usable.size:
        return Reached(share, math.nan, math.nan)
    low, high = np.quantile(usable, [0.025, 0.975], method="inverted_cdf").tolist()
    return Reached(share, low, high)


def crossings(shares: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Returns where curves first reach a score, linear between their points.

    Args:
        shares: float [points], rising.
        values: float [curves, points + 1]: the curve, then the score to be reached; more is better.

    Returns:
        float [curves]: infinite where a curve stays below, NaN where the score or a point is not a number.
    """
    points, goal = values[:, :-1], values[:, -1]
    is_there = points >= goal[:, None]
    first = is_there.argmax(1)
    rows, before = np.arange(len(points)), np.maximum(first - 1, 0)
    height = points[rows, first] - points[rows, before]
    part = np.divide(goal - points[rows, before], height, out=np.ones(len(points)), where=height > 0)
    found = shares[before] + np.where(first > 0, part, 0) * (shares[first] - shares[before])
    found = np.where(is_there.any(1), found, math.inf)
    return np.where(np.isnan(values).any(1), math.nan, found)
