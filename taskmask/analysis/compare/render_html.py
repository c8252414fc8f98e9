"""The report of a comparison as a page of HTML that stands alone."""

from __future__ import annotations

import json
from collections.abc import Sequence

from taskmask import __version__
from taskmask.analysis.compare import tables
from taskmask.analysis.compare.learning_curves import Curve
from taskmask.analysis.compare.results import Asked, Results
from taskmask.analysis.compare.verdicts import Row, shown, warnings
from taskmask.analysis.reporting import html, svg
from taskmask.analysis.reporting.html import Html, fold, section, tag

STYLE = """
.note { background: var(--card); border-left: 3px solid var(--heat); padding: .5rem .8rem; border-radius: .25rem; }
.kind { font-weight: 400; color: var(--soft); }
.said { display: inline-block; white-space: normal; min-width: 14rem; max-width: 34rem; }
"""
COLOURS = {"better": "good", "worse": "bad"}
MOST_LINES = 8  # that can be told apart by their colours


def page_of(results: Results, rows: Sequence[Row], models: Sequence[Row], found: Sequence[Curve]) -> str:
    """Returns the whole document.

    Args:
        results: of the experiment.
        rows: of the labelled tasks.
        models: of the language models.
        found: the learning curves.
    """
    notes = [tag("p", warning, class_="note") for warning in warnings(results)]
    parts: list[Html] = [*notes]
    if rows:
        blocks = [_block(task, [row for row in rows if row.asked is task]) for task in results.tasks]
        parts.append(section("Verdicts", blocks, note=tables.how_to_read(results, rows)))
    parts += _curves(results, found) if found else []
    parts += [_models(results, models)] if models else []
    parts.append(section("Cost", _table(tables.costs(results)), note=tables.HOW_TO_READ_COSTS))
    if results.failures:
        note = "These stages did not come to their end. The experiment went on without them."
        table = tables.failures(results)
        cells = [(*line[:3], tag("span", line[3], class_="said"), *line[4:]) for line in table.rows]
        parts.append(section("Failures", html.table(table.header, cells), note=note))
    parts += [_repeat(results), tag("p", f"taskmask {__version__}", class_="soft")]
    return html.page(f"Comparison: {results.name}", *parts, subtitle=tables.facts(results), style=STYLE)


def _table(table: tables.Table, caption: str = "") -> Html:
    return html.table(table.header, table.rows, numeric=table.numeric, caption=caption)


def _block(asked: Asked, rows: Sequence[Row]) -> Html:
    """The verdicts of a task or masker, with its means and differences drawn."""
    table = tables.verdicts(rows)
    cells = [(line[0], _coloured(line[1]), *line[2:]) for line in table.rows]
    means = [(row.name, row.score.mean, row.score.low, row.score.high) for row in rows if row.score]
    differences = [
        (row.name, row.difference.mean, row.difference.low, row.difference.high)
        for row in rows
        if row.difference and row.difference.seeds
    ]
    plots = [svg.forest(means, label=f"{asked.metric}, mean")] if means else []
    if differences:
        plots.append(svg.forest(differences, zero=0.0, label="difference from the baseline"))
    heading = tag("h3", asked.name, " ", tag("span", tables.direction(asked), class_="kind"))
    return Html(heading + html.table(table.header, cells, numeric=table.numeric) + tag("div", plots, class_="grid"))


def _coloured(verdict: str) -> Html:
    """A verdict with its first word in the colour of good or bad."""
    word, mark, rest = verdict.partition(";")
    return html.escaped([tag("span", word, class_=COLOURS[word]) if word in COLOURS else word, mark, rest])


def _curves(results: Results, found: Sequence[Curve]) -> list[Html]:
    charts = []
    for task in results.tasks:
        own = [curve for curve in found if curve.task is task]
        for first in range(0, len(own), MOST_LINES):
            charts += [_chart(task, results, own[first : first + MOST_LINES])]
    return [
        section("Learning curves", tag("div", charts, class_="grid"), note=tables.how_to_read_curves(results)),
        section(
            "What the baseline's score costs",
            _table(tables.reached(results, found)),
            note=tables.HOW_TO_READ_REACHED,
        ),
    ]


def _chart(task: Asked, results: Results, own: Sequence[Curve]) -> Html:
    series = [
        svg.Series(
            shown(curve.policy),
            curve.shares,
            [point.mean for point in curve.points],
            [point.low for point in curve.points],
            [point.high for point in curve.points],
        )
        for curve in own
    ]
    label = f"{task.name}: {task.metric} on {task.split}"
    return svg.lines(series, x_label="share of the intermediate stage", y_label=label, x_percent=True)


def _models(results: Results, models: Sequence[Row]) -> Html:
    blocks = [_block(masker, [row for row in models if row.asked is masker]) for masker in results.maskers]
    metric = results.maskers[0]
    caption = f"{tables.direction(metric)}; deviation over seeds in brackets"
    note = tag("p", tables.how_to_read(results, models), class_="soft")
    detail = fold("Differences from the baseline, with verdicts", note, blocks)
    table = _table(tables.matrix(models), caption)
    return section("Language models on common masks", table, detail, note=tables.HOW_TO_READ_MODELS)


def _repeat(results: Results) -> Html:
    """All settings, versions and fingerprints, folded."""
    short = {name: value for name, value in results.repeat.items() if not isinstance(value, dict)}
    parts = [
        fold(name, tag("pre", tables.as_json(value)))
        for name, value in results.repeat.items()
        if isinstance(value, dict) and value
    ]
    if short:
        parts.insert(0, html.table((), [(name, json.dumps(value, default=str)) for name, value in short.items()]))
    return section("To repeat it", parts, note="Versions, fingerprints of the data, and the settings of every stage.")
