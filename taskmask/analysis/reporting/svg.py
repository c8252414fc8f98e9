"""Small charts as SVG inside a page; their colours are those of its style."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from taskmask.analysis.reporting.html import Html, legend, tag

WIDTH = 420
LETTER = 6.6  # pixels of a letter of 12, on average
LONGEST = 18  # letters of a name at an axis


@dataclass(frozen=True)
class Series:
    """A line of a chart.

    Args:
        name: what it is called.
        x: places, rising.
        y: values there; NaN leaves a gap.
        low: lower edge of a band around it.
        high: its upper edge.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] | None = None
    high: Sequence[float] | None = None


def ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Returns round numbers from `low` to `high`: 1, 2 or 5 times a power of ten apart."""
    if not high > low:
        return [low]
    raw = (high - low) / about
    power = 10 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [number * step for number in range(first, math.floor(high / step + 1e-9) + 1)]


def said(value: float, percent: bool, step: float) -> str:
    """Returns a number as it stands at an axis whose marks are `step` apart."""
    value, step = (100 * value, 100 * step) if percent else (value, step)
    digits = max(0, -math.floor(math.log10(step) + 1e-9)) if step > 0 else 2
    return f"{value + 0.0:,.{digits}f}{' %' if percent else ''}"


@dataclass(frozen=True)
class Frame:
    """The area of a chart, and where a value lies in it."""

    left: float
    top: float
    width: float
    height: float
    x: tuple[float, float]
    y: tuple[float, float]

    def across(self, value: float) -> float:
        """Pixels from the left of a value of x."""
        return self.left + (value - self.x[0]) / ((self.x[1] - self.x[0]) or 1) * self.width

    def down(self, value: float) -> float:
        """Pixels from the top of a value of y."""
        return self.top + (self.y[1] - value) / ((self.y[1] - self.y[0]) or 1) * self.height


def _finite(values: Sequence[float] | None) -> list[float]:
    return [value for value in values or () if math.isfinite(value)]


def _range(values: list[float], room: float = 0.06) -> tuple[float, float]:
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    margin = (high - low) * room or abs(high) * 0.05 or 0.5
    return low - margin, high + margin


def _y_axis(frame: Frame, percent: bool) -> list[Html]:
    marks = ticks(*frame.y)
    step = marks[1] - marks[0] if len(marks) > 1 else abs(marks[0]) or 1.0
    parts = []
    for value in marks:
        y = f"{frame.down(value):.1f}"
        parts.append(tag("line", x1=frame.left, x2=frame.left + frame.width, y1=y, y2=y, class_="axis"))
        text = said(value, percent, step)
        parts.append(tag("text", text, x=frame.left - 6, y=y, dy=4, text_anchor="end", class_="soft"))
    return parts


def _x_axis(frame: Frame, percent: bool, label: str) -> list[Html]:
    marks = ticks(*frame.x)
    step = marks[1] - marks[0] if len(marks) > 1 else abs(marks[0]) or 1.0
    bottom = frame.top + frame.height
    parts = [
        tag(
            "text",
            said(v, percent, step),
            x=f"{frame.across(v):.1f}",
            y=bottom + 16,
            text_anchor="middle",
            class_="soft",
        )
        for v in marks
    ]
    middle = frame.left + frame.width / 2
    return [*parts, tag("text", label, x=middle, y=bottom + 34, text_anchor="middle", class_="soft")]


def _svg(width: float, height: float, *content: object, label: str) -> Html:
    """Returns the picture, which says to those who cannot see it what it shows."""
    return tag("svg", content, viewBox=f"0 0 {width:g} {height:g}", width=f"{width:g}", role="img", aria_label=label)


def lines(
    series: Sequence[Series],
    *,
    x_label: str,
    y_label: str,
    x_percent: bool = False,
    y_percent: bool = False,
    marks: Sequence[tuple[float, str]] = (),
) -> Html:
    """Returns curves with their bands.

    Args:
        series: at most eight can be told apart by their colours.
        x_label: what the horizontal axis is.
        y_label: what the vertical axis is.
        x_percent: x is a share, shown in percent.
        y_percent: y is one.
        marks: horizontal lines (value, what it is).
    """
    xs = [x for one in series for x in _finite(one.x)]
    ys = [y for one in series for part in (one.y, one.low, one.high) for y in _finite(part)]
    ys += [value for value, _ in marks if math.isfinite(value)]
    frame = Frame(52, 12, WIDTH - 72, 200, (min(xs, default=0), max(xs, default=1)), _range(ys))
    shapes = [*_y_axis(frame, y_percent), *_x_axis(frame, x_percent, x_label)]
    for value, name in marks:
        y = f"{frame.down(value):.1f}"
        place = {"x1": frame.left, "x2": frame.left + frame.width, "y1": y, "y2": y}
        shapes.append(tag("line", class_="s7", stroke_dasharray="4 3", **place))
        shapes.append(tag("text", name, x=frame.left + frame.width, y=y, dy=-4, text_anchor="end", class_="soft"))
    for number, one in enumerate(series):
        shapes += _band(frame, one, number % 8) + _curve(frame, one, number % 8)
    label = f"{y_label} by {x_label}: {', '.join(one.name for one in series)}"
    names = legend([one.name for one in series]) if len(series) > 1 else None
    picture = _svg(WIDTH, frame.top + frame.height + 42, shapes, label=label)
    return tag("figure", tag("figcaption", y_label), names, picture)


def _curve(frame: Frame, one: Series, colour: int) -> list[Html]:
    points = [(frame.across(x), frame.down(y)) for x, y in zip(one.x, one.y, strict=True) if math.isfinite(y)]
    path = " ".join(f"{'L' if n else 'M'}{x:.1f} {y:.1f}" for n, (x, y) in enumerate(points))
    dots = points if len(points) <= 24 else []
    return [
        tag("path", d=path, fill="none", class_=f"s{colour}", stroke_width=2, stroke_linejoin="round"),
        *(tag("circle", cx=f"{x:.1f}", cy=f"{y:.1f}", r=3, class_=f"c{colour}") for x, y in dots),
    ]


def _band(frame: Frame, one: Series, colour: int) -> list[Html]:
    if one.low is None or one.high is None:
        return []
    edges = [e for e in zip(one.x, one.low, one.high, strict=True) if all(map(math.isfinite, e))]
    there = [(frame.across(x), frame.down(high)) for x, _, high in edges]
    back = [(frame.across(x), frame.down(low)) for x, low, _ in reversed(edges)]
    outline = " ".join(f"{x:.1f},{y:.1f}" for x, y in there + back)
    return [tag("polygon", points=outline, class_=f"c{colour}", fill_opacity=0.14)] if edges else []


def forest(
    rows: Sequence[tuple[str, float, float, float]],
    *,
    zero: float | None = None,
    percent: bool = False,
    label: str = "",
) -> Html:
    """Returns values with their intervals below each other.

    Args:
        rows: (name, value, low, high) each; NaN where there is none.
        zero: where a vertical line stands: what means no difference.
        percent: the values are shares, shown in percent.
        label: what is shown.
    """
    values = [v for row in rows for v in _finite(row[1:])] + ([zero] if zero is not None else [])
    left = 12 + LETTER * max((min(len(row[0]), 26) for row in rows), default=1)
    frame = Frame(left, 6, WIDTH - left - 14, 24 * len(rows), _range(values), (0, 1))
    shapes = _x_axis(frame, percent, label)
    bottom = frame.top + frame.height
    shapes += [tag("line", x1=frame.left, x2=WIDTH - 14, y1=bottom, y2=bottom, class_="axis")]
    if zero is not None:
        x = f"{frame.across(zero):.1f}"
        shapes.append(tag("line", x1=x, x2=x, y1=frame.top, y2=bottom, class_="s7", stroke_dasharray="4 3"))
    for number, (name, value, low, high) in enumerate(rows):
        y = frame.top + 24 * number + 12
        shown = name if len(name) <= 26 else name[:25] + "…"
        shapes.append(tag("text", shown, x=frame.left - 8, y=y, dy=4, text_anchor="end"))
        if math.isfinite(low) and math.isfinite(high):
            ends = {"x1": f"{frame.across(low):.1f}", "x2": f"{frame.across(high):.1f}", "y1": y, "y2": y}
            shapes.append(tag("line", class_="s0", stroke_width=2, **ends))
        if math.isfinite(value):
            shapes.append(tag("circle", cx=f"{frame.across(value):.1f}", cy=y, r=4, class_="c0"))
    return tag("figure", _svg(WIDTH, bottom + 42, shapes, label=label or "values with intervals"))


def bars(
    categories: Sequence[str],
    values: Mapping[str, Sequence[float]],
    *,
    label: str,
    percent: bool = False,
    mark: float | None = None,
    x_label: str = "",
    keys: bool = True,
) -> Html:
    """Returns bars side by side, a group for each category.

    Args:
        categories: names of the groups.
        values: {series: a value for each category}; NaN where there is none.
        label: what is shown.
        percent: the values are shares, shown in percent.
        mark: where a horizontal line stands.
        x_label: what the categories are.
        keys: whether the colours are explained, where there are several.
    """
    highest = max([v for one in values.values() for v in _finite(one)] + [mark or 0.0], default=1.0) or 1.0
    longest = max(map(len, categories), default=0)
    is_turned = longest > 8 and longest * LETTER * len(categories) > WIDTH - 66
    left = 52 + (max(0.0, min(longest, LONGEST) * LETTER * 0.8 - 60) if is_turned else 0)
    frame = Frame(left, 12, WIDTH - left - 14, 170, (0, max(len(categories), 1)), (0, highest * 1.06))
    group = frame.width / max(len(categories), 1)
    bar = min(group * 0.8 / max(len(values), 1), 42)
    shapes = _y_axis(frame, percent)
    bottom = frame.top + frame.height
    every = math.ceil(longest * LETTER / group) or 1
    below = 24 + (min(longest, LONGEST) * LETTER * 0.6 - 8 if is_turned else 0)
    for number, name in enumerate(categories):
        middle = frame.left + group * (number + 0.5)
        for place, one in enumerate(values.values()):
            value = one[number]
            if math.isfinite(value):
                x, y = middle + bar * (place - len(values) / 2), frame.down(value)
                size = {"width": f"{max(bar - 1, 0.5):.1f}", "height": f"{bottom - y:.1f}"}
                shapes.append(tag("rect", x=f"{x:.1f}", y=f"{y:.1f}", class_=f"c{place % 8}", **size))
        if is_turned:
            turn = f"rotate(-35 {middle:.1f} {bottom + 12})"
            shown = name if len(name) <= LONGEST else name[: LONGEST - 1] + "…"
            shapes.append(
                tag("text", shown, x=f"{middle:.1f}", y=bottom + 12, text_anchor="end", transform=turn, class_="soft")
            )
        elif number % every == 0:
            shapes.append(tag("text", name, x=f"{middle:.1f}", y=bottom + 16, text_anchor="middle", class_="soft"))
    if mark is not None:
        height = f"{frame.down(mark):.1f}"
        place_of = {"x1": frame.left, "x2": frame.left + frame.width, "y1": height, "y2": height}
        shapes.append(tag("line", class_="s7", stroke_dasharray="4 3", **place_of))
    if x_label:
        x = frame.left + frame.width / 2
        shapes.append(tag("text", x_label, x=x, y=bottom + below + 10, text_anchor="middle", class_="soft"))
    picture = _svg(WIDTH, bottom + below + (18 if x_label else 0), shapes, label=label)
    return tag("figure", tag("figcaption", label), legend(list(values)) if keys and len(values) > 1 else None, picture)
