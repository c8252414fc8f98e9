"""An inspection as a page of HTML."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import numpy as np

from taskmask import __version__
from taskmask.analysis.inspect.groupings import Groups
from taskmask.analysis.inspect.mask_stats import LONGEST
from taskmask.analysis.inspect.records import Seen, Shown
from taskmask.analysis.inspect.render_text import drawn, extremes, spaced, summary_table
from taskmask.analysis.reporting import svg
from taskmask.analysis.reporting.html import Html, fold, legend, page, section, table, tag

STYLE = """
.row { border-top: 1px solid var(--line); padding: .55rem 0 .7rem; }
.row > .number { color: var(--soft); font-size: .82rem; }
.view { display: grid; grid-template-columns: 8.5rem 1fr; gap: .1rem .8rem; margin: .25rem 0; }
.view > .name { color: var(--soft); font-size: .86rem; padding-top: .3rem; overflow-wrap: anywhere; }
.text { line-height: 2; overflow-wrap: anywhere; }
.p { padding: .12rem 0; border: 1.5px solid transparent; border-width: 1.5px 0; --t: 0;
  background: color-mix(in srgb, var(--heat) calc(var(--t) * 85%), transparent); }
.p.in { border-right: 1px dotted color-mix(in srgb, var(--soft) 60%, transparent); }
.p.w { margin-left: 2px; }
.p.m { border-color: var(--fg); } .p.m.in { border-right: 1px dotted var(--soft); }
.p.first { border-left: 1.5px solid var(--fg); border-radius: .25rem 0 0 .25rem; padding-left: .12rem; }
.p.last { border-right: 1.5px solid var(--fg); border-radius: 0 .25rem .25rem 0; padding-right: .12rem; }
.p.first.last { border-radius: .25rem; } .gap.m { border: solid var(--fg); border-width: 1.5px 0; padding: .12rem 0; }
.scale { display: inline-block; width: 7rem; height: .7rem; vertical-align: middle; border-radius: .15rem;
  border: 1px solid var(--line);
  background: linear-gradient(90deg, transparent, color-mix(in srgb, var(--heat) 85%, transparent)); }
