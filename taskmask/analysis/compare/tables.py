"""The tables of a comparison as texts, for all of its reports alike."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from taskmask.analysis.compare.learning_curves import Curve, cost_ratio
from taskmask.analysis.compare.results import Asked, Cost, Results, mean_cost
from taskmask.analysis.compare.verdicts import FINDING, Row, num_comparisons, shown
from taskmask.stats.bootstrap import OverRuns
from taskmask.training.monitor.run_log import duration

NOTHING = "-"
VERDICT_COLUMNS = (
    *("policy", "verdict", "difference", "its 95 % interval", "p (Holm)"),
    *("mean", "95 % interval", "deviation", "n"),
)
CURRENCIES = {"steps": ("updates", "updates"), "targets": ("targets", "masked tokens"), "flops": ("flops", "FLOPs")}


@dataclass(frozen=True)
class Table:
    """A table of texts.

    Args:
        header: names of the columns.
        rows: their cells.
        numeric: numbers of the columns that hold figures.
    """

    header: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    numeric: tuple[int, ...] = ()


def as_json(value: Any) -> str:
    """Returns JSON for people."""
    return json.dumps(value, indent=2, ensure_ascii=False, default=str)


def number(value: float, sign: str = "") -> str:
    """Returns a score with four digits; `sign` is "+" for a difference."""
    return f"{value:{sign}.4f}" if math.isfinite(value) else NOTHING


def interval(low: float, high: float, sign: str = "") -> str:
    """Returns "low to high"."""
    return f"{number(low, sign)} to {number(high, sign)}" if math.isfinite(low) and math.isfinite(high) else NOTHING


def p_value(p: float) -> str:
    """Returns a p for people: three digits, or that it is less than they can say."""
    return NOTHING if math.isnan(p) else "< 0.001" if p < 0.001 else f"{p:.3f}"


def percent(share: float) -> str:
    """Returns a share in percent; "never" of an infinite one."""
    return "never" if share == math.inf else f"{100 * share:.0f} %" if math.isfinite(share) else NOTHING


def large(value: float) -> str:
    """Returns a large number with three digits that count: 12,345 as "12,345", 1234567 as "1.23e+06"."""
    return f"{value:,.0f}" if value < 1e6 else f"{value:.2e}"


def direction(asked: Asked) -> str:
    """Returns what is measured, where, and which way is better: "accuracy on test, more is better"."""
    return f"{asked.metric} on {asked.split}, {'less' if asked.is_lower_better else 'more'} is better"


def verdicts(rows: Sequence[Row]) -> Table:
    """The rows of one task or masker."""
    cells = []
    for row in rows:
        score, difference = row.score, row.difference
        cells.append((
            row.name,
            row.verdict,
            number(difference.mean, "+") if difference else NOTHING,
            interval(difference.low, difference.high, "+") if difference else NOTHING,
            p_value(row.p_holm),
            number(score.mean) if score else NOTHING,
            interval(score.low, score.high) if score else NOTHING,
            number(score.deviation) if score else NOTHING,
            str(len(row.seeds)),
        ))  # fmt: skip
    return Table(VERDICT_COLUMNS, cells, tuple(range(2, len(VERDICT_COLUMNS))))


def with_deviation(score: OverRuns | None) -> str:
    """Returns a mean with its deviation in brackets, where there is one."""
    if score is None:
        return NOTHING
    return number(score.mean) + (f" ({number(score.deviation)})" if math.isfinite(score.deviation) else "")


def matrix(rows: Sequence[Row]) -> Table:
    """The means of all policies under all maskers, deviations in brackets."""
    maskers = list({row.asked.name: row.asked for row in rows}.values())
    found = {(row.policy, row.asked.name): row for row in rows}
    cells = []
    for policy in dict.fromkeys(row.policy for row in rows):
        scores = [found[policy, m.name].score if (policy, m.name) in found else None for m in maskers]
        cells.append((shown(policy), *(with_deviation(score) for score in scores)))
    header = ("policy", *(f"{masker.name} masks" for masker in maskers))
    return Table(header, cells, tuple(range(1, len(header))))


def reached(results: Results, found: Sequence[Curve]) -> Table:
    """What each policy needs for the baseline's final score."""
    field, words = CURRENCIES[results.budget]
    others = [("flops", "FLOPs")] if field != "flops" else []
    currencies = [(field, words), *others]
    header = ("task", "policy", "points", *(f"share of the baseline's {name}" for _, name in currencies))
    cells = []
    for curve in found:
        costs = []
        for name, _ in currencies:
            ratio, at = cost_ratio(results, curve.policy, name), curve.reached
            ends = [percent(share * ratio) for share in (at.share, at.low, at.high)]
            costs.append(ends[0] if len({*ends}) == 1 else f"{ends[0]} ({ends[1]} to {ends[2]})")
        cells.append((curve.task.name, shown(curve.policy), str(len(curve.points)), *costs))
    return Table(header, cells, tuple(range(2, len(header))))


