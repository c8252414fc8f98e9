"""The reports of a comparison: report.html, report.md and report.csv, and a summary for the terminal."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from taskmask.analysis.compare import tables
from taskmask.analysis.compare.learning_curves import Curve, cost_ratio, curves
from taskmask.analysis.compare.render_html import page_of
from taskmask.analysis.compare.results import Cost, Results
from taskmask.analysis.compare.tables import Table
from taskmask.analysis.compare.verdicts import Row, of_language_models, of_tasks, shown, warnings
from taskmask.errors import one_line, visible
from taskmask.system.files import as_utf8, atomic_write
from taskmask.system.text_tables import aligned

COLUMNS = (
    *("quantity", "kind", "of", "split", "metric", "policy", "share", "seed"),
    *("value", "low", "high", "deviation", "n", "p", "p_holm", "verdict"),
)


def write_reports(results: Results, folder: Path) -> list[Path]:
    """Writes report.html, report.md and report.csv into a folder, and returns where they are."""
    found = curves(results)
    rows, models = of_tasks(results), of_language_models(results)
    texts = {
        "report.html": page_of(results, rows, models, found),
        "report.md": markdown(results, rows, models, found),
        "report.csv": tidy(results, rows, models, found),
    }
    for name, text in texts.items():
        with atomic_write(folder / name) as file:
            file.write(as_utf8(text))
    return [folder / name for name in texts]


def html(results: Results) -> str:
    """Returns report.html."""
    return page_of(results, of_tasks(results), of_language_models(results), curves(results))


def summary_lines(results: Results) -> list[str]:
    """Returns the verdicts as lines for the terminal, and what to know before reading them."""
    rows, models = of_tasks(results), of_language_models(results)
    lines = [tables.facts(results)]
    for title, family in (("labelled tasks", rows), ("language models on common masks", models)):
        if family:
            header = ("of", "policy", "mean", "95 % interval", "difference", "its 95 % interval", "p (Holm)", "verdict")
            cells = [(row.asked.name, *tables.verdicts([row]).rows[0]) for row in family]
            short = [(of, policy, *line[3:5], *line[:3], verdict) for of, policy, verdict, *line, _, _ in cells]
            lines += ["", title, *aligned([header, *short], range(2, 7))]
    lines += ["", f"95 % intervals {tables.spread(results)}; p corrected for all comparisons of its table (Holm)."]
    lines.append("A difference that is not shown is no proof of equality.")
    for one in results.failures:
        lines.append(f"failed: {one.stage}, {shown(one.policy)}, seed {one.seed}: {one.message}")
    return [*lines, *(f"note: {warning}" for warning in warnings(results))]


def markdown(results: Results, rows: Sequence[Row], models: Sequence[Row], found: Sequence[Curve]) -> str:
    """Returns report.md."""
    parts = [f"# {_plain(results.name)}", _plain(tables.facts(results))]
    parts += [f"> **Note.** {warning}" for warning in warnings(results)]
    if rows:
        parts += ["## Verdicts", tables.how_to_read(results, rows), *_by_name(results.tasks, rows)]
    if found:
        parts += ["## What the baseline's score costs", tables.HOW_TO_READ_REACHED]
        parts += [_github(tables.reached(results, found)), "## Learning curves", tables.how_to_read_curves(results)]
        parts += [_github(_curve_table(found))]
    if models:
        parts += ["## Language models on common masks", tables.HOW_TO_READ_MODELS, _github(tables.matrix(models))]
        parts += [tables.how_to_read(results, models), *_by_name(results.maskers, models)]
    parts += ["## Cost", tables.HOW_TO_READ_COSTS, _github(tables.costs(results))]
    if results.failures:
        parts += ["## Failures", _github(tables.failures(results))]
    parts += ["## To repeat it", "````json\n" + tables.as_json(results.repeat) + "\n````"]
    return "\n\n".join(parts) + "\n"


def _by_name(asked: Sequence[Any], rows: Sequence[Row]) -> Iterator[str]:
    for one in asked:
        own = [row for row in rows if row.asked is one]
        yield f"### {_plain(one.name)}: {_plain(tables.direction(one))}"
        yield _github(tables.verdicts(own))


def _curve_table(found: Sequence[Curve]) -> Table:
    rows = [
        (one.task.name, shown(one.policy), tables.percent(share), tables.number(point.mean),
         tables.interval(point.low, point.high), str(len(point.runs)))
        for one in found
        for share, point in zip(one.shares, one.points, strict=True)
    ]  # fmt: skip
    return Table(("task", "policy", "share of the stage", "mean", "95 % interval", "n"), rows, (2, 3, 4, 5))


def _github(table: Table) -> str:
    rule = ["---:" if n in table.numeric else "---" for n in range(len(table.header))]
    lines = [table.header, rule, *table.rows]
    return "\n".join(f"| {' | '.join(cell if line is rule else _plain(cell) for cell in line)} |" for line in lines)


def _plain(text: str) -> str:
    """A text that Markdown shows as it is, on one line."""
    for sign in "\\`*_[]<>|#":
        text = text.replace(sign, "\\" + sign)
    return one_line(text)


def tidy(results: Results, rows: Sequence[Row], models: Sequence[Row], found: Sequence[Curve]) -> str:
    """Returns report.csv: a figure a line, told apart by the column quantity.

    - run: the value of one seed; mean: over seeds, with interval; difference: from the baseline, with interval, p and
      verdict; point: a mean on a learning curve, at a share of the intermediate stage;
    - reached: the share of the baseline's cost (in the unit in metric) at which its score is reached, "inf" for never;
    - cost: of one stage, which is named in kind, in the unit in metric.
    """
    file = io.StringIO()
    writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
    writer.writeheader()
    lines = [*_figures("task", rows), *_figures("language model", models), *_curve_figures(results, found)]
    for line in [*lines, *_cost_figures(results)]:
        writer.writerow({name: _cell(value) for name, value in line.items()})
    return file.getvalue()


def _cell(value: Any) -> Any:
    if isinstance(value, float) and math.isnan(value):
        return ""
    return visible(value) if isinstance(value, str) else value


def _figures(kind: str, rows: Sequence[Row]) -> Iterator[dict[str, Any]]:
    for row in rows:
        share = 1.0 if row.policy else 0.0
        common: dict[str, Any] = {
            "kind": kind,
            "of": row.asked.name,
            "split": row.asked.split,
            "metric": row.asked.metric,
        }
        common |= {"policy": row.name, "share": share}
        score, difference = row.score, row.difference
        for seed, value in zip(row.seeds, score.runs if score else (), strict=True):
            yield {**common, "quantity": "run", "seed": seed, "value": value}
        if score:
            ends = {"low": score.low, "high": score.high, "deviation": score.deviation, "n": len(score.runs)}
            yield {**common, "quantity": "mean", "value": score.mean, **ends}
        found: dict[str, Any] = {"n": row.n, "verdict": row.verdict}
        if difference:
            found |= {"value": difference.mean, "low": difference.low, "high": difference.high}
            found |= {"p": difference.p, "p_holm": row.p_holm}
        yield {**common, "quantity": "difference", **found}


def _curve_figures(results: Results, found: Sequence[Curve]) -> Iterator[dict[str, Any]]:
    for one in found:
        common = {"kind": "task", "of": one.task.name, "split": one.task.split, "policy": shown(one.policy)}
        for share, point in zip(one.shares, one.points, strict=True):
            figures: dict[str, Any] = {
                "value": point.mean,
                "low": point.low,
                "high": point.high,
                "deviation": point.deviation,
            }
            figures |= {"share": share, "n": len(point.runs), "metric": one.task.metric}
            yield {**common, "quantity": "point", **figures}
        for currency in dict.fromkeys((tables.CURRENCIES[results.budget][0], "flops")):
            ratio, at = cost_ratio(results, one.policy, currency), one.reached
            ends = {"value": at.share * ratio, "low": at.low * ratio, "high": at.high * ratio}
            yield {**common, "quantity": "reached", "metric": currency, **ends}


def _cost_figures(results: Results) -> Iterator[dict[str, Any]]:
    stages: list[tuple[dict[str, Any], Cost]] = []
    if results.pretraining:
        stages.append(({"kind": "pre-training"}, results.pretraining))
    for policy, of_policy in results.costs.items():
        common = {"kind": "intermediate", "policy": shown(policy)}
        stages += [({**common, "seed": seed}, cost) for seed, cost in of_policy.items()]
    for task, of_task in results.finetuning.items():
        common = {"kind": "fine-tuning", "of": task}
        stages += [({**common, "policy": shown(policy), "seed": s}, cost) for (policy, s), cost in of_task.items()]
    for stage, cost in stages:
        for name in cost.__dataclass_fields__:
            yield {"quantity": "cost", **stage, "metric": name, "value": getattr(cost, name)}