@media (max-width: 40rem) { .view { grid-template-columns: 1fr; } .view > .name { padding: 0; } }
"""


def page_of(seen: Seen) -> str:
    """Returns the whole document."""
    return page(seen.title, *_sections(seen), subtitle=" · ".join(seen.about), style=STYLE)


def _sections(seen: Seen) -> list[Html]:
    found = [_summary(seen)] if seen.observed else []
    found.append(_rows(seen))
    if seen.observed:
        found += [_preferences(seen), _spans(seen)]
        found += [_hardness(seen)] if seen.hardness else []
        found += [_overlap(seen)] if len(seen.observed) > 1 else []
        found.append(_words(seen))
    return [*found, tag("p", f"taskmask {__version__}", class_="soft")]


def _summary(seen: Seen) -> Html:
    header, *rows = summary_table(seen)
    note = (
        "asked: the share in the options; own: the policy decides itself. masked: of all tokens that may be masked. "
        "spread: standard deviation over rows and draws. empty rows: nothing masked in them. <mask>, random, kept: "
        "what the model sees instead."
    )
    note += " loss and accuracy: of the model, at the masked tokens, in nats." if seen.hardness else ""
    return section("In short", table(header, rows, numeric=range(1, len(header))), note=note)


def _rows(seen: Seen) -> Html:
    parts = []
    for row, views in itertools.groupby(seen.shown, key=lambda one: one.row):
        shown = [tag("div", tag("div", v.policy, class_="name"), _text(v), class_="view") for v in views]
        parts.append(tag("div", tag("div", f"row {row}", class_="number"), shown, class_="row"))
    tint = "how often a policy masks a piece" + (", or its score" if any(v.is_score for v in seen.shown) else "")
    before, after = f"Outlined: masked in the first epoch. Tint: {tint}, never ", " always. "
    lines = "Dotted lines part the pieces of a word."
    return section("Rows", tag("p", before, tag("span", class_="scale"), after, lines, class_="soft"), parts)


def _text(one: Shown) -> Html:
    """Returns the pieces of a row: outlined where they are masked, tinted, words and spans told apart."""
    parts: list[Html] = []
    num, chosen = len(one.pieces), one.chosen
    kind = "score" if one.is_score else "masked"
    for number, (piece, space) in enumerate(spaced(one)):
        is_first = chosen[number] and not (number and chosen[number - 1])
        is_last = chosen[number] and not (number + 1 < num and chosen[number + 1])
        goes_on = number + 1 < num and one.words[number] >= 0 and one.words[number + 1] == one.words[number]
        if space:
            inside = chosen[number] and not is_first
            parts.append(tag("span", " ", class_="gap m" if inside else "gap"))
        begins = not space and number > 0 and one.words[number] != one.words[number - 1]
        if begins:
            parts.append(tag("wbr"))
        marks = {"m": chosen[number], "first": is_first, "last": is_last, "in": goes_on and not is_last, "w": begins}
        names = " ".join(["p", *(name for name, holds in marks.items() if holds)])
        rate = float(one.rate[number])
        tip = f"{kind} {rate:.0%}" if kind == "masked" else f"{kind} {rate:.3g}"
        style = f"--t:{one.tint[number]:.2f}" if one.tint[number] >= 0.005 else None
        parts.append(tag("span", piece, class_=names, style=style, title=tip))
    return tag("div", parts, class_="text")


def _short(division: Groups) -> list[str]:
    """Returns labels that fit below bars: of a tenth only its number."""
    return [label.split(" ")[0] for label in division.labels] if division.name == "frequency" else division.labels


def _filled(seen: Seen, division: Groups) -> np.ndarray:
    """Returns the groups of a division that have tokens."""
    return np.flatnonzero(seen.observed[0].there[division.name] > 0)


def _preferences(seen: Seen) -> Html:
    asked = {one.asked for one in seen.observed if one.asked is not None}
    mark = asked.pop() if len(asked) == 1 else None
    charts = []
    for division in drawn(seen):
        groups, labels = _filled(seen, division), _short(division)
        values = {one.policy: one.shares(division.name)[groups].tolist() for one in seen.observed}
        names = [labels[group] for group in groups]
        label = f"masked, by {division.name}"
        charts.append(svg.bars(names, values, label=label, percent=True, mark=mark, x_label=division.axis, keys=False))
    note = "Share of the tokens of each group that a policy masks" + ("; dashed: the share asked for." if mark else ".")
    examples = next(division for division in seen.divisions if division.name == "frequency").labels
    folded = fold(
        "pieces of each tenth of the text", tag("p", [[label, tag("br")] for label in examples], class_="soft")
    )
    tables = [
        _table_of(seen, division, {one.policy: _cells(one.shares(division.name), ".2%") for one in seen.observed})
        for division in drawn(seen)
    ]
    return section(
        "What it prefers",
        _keys(seen),
        tag("div", charts, class_="grid"),
        folded,
        fold("the same as tables", tables),
        note=note,
    )


def _keys(seen: Seen) -> Html:
    return legend([one.policy for one in seen.observed])


def _table_of(seen: Seen, division: Groups, columns: Mapping[str, Sequence[str]]) -> Html:
    """Returns the groups of a division with columns that hold a cell for each of its groups."""
    there = seen.observed[0].there[division.name]
    header = [division.name, "tokens", *columns]
    rows = [
        [
            division.labels[group],
            f"{there[group] / max(there.sum(), 1):.1%}",
            *(cells[group] for cells in columns.values()),
        ]
        for group in _filled(seen, division)
    ]
    return table(header, rows, numeric=range(1, len(header)))


def _cells(values: np.ndarray, form: str) -> list[str]:
    return [format(value, form) if np.isfinite(value) else "" for value in values]


def _spans(seen: Seen) -> Html:
    lengths = [length for length in range(1, LONGEST + 1) if any(one.spans[length] for one in seen.observed)]
    names = [f"{length}{'+' * (length == LONGEST)}" for length in lengths]
    values = {o.policy: [o.spans[n] / max(o.spans.sum(), 1) for n in lengths] for o in seen.observed}
    spans = svg.bars(names, values, label="runs of masked tokens, by their length", percent=True, x_label="tokens")
    edges = np.linspace(0, max(float(np.nanmax(one.ratios, initial=0.01)) for one in seen.observed), 21)
    curves = []
    for one in seen.observed:
        counts, _ = np.histogram(one.ratios[np.isfinite(one.ratios)], edges)
        middles = ((edges[:-1] + edges[1:]) / 2).tolist()
        curves.append(svg.Series(one.policy, middles, (counts / max(counts.sum(), 1)).tolist()))
    label = "rows, by the share of them that is masked"
    rows = svg.lines(curves, x_label="share of the row that is masked", y_label=label, x_percent=True, y_percent=True)
    note = "Neighbouring spans count as one run. A policy that keeps its budget in every row has a narrow peak."
    return section("Spans and rows", tag("div", spans, rows, class_="grid"), note=note)


def _hardness(seen: Seen) -> Html:
    charts = []
    for division in drawn(seen):
        groups, labels = _filled(seen, division), _short(division)
        names = [labels[group] for group in groups]
        values = {hard.policy: hard.losses(division.name)[groups].tolist() for hard in seen.hardness}
        charts.append(svg.bars(names, values, label=f"loss, by {division.name}", x_label=division.axis, keys=False))
    tables = []
    for division in drawn(seen):
        columns = {}
        for hard in seen.hardness:
            columns[f"{hard.policy}, loss"] = _cells(hard.losses(division.name), ".3f")
            columns[f"{hard.policy}, accuracy"] = _cells(hard.accuracies(division.name), ".1%")
        tables.append(_table_of(seen, division, columns))
    note = "Mean loss, in nats, of the tokens that a policy masks: low is trivial for the model, high is hard."
    folded = fold("loss and accuracy as tables", tables)
    return section("How hard it is", _keys(seen), tag("div", charts, class_="grid"), folded, note=note)


def _overlap(seen: Seen) -> Html:
    names = [one.policy for one in seen.observed]
    rows = []
    for number, name in enumerate(names):
        cells = [tag("span", f"{value:.1%}", class_="p", style=f"--t:{value:.2f}") for value in seen.overlaps[number]]
        rows.append([name, *cells])
    note = (
        "Tokens that both mask, of those that either masks, in the same epoch; of a policy with itself, in the next "
        "one: high where it masks the same again and again."
    )
    return section("Overlap", table(["", *names], rows, numeric=range(1, len(names) + 1)), note=note)


def _words(seen: Seen) -> Html:
    parts = []
    for one in seen.observed:
        pairs = itertools.zip_longest(*extremes(one, seen.divisions[-1], 15))
        rows = [
            [text for found in pair for text in ((found[0], f"{found[1]:.0%}") if found else ("", ""))]
            for pair in pairs
        ]
        found = table(["masked most", "", "masked least", ""], rows, numeric=(1, 3)) if rows else tag("p", "none")
        parts.append(tag("div", tag("h3", one.policy), found))
    note = "Words that a policy masks more or less than its mean by more than chance would have it."
    return section("Words", tag("div", parts, class_="grid"), note=note)
