"""Pages escape what is put into them; charts put values where they belong, whatever the values."""

import math
import re
import xml.etree.ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskmask.analysis.reporting import svg
from taskmask.analysis.reporting.html import Html, escaped, fold, legend, page, section, table, tag

NAN = math.nan


def test_text_is_escaped_and_markup_is_not():
    assert tag("p", "a < b & c", Html("<b>x</b>"), None, 3) == "<p>a &lt; b &amp; c<b>x</b>3</p>"
    assert tag("td", "x", class_="a", text_anchor="end", title='"<', id=None) == (
        '<td class="a" text-anchor="end" title="&quot;&lt;">x</td>'
    )
    assert isinstance(escaped(["a", ["<", Html("<i>")]]), Html) and escaped(["a", ["<", Html("<i>")]]) == "a&lt;<i>"
    assert tag("p", "x")._repr_html_() == "<p>x</p>"
    assert tag("p", "a", tag("br"), "b") == "<p>a<br>b</p>"  # </br> would be another


def test_a_page_holds_its_parts():
    found = page("T<", section("S", "text", note="n"), fold("more", "inside"), legend(["a", "b"]), subtitle="sub")
    assert found.startswith("<!doctype html>") and "<title>T&lt;</title>" in found and "width=device-width" in found
    for part in ("<h1>T&lt;</h1>", "<h2>S</h2>", "<summary>more</summary>", "sub", 'class="key b1"'):
        assert part in found
    assert "prefers-color-scheme" in found or "light-dark(" in found
    assert not re.search(r"https?://|@import|url\(", found)


def test_a_table_aligns_numbers():
    found = ET.fromstring(table(["name", "value"], [["a", 1], ["b<", 2]], numeric=(1,), caption="c"))
    cells = [(cell.text, cell.get("class")) for cell in found.iter("td")]
    assert (
        cells == [("a", None), ("1", "number"), ("b<", None), ("2", "number")] and found.find(".//caption").text == "c"
    )


@given(st.floats(-1e6, 1e6), st.floats(1e-4, 1e6))
def test_ticks_are_round_and_inside(low, size):
    high = low + size
    marks = svg.ticks(low, high)
    step = marks[1] - marks[0] if len(marks) > 1 else size
    assert 1 <= len(marks) <= 7 and marks[0] >= low - step * 1e-6 and marks[-1] <= high + step * 1e-6
    if len(marks) > 1:
        digits = step / 10 ** math.floor(math.log10(step))
        # far from zero a difference of marks is a little off: 0.001 may come out as 9.9999999e-4, whose digits are 9.99
        assert any(digits == pytest.approx(known, rel=1e-3) for known in (1, 2, 5, 10))


@pytest.mark.parametrize(
    ("value", "percent", "step", "text"),
    [(0.15, True, 0.05, "15 %"), (0.155, True, 0.005, "15.5 %"), (1234.5, False, 100, "1,234"), (-0.0, False, 1, "0")],
)
def test_numbers_have_the_digits_of_their_axis(value, percent, step, text):
    assert svg.said(value, percent, step) == text


def shapes(picture, name, **attributes):
    """The elements of a chart with these attributes."""
    return [e for e in ET.fromstring(picture).iter(name) if all(e.get(k) == v for k, v in attributes.items())]


def test_curves_go_where_their_values_are():
    series = [svg.Series("a", [0, 1, 2], [0, 5, 10], [-1, 4, 9], [1, 6, 11]), svg.Series("b", [0, 2], [10, NAN])]
    picture = svg.lines(series, x_label="x", y_label="y", marks=[(5, "five")])
    a = [(float(c.get("cx")), float(c.get("cy"))) for c in shapes(picture, "circle", **{"class": "c0"})]
    assert [x for x, _ in a] == sorted(x for x, _ in a) and [y for _, y in a] == sorted((y for _, y in a), reverse=True)
    assert a[1][0] == pytest.approx((a[0][0] + a[2][0]) / 2, abs=0.1)
    assert a[1][1] == pytest.approx((a[0][1] + a[2][1]) / 2, abs=0.1)
    assert len(shapes(picture, "circle", **{"class": "c1"})) == 1  # NaN leaves a gap
    (mark,) = (line for line in shapes(picture, "line") if line.get("stroke-dasharray"))
    assert float(mark.get("y1")) == pytest.approx(a[1][1], abs=0.1)
    (band,) = shapes(picture, "polygon")
    assert len(band.get("points").split()) == 6
    assert "five" in picture and ET.fromstring(picture).find(".//svg").get("aria-label") == "y by x: a, b"


def test_bars_are_as_high_as_their_values():
    picture = svg.bars(["a", "b", "c"], {"one": [1.0, 2.0, NAN], "two": [4.0, 0.0, 1.0]}, label="l", mark=2.0)
    heights = [float(bar.get("height")) for bar in shapes(picture, "rect")]
    one, two = heights[0], heights[2]  # group by group
    assert (
        len(heights) == 5 and heights[1] == pytest.approx(4 * one, rel=0.01) and two == pytest.approx(2 * one, rel=0.01)
    )
    assert ET.fromstring(picture).findtext("figcaption") == "l"
    assert "legend" not in svg.bars(["a"], {"one": [1.0], "two": [2.0]}, label="l", keys=False)


def test_long_names_are_turned_and_cut():
    names = [f"a category with a long name {n}" for n in range(12)]
    picture = svg.bars(names, {"one": [1.0] * 12}, label="l")
    turned = [text for text in shapes(picture, "text") if text.get("transform")]
    assert len(turned) == 12 and all(len(text.text) <= svg.LONGEST for text in turned)
    assert not [
        text for text in shapes(svg.bars(["a", "b"], {"o": [1, 2]}, label="l"), "text") if text.get("transform")
    ]


def test_intervals_stand_around_their_values():
    rows = [("a", 0.1, -0.1, 0.3), ("b", NAN, NAN, NAN), ("a very long name of a policy indeed", 0.5, 0.4, 0.6)]
    picture = svg.forest(rows, zero=0.0, percent=True, label="difference")
    dots = [float(dot.get("cx")) for dot in shapes(picture, "circle")]
    spans = [(float(s.get("x1")), float(s.get("x2"))) for s in shapes(picture, "line", **{"class": "s0"})]
    (zero,) = shapes(picture, "line", **{"class": "s7"})
    assert len(dots) == len(spans) == 2 and all(low < dot < high for dot, (low, high) in zip(dots, spans, strict=True))
    assert spans[0][0] < float(zero.get("x1")) < dots[0] < dots[1] and "…" in picture


def test_nothing_to_draw():
    for picture in (
        svg.lines([], x_label="x", y_label="y"),
        svg.lines([svg.Series("a", [], [])], x_label="x", y_label="y"),
        svg.lines([svg.Series("a", [1], [NAN], [NAN], [NAN])], x_label="x", y_label="y"),
        svg.bars([], {}, label="l"),
        svg.bars(["a"], {"one": [0.0]}, label="l"),
        svg.forest([], zero=0.0),
        svg.forest([("a", 1.0, 1.0, 1.0)]),
    ):
        assert ET.fromstring(picture).tag == "figure" and "nan" not in picture.lower()
