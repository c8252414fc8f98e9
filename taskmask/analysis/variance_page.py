"""The variance of gradients as tables for the terminal, figures for JSON, a page of HTML, and for TensorBoard."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from taskmask.analysis import page, svg
from taskmask.analysis.page import Html, fold, section, tag
from taskmask.analysis.report_tables import Table
from taskmask.analysis.terminal import aligned
from taskmask.analysis.variance import Interval, PolicyVariance, Variance

TITLE = "How much masks make the gradient vary"
HOW_TO_READ = (
    "Variances are sums over all weights, means over rows; a row's gradient is that of its mean loss. masks: "
    "variance of an update that the draw of masks causes. a pass: the same at the cost of one forward pass, as a "
    "multiple of the first policy's. independent: as a multiple of that of as many masks drawn independently; "
    "below 1, masks that do not overlap help. of one row: share of the masks in the variance of an update of one "
    "row; the rest is due to which row it is. bias: squared distance of the mean gradient from the first "
    "policy's, as a multiple of its variance. In brackets: 95 % of 1000 resamples of the rows."
)
HOW_TO_READ_DISTANCE = (
    "Two uniform masks of one row, by how far they are apart (Hamming distance, as a share of the largest): the "
    "correlation of their gradients. Where a gradient is a sum over the masked tokens, it falls on the line of "
    "the theory; masks that do not overlap help as far as it is below 0 at 100 %."
)
HEADER = ("policy", "passes", "targets", "masks", "a pass", "independent", "of one row", "bias")


def lines_of(seen: Variance) -> list[str]:
    """Returns lines for the terminal."""
    of_groups = [group_table(seen, name) for name in ("a pass", "independent")]
    lines = [seen.about, "", *aligned([HEADER, *_table(seen).rows], range(1, len(HEADER)))]
    for title, table in zip(("by group, a pass:", "by group, independent:"), of_groups, strict=True):
        lines += ["", title, *aligned([table.header, *table.rows], table.numeric)]
    rows = [("distance", "correlation", "theory")]
    for x, (value, low, high), line in zip(seen.distances, seen.correlations.T, seen.theory, strict=True):
        rows.append((f"{x:.0%}", ratio((value, low, high)), f"{line:.2f}"))
    return [
        *lines,
        "",
        "gradients of two uniform masks, by their distance:",
        *aligned(rows, (0, 1, 2)),
        "",
        HOW_TO_READ,
    ]


def ratio(value: Interval) -> str:
    """Returns a value with its interval in brackets; "-" where there is none."""
    if not math.isfinite(value[0]):
        return "-"
    ends = f" ({value[1]:.2f} to {value[2]:.2f})" if math.isfinite(value[1]) and value[1] != value[2] else ""
    return f"{value[0]:.2f}{ends}"


def _table(seen: Variance) -> Table:
    rows = [
        (one.policy, str(one.views), f"{one.targets:.1f}", f"{one.update:.3g}", ratio(one.pass_ratio),
         ratio(one.independent_ratio), f"{one.share:.0%}", ratio(one.bias))
        for one in seen.policies
    ]  # fmt: skip
    return Table(HEADER, rows, tuple(range(1, len(HEADER))))


def group_table(seen: Variance, what: str) -> Table:
    """Returns one of the two ratios of each policy and group of weights.

    Args:
        seen: what was measured.
        what: "a pass" or "independent".
    """
    number = 1 if what == "a pass" else 2
    names = list(seen.policies[0].by_group)
    rows = [
        (one.policy, *(ratio((one.by_group[name][number], math.nan, math.nan)) for name in names))
        for one in seen.policies
        if what == "a pass" or one.views > 1
    ]
    return Table(("policy", *names), rows, tuple(range(1, len(names) + 1)))


def figures_of(seen: Variance) -> dict[str, Any]:
    """Returns the figures as JSON types."""

    def one(policy: PolicyVariance) -> dict[str, Any]:
        return {
            "policy": policy.policy,
            "passes": policy.views,
            "targets": policy.targets,
            "variance_of_masks": policy.update,
            "variance_of_rows": _number(policy.rows),
            "a_pass": [_number(v) for v in policy.pass_ratio],
            "independent": [_number(v) for v in policy.independent_ratio],
            "bias": [_number(v) for v in policy.bias],
            "by_group": {name: [_number(v) for v in values] for name, values in policy.by_group.items()},
        }

    distances = zip(seen.distances, seen.correlations.T.tolist(), seen.theory, strict=True)
    return {
        "about": seen.about,
        "step": seen.step,
        "policies": [one(policy) for policy in seen.policies],
        "distances": [
            {"distance": float(x), "correlation": [_number(v) for v in values], "theory": float(line)}
            for x, values, line in distances
        ],
    }


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None


def page_of(all_seen: Sequence[Variance]) -> str:
    """Returns a page of HTML that stands alone, with a part for each checkpoint."""
    parts: list[Html] = []
    if len(all_seen) > 1:
        parts.append(section("Over training", _over_training(all_seen), note="Ratios with their intervals, by step."))
    for seen in all_seen:
        table = _table(seen)
        forests = [_forest(seen, "pass_ratio", "a pass"), _forest(seen, "independent_ratio", "independent")]
        groups = [group_table(seen, name) for name in ("a pass", "independent")]
        folded = [page.table(one.header, one.rows, numeric=one.numeric) for one in groups if one.rows]
        detail = fold("By group of weights: a pass, then independent", folded)
        content = [
            page.table(table.header, table.rows, numeric=table.numeric),
            tag("div", forests, class_="grid"),
            detail,
        ]
        parts.append(section(f"Step {seen.step:,}", tag("p", seen.about, class_="soft"), content, note=HOW_TO_READ))
        parts.append(section("Two masks of one row", _distances(seen), note=HOW_TO_READ_DISTANCE))
    return page.page(TITLE, *parts)


def _forest(seen: Variance, field: str, label: str) -> Html:
    shown = [one for one in seen.policies if field == "pass_ratio" or one.views > 1]
    rows = [(one.policy, *getattr(one, field)) for one in shown]
    return svg.forest(rows, zero=1.0, label=label) if rows else Html("")


def _distances(seen: Variance) -> Html:
    x, (value, low, high) = seen.distances.tolist(), seen.correlations.tolist()
    series = [svg.Series("measured", x, value, low, high), svg.Series("theory", x, seen.theory.tolist())]
    return svg.lines(series, x_label="Hamming distance", y_label="correlation of the gradients", x_percent=True)


def _over_training(all_seen: Sequence[Variance]) -> Html:
    charts = []
    for field, label in (("pass_ratio", "a pass"), ("independent_ratio", "independent")):
        series = []
        for number, policy in enumerate(all_seen[0].policies):  # all in both charts: a policy keeps its colour
            points = [getattr(seen.policies[number], field) for seen in all_seen]
            steps = [float(seen.step) for seen in all_seen]
            series.append(svg.Series(policy.policy, steps, *(list(part) for part in zip(*points, strict=True))))
        charts.append(svg.lines(series, x_label="step", y_label=label, marks=[(1.0, "")]))
    return tag("div", charts, class_="grid")


def write_board(folder: str, all_seen: Sequence[Variance]) -> None:
    """Writes a file for TensorBoard: at the step of each checkpoint the ratios, and the histogram of a pass over rows.

    Args:
        folder: where it goes; made if need be.
        all_seen: what was measured, a checkpoint each.
    """
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(folder) as board:
        for seen in sorted(all_seen, key=lambda one: one.step):
            for one in seen.policies:
                name = one.policy.replace("/", "|")
                board.add_scalar(f"variance of a pass/{name}", one.pass_ratio[0], seen.step)
                if one.views > 1:
                    board.add_scalar(f"variance of independent masks/{name}", one.independent_ratio[0], seen.step)
                if np.isfinite(one.by_row).all():
                    board.add_histogram(f"variance of a pass, rows/{name}", one.by_row, seen.step)
