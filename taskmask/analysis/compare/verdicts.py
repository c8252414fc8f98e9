"""What an experiment shows: each policy beside the baseline, with intervals, corrected tests and a verdict in words.

A difference that is not shown is no proof of equality, so no verdict says "equal".
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from taskmask.analysis.compare.results import Asked, Results
from taskmask.stats.bootstrap import OverRuns, over_runs
from taskmask.stats.paired import Difference, holm, paired_difference

FINDING = 0.05  # the corrected p below which a difference is shown
WITHOUT = "no intermediate stage"
FEW_SEEDS = "{} seeds: intervals and tests rest on Student's t with {} degrees of freedom. Take five or more."


@dataclass(frozen=True)
class Row:
    """A policy on a task, or as a language model under the masks of a masker.

    Args:
        asked: the task, or the masker.
        policy: name of the policy; "" for models without an intermediate stage.
        seeds: those that were measured, rising.
        score: the metric over seeds and examples; None where nothing was measured.
        difference: the metric less the baseline's; None for the baseline itself.
        p_holm: its p, corrected for all comparisons of the family; NaN without a test.
        lacking: seeds that failed.
        of_seeds: seeds of the experiment.
    """

    asked: Asked
    policy: str
    seeds: tuple[int, ...]
    score: OverRuns | None
    difference: Difference | None
    p_holm: float
    lacking: int
    of_seeds: int

    @property
    def name(self) -> str:
        """The policy's name for people."""
        return shown(self.policy)

    @property
    def n(self) -> int:
        """How many seeds the verdict rests on: pairs, for the baseline its seeds."""
        return len(self.seeds if self.difference is None else self.difference.seeds)

    @property
    def kind(self) -> str:
        """What was found: "better", "worse", "not shown", "undefined", "baseline", "not compared" or "failed"."""
        if self.score is None:
            return "failed"
        if self.difference is None:
            return "baseline"
        if not self.n:
            return "not compared"
        if math.isnan(self.difference.mean):
            return "undefined"
        if not self.p_holm < FINDING:
            return "not shown"
        return "better" if (self.difference.mean < 0) == self.asked.is_lower_better else "worse"

    @property
    def verdict(self) -> str:
        """The same in words, with the number of seeds and what failed."""
        words = {
            "not shown": f"not shown at n = {self.n}",
            "undefined": f"undefined at n = {self.n}",
            "not compared": "no seed in common with the baseline",
        }
        failed = f"failed ({self.lacking} of {self.of_seeds} seeds)"
        if self.kind == "failed":
            return failed
        return words.get(self.kind, self.kind) + (f"; {failed}" if self.lacking else "")


def shown(policy: str) -> str:
    """Returns the name of a policy for people."""
    return policy or WITHOUT


def of_tasks(results: Results) -> list[Row]:
    """Returns a row for each task and policy, those without an intermediate stage first; Holm over all comparisons."""
    return _corrected([row for task in results.tasks for row in _rows(results, task)])


def of_language_models(results: Results) -> list[Row]:
    """Returns a row for each masker and policy; Holm over all of these comparisons, a family of their own."""
    return _corrected([row for masker in results.maskers for row in _rows(results, masker)])


def _rows(results: Results, asked: Asked) -> list[Row]:
    """The rows of a task or masker, all but those of models that were not asked."""
    shares = {"": 0.0, **dict.fromkeys(results.policies, 1.0)}
    runs = {policy: results.runs_of(asked, policy, share) for policy, share in shares.items()}
    baseline = runs[results.baseline]
    rows = []
    for policy, found in runs.items():
        lacking = _lacking(results, asked, policy, tuple(found))
        if not found and not lacking:
            continue
        score = over_runs(list(found.values()), asked.metric) if found else None
        difference = None if policy == results.baseline else paired_difference(found, baseline, asked.metric)
        rows.append(Row(asked, policy, tuple(found), score, difference, math.nan, lacking, len(results.seeds)))
    return rows


def _lacking(results: Results, asked: Asked, policy: str, found: tuple[int, ...]) -> int:
    """Returns how many seeds are lacking because a stage before the measurement failed."""
    stages = ("intermediate", f"fine-tuning {asked.name}")
    return len({one.seed for one in results.failures if one.policy == policy and one.stage in stages} - {*found})


def _corrected(rows: Sequence[Row]) -> list[Row]:
    adjusted = holm([row.difference.p if row.difference else math.nan for row in rows])
    return [replace(row, p_holm=p) for row, p in zip(rows, adjusted, strict=True)]


def num_comparisons(rows: Sequence[Row]) -> int:
    """Returns how many comparisons were tested, and corrected for."""
    return sum(not math.isnan(row.p_holm) for row in rows)


def warnings(results: Results) -> list[str]:
    """Returns what a reader should know before the figures."""
    n = len(results.seeds)
    found = {
        1: ["One seed: nothing can be said about the luck of training. Intervals are over examples alone, and no "
            "difference is tested. Take five seeds or more."],
        2: ["Two seeds: intervals are very wide, and only large differences can be shown. Take five seeds or more."],
        3: [FEW_SEEDS.format("Three", 2)],
        4: [FEW_SEEDS.format("Four", 3)],
    }.get(n, [])  # fmt: skip
    count = len(results.failures)
    if count:
        found.append(f"{count} {'stages' if count > 1 else 'stage'} failed; the report goes on with the rest.")
        shares = {"": 0.0, **dict.fromkeys(results.policies, 1.0)}
        found += [
            f"{asked.name}, {shown(policy)}: one seed is left, so that its interval is over examples alone."
            for asked in results.tasks
            for policy, share in shares.items()
            if n > 1 and len(results.runs_of(asked, policy, share)) == 1
        ]
    return found