def costs(results: Results) -> Table:
    """What the stages took, means over seeds."""
    header = ("stage", "runs", "updates", "tokens seen", "tokens masked", "FLOPs", "of the baseline's", "wall time")
    cells = []

    def line(name: str, cost: Cost | None, n: int, ratio: float = math.nan, is_masked: bool = True) -> None:
        if cost is None:
            cells.append((name, str(n), *[NOTHING] * 6))
            return
        counts = large(cost.updates), large(cost.tokens), large(cost.targets) if is_masked else NOTHING
        cells.append((name, str(n), *counts, f"{cost.flops:.2e}", percent(ratio), duration(cost.seconds)))

    if results.pretraining:
        line("pre-training, once for all", results.pretraining, 1)
    for policy in results.policies:
        runs = results.costs.get(policy, {})
        line(f"intermediate, {policy}", results.mean_cost(policy), len(runs), cost_ratio(results, policy, "flops"))
    for task, of_task in results.finetuning.items():
        line(f"fine-tuning, {task}", mean_cost(of_task.values()), len(of_task), is_masked=False)
    return Table(header, cells, tuple(range(1, 8)))


def failures(results: Results) -> Table:
    """The stages that failed, and their last words."""
    rows = [(one.stage, shown(one.policy), str(one.seed), one.message, one.folder) for one in results.failures]
    return Table(("stage", "policy", "seed", "what it said last", "folder"), rows)


def facts(results: Results) -> str:
    """Returns what was compared, in a line."""
    seeds = ", ".join(map(str, results.seeds))
    n, (_, budget) = len(results.seeds), CURRENCIES[results.budget]
    return (
        f"{len(results.policies)} policies · baseline {results.baseline} · same budget of {budget} · "
        f"{n} seed{'s' * (n > 1)} ({seeds})"
    )


def spread(results: Results) -> str:
    """Returns what the intervals are over."""
    return "over seeds and examples" if len(results.seeds) > 1 else "over examples alone"


def how_to_read(results: Results, rows: Sequence[Row]) -> str:
    """Returns how the figures of a family of comparisons are to be read."""
    count = num_comparisons(rows)
    tests = "no test was made" if not count else "p is of this one test"
    if count > 1:
        tests = f"p is corrected for all {count} comparisons (Holm), the intervals are not"
    return (
        f"n: seeds. 95 % interval: {spread(results)}, within the limits of the metric (Clopper-Pearson for the "
        "effective number of examples, Korn and Graubard 1998; of losses, on a logarithmic scale); made so, it holds "
        "the true mean in 95 of 100 experiments. difference: from the baseline, paired by seed and by example "
        f"(Student's t); {tests}. better or worse: p below {FINDING}. "
        "A difference that is not shown is no proof of equality: more seeds or more examples may show it."
    )


def how_to_read_curves(results: Results) -> str:
    """Returns how learning curves are to be read."""
    return (
        "Fine-tuned after each part of the intermediate stage; 0 % is the model without it. Line: mean over seeds. "
        f"Band: 95 % interval {spread(results)}."
    )


HOW_TO_READ_REACHED = (
    "At which share of the cost of the baseline's intermediate stage a policy's curve, linear between its points, "
    "first reaches the baseline's final mean score. 0 %: the model is there without a stage. In brackets: 95 % of 1000 "
    "resamples of seeds and examples, a rough range, too narrow with few seeds. The fewer the points, the rougher."
)
HOW_TO_READ_MODELS = (
    "The language models at the end of the intermediate stage, all on the same rows and the same frozen masks, since a "
    "model finds easiest the masks it was trained with: compare within a column."
)
HOW_TO_READ_COSTS = "Means over runs. FLOPs are estimated from the shape of the model. Wall time holds validations too."
