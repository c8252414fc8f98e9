"""The variance of gradients as tables for the terminal, figures for JSON, a page of HTML, and for TensorBoard."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from taskmask.analysis.compare.tables import Table
from taskmask.analysis.reporting import html, svg
from taskmask.analysis.reporting.html import Html, fold, section, tag
from taskmask.analysis.variance.records import Figures, Interval, Measured
from taskmask.errors import ConfigError, StorageError
from taskmask.system.files import resolve_output
from taskmask.system.folders import resolve_folder
from taskmask.system.json_output import json_types
from taskmask.system.text_tables import aligned
from taskmask.training.monitor.tensorboard import open_writer

TITLE = "How much masks make the gradient vary"
HOW_TO_READ = (
    "The gradient is the trainer's: of the run's own loss, divided by the targets of the whole batch, without "
    "dropout. A batch of n rows has an n-th of each variance. Variances are sums over all trained weights. masks: "
    "the variance that the draw of masks causes. rows: the variance that the choice of rows causes. masks, a pass: "
    "that of masks at the cost of one forward pass, as a multiple of the first policy's. independent: as a multiple "
    "of that of as many masks drawn independently; below 1, masks that do not overlap help. of masks: the share of "
    "masks in the whole variance. whole, a pass: the variance of the whole gradient, of masks and rows together, at "
    "the cost of one forward pass, as a multiple of the first policy's: several masks of one row take the passes of "
    "other rows. bias: squared distance of the mean gradient of a row from the first policy's, as a multiple of its "
    "variance. In brackets: 95 % interval, of 1000 resamples of the rows, widened where rows are few."
)
HOW_TO_READ_DISTANCE = (
    "Two uniform masks of one row, by how far they are apart (Hamming distance, as a share of the largest): the "
    "correlation of their gradients. Where a gradient is a sum over the masked tokens, it falls on the line of "
    "the theory; masks that do not overlap help as far as it is below 0 at 100 %. What replaces masked tokens is drawn "
    "for each mask, which brings all but the first point nearer to 0."
)
RATIOS = (("mask_pass", "masks, a pass"), ("independent", "independent"), ("whole_pass", "whole, a pass"))
OF_MASKS = ("masks", "masks, a pass", "independent", "bias")
OF_ROWS = ("rows", "of masks", "whole, a pass")


def lines_of(seen: Measured) -> list[str]:
    """Returns lines for the terminal."""
    lines = [seen.about]
    for by_group in (False, True):
        for table in tables_of(seen, by_group):
            lines += ["", *aligned([table.header, *table.rows], table.numeric)]
    rows = [("distance", "correlation", "theory")]
    for x, values, line in zip(seen.distances, seen.correlations.T, seen.theory, strict=True):
        rows.append((f"{x:.0%}", said(values), f"{line:.2f}"))
    return [
        *lines,
        "",
        "gradients of two uniform masks, by their distance:",
        *aligned(rows, (0, 1, 2)),
        "",
        HOW_TO_READ,
    ]


def said(value: Interval, form: str = ".2f") -> str:
    """Returns a value with its interval in brackets; "-" where there is none."""
    if not math.isfinite(value[0]):
        return "-"
    ends = f" ({value[1]:{form}} to {value[2]:{form}})" if math.isfinite(value[1]) and value[1] != value[2] else ""
    return f"{value[0]:{form}}{ends}"


def tables_of(seen: Measured, by_group: bool) -> list[Table]:
    """Returns two tables, what masks do alone and together with rows: a line a policy, or a policy and group."""
    tables = []
    for names, parts in ((OF_MASKS, _of_masks), (OF_ROWS, _of_rows)):
        if by_group:
            rows = [(p.policy, name, *parts(one)) for p in seen.policies for name, one in p.by_group.items()]
            tables.append(Table(("policy", "group", *names), rows, tuple(range(2, len(names) + 2))))
        else:
            rows = [(p.policy, str(p.views), f"{p.targets:.1f}", *parts(p.figures)) for p in seen.policies]
            tables.append(Table(("policy", "passes", "targets", *names), rows, tuple(range(1, len(names) + 3))))
    return tables


def _of_masks(one: Figures) -> tuple[str, ...]:
    return said(one.masks, ".3g"), said(one.mask_pass), said(one.independent), said(one.bias)


def _of_rows(one: Figures) -> tuple[str, ...]:
    return said(one.rows, ".3g"), said(one.share, ".0%"), said(one.whole_pass)


def figures_of(seen: Measured) -> dict[str, Any]:
    """Returns the figures as JSON types: [value, lower end, upper end] each; null where there is none."""
    distances = zip(seen.distances, seen.correlations.T, seen.theory, strict=True)
    figures = {
        "about": seen.about,
        "step": seen.step,
        "policies": [
            {
                "policy": one.policy,
                "passes": one.views,
                "targets": one.targets,
                **dataclasses.asdict(one.figures),
                "by_group": {name: dataclasses.asdict(figures) for name, figures in one.by_group.items()},
            }
            for one in seen.policies
        ],
        "distances": [{"distance": x, "correlation": values, "theory": line} for x, values, line in distances],
    }
    return json_types(figures)  # type: ignore[no-any-return]


def page_of(all_seen: Sequence[Measured]) -> str:
    """Returns a page of HTML that stands alone, with a part for each checkpoint."""
    parts: list[Html] = []
    if len(all_seen) > 1:
        parts.append(section("Over training", _over_training(all_seen), note="Ratios with their intervals, by step."))
    for seen in all_seen:
        whole, by_group = (
            [html.table(one.header, one.rows, numeric=one.numeric) for one in tables_of(seen, by_group)]
            for by_group in (False, True)
        )
        forests = tag("div", [_forest(seen, field, label) for field, label in RATIOS], class_="grid")
        content = [whole, forests, fold("By group of weights", by_group)]
        parts.append(section(f"Step {seen.step:,}", tag("p", seen.about, class_="soft"), content, note=HOW_TO_READ))
        parts.append(section("Two masks of one row", _distances(seen), note=HOW_TO_READ_DISTANCE))
    return html.page(TITLE, *parts)


def _forest(seen: Measured, field: str, label: str) -> Html:
    shown = [one for one in seen.policies if field != "independent" or one.views > 1]
    rows = [(one.policy, *getattr(one.figures, field)) for one in shown]
    return svg.forest(rows, zero=1.0, label=label) if rows else Html("")


def _distances(seen: Measured) -> Html:
    x, (value, low, high) = seen.distances.tolist(), seen.correlations.tolist()
    series = [svg.Series("measured", x, value, low, high), svg.Series("theory", x, seen.theory.tolist())]
    return svg.lines(series, x_label="Hamming distance", y_label="correlation of the gradients", x_percent=True)


def _over_training(all_seen: Sequence[Measured]) -> Html:
    charts = []
    all_seen = sorted(all_seen, key=lambda one: one.step)
    for field, label in RATIOS:
        series = []
        for number, policy in enumerate(all_seen[0].policies):  # all in both charts: a policy keeps its colour
            points = [getattr(seen.policies[number].figures, field) for seen in all_seen]
            steps = [float(seen.step) for seen in all_seen]
            series.append(svg.Series(policy.policy, steps, *(list(part) for part in zip(*points, strict=True))))
        charts.append(svg.lines(series, x_label="step", y_label=label, marks=[(1.0, "")]))
    return tag("div", charts, class_="grid")


def check_board(folder: str) -> None:
    """Raises an error if `write_board` cannot write to a folder. Makes it; call it before the work."""
    path = resolve_folder(folder, "--tensorboard")
    try:
        str(path).encode()
    except UnicodeError:
        what = "is no UTF-8, so TensorBoard cannot write there"
        raise ConfigError(what, where=f"--tensorboard {folder}", fix="name another folder") from None
    resolve_output(path / "events", "--tensorboard")


def write_board(folder: str, all_seen: Sequence[Measured]) -> None:
    """Writes a file for TensorBoard: at the step of each checkpoint the ratios, and the histogram of a pass over rows.

    Args:
        folder: where it goes; made if need be.
        all_seen: what was measured, a checkpoint each.

    Raises:
        StorageError: it cannot be written.
    """
    try:
        with open_writer(Path(os.path.realpath(folder))) as board:
            for seen in sorted(all_seen, key=lambda one: one.step):
                _add(board, seen)
    except Exception as error:  # its writer thread passes on any error of the disk
        raise StorageError(f"cannot be written: {error}", where=f"--tensorboard {folder}") from error


def _add(board: Any, seen: Measured) -> None:
    for one in seen.policies:
        name = one.policy.replace("/", "|")
        board.add_scalar(f"variance of a pass/{name}", one.figures.mask_pass[0], seen.step)
        board.add_scalar(f"variance of the whole gradient, a pass/{name}", one.figures.whole_pass[0], seen.step)
        if one.views > 1:
            board.add_scalar(f"variance of independent masks/{name}", one.figures.independent[0], seen.step)
        if np.isfinite(one.by_row).all():
            board.add_histogram(f"variance of a pass, rows/{name}", one.by_row, seen.step)
