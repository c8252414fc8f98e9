"""Pages of HTML that stand alone: no script, no font and no picture from elsewhere; light and dark, narrow and wide."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from typing import Any

from taskmask.errors import visible

STYLE = """
:root { color-scheme: light dark;
  --bg: light-dark(#fdfdfb, #15171a); --fg: light-dark(#1c1e21, #e4e5e7); --soft: light-dark(#5f646b, #9aa0a8);
  --line: light-dark(#dcdcd6, #33373d); --card: light-dark(#f4f4ef, #1d2024); --good: light-dark(#1a7f4b, #5fcf94);
  --bad: light-dark(#b3362b, #f2857b); --heat: light-dark(#e8862e, #d9782a);
  --c0: light-dark(#2b6cb0, #76aef0); --c1: light-dark(#c8541c, #f3955f); --c2: light-dark(#2c8a57, #66cc96);
  --c3: light-dark(#8a4fb0, #c596ea); --c4: light-dark(#a37b00, #dcb838); --c5: light-dark(#b8326f, #f084b4);
  --c6: light-dark(#21868c, #62c9cf); --c7: light-dark(#6b6f76, #a9aeb6); }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.2rem 1rem 4rem; max-width: 76rem; background: var(--bg); color: var(--fg);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "Noto Sans CJK SC", sans-serif; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 0 0 .2rem; } h2 { font-size: 1.2rem; margin: 2.2rem 0 .3rem; }
h3 { font-size: 1rem; margin: 1.2rem 0 .3rem; } p { margin: .3rem 0 .7rem; max-width: 46rem; }
.soft, figcaption, caption { color: var(--soft); font-size: .9rem; } caption { text-align: left; padding: .2rem 0; }
.scroll { overflow-x: auto; margin: .4rem 0 1rem; } table { border-collapse: collapse; font-size: .92rem; }
th, td { padding: .28rem .9rem .28rem 0; text-align: left; vertical-align: top; border-bottom: 1px solid var(--line);
  white-space: nowrap; }
th { color: var(--soft); font-weight: 600; } td.wrap { white-space: normal; min-width: 14rem; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; }
code, pre { font: .86rem/1.45 ui-monospace, "SF Mono", Menlo, Consolas, monospace; }
pre { background: var(--card); padding: .7rem .9rem; overflow-x: auto; border-radius: .4rem; }
details { margin: .5rem 0; } summary { cursor: pointer; color: var(--soft); } figure { margin: .6rem 0 1.2rem; }
.grid { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(21rem, 100%), 1fr)); gap: .4rem 2rem; }
.good { color: var(--good); font-weight: 600; } .bad { color: var(--bad); font-weight: 600; }
.legend { display: flex; flex-wrap: wrap; gap: .1rem 1.1rem; font-size: .88rem; margin-bottom: .2rem; }
.key { display: inline-block; width: .75rem; height: .75rem; border-radius: .15rem; margin-right: .35rem; }
svg { max-width: 100%; height: auto; display: block; } svg text { fill: var(--fg); font-size: 12px; }
svg .soft { fill: var(--soft); font-size: 12px; } svg .axis { stroke: var(--line); stroke-width: 1; }
""" + "".join(
    f".c{n} {{ fill: var(--c{n}); }} .s{n} {{ stroke: var(--c{n}); }} .b{n} {{ background: var(--c{n}); }}\n"
    for n in range(8)
)


_VOID = ("br", "wbr")  # elements without content; a closing tag would break the line once more


class Html(str):
    """Markup. Any other text is escaped where it is put into a page."""

    __slots__ = ()

    def _repr_html_(self) -> str:
        return self


def escaped(content: Any) -> Html:
    """Returns a text as markup that shows it; markup as it is; an iterable of both joined; None as nothing."""
    if isinstance(content, Html):
        return content
    if content is None:
        return Html("")
    if isinstance(content, Iterable) and not isinstance(content, str):
        return Html("".join(escaped(part) for part in content))
    return Html(html.escape(visible(str(content))))


def tag(name: str, *content: Any, **attributes: Any) -> Html:
    """Returns `<name attributes>content</name>`, or `<br>`.

    Args:
        name: of the element.
        content: texts, which are escaped, and markup.
        attributes: a trailing underscore goes (`class_`), others become dashes; those that are None are left out.
    """
    given = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escaped(str(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    return Html(f"<{name}{given}>" if name in _VOID else f"<{name}{given}>{escaped(content)}</{name}>")


def table(
    header: Sequence[Any], rows: Iterable[Sequence[Any]], *, numeric: Sequence[int] = (), caption: str = ""
) -> Html:
    """Returns a table that scrolls sideways where it does not fit.

    Args:
        header: names of the columns; empty for none.
        rows: their cells, texts or markup.
        numeric: numbers of the columns that are aligned to the right.
        caption: a line above it.
    """

    def line(cells: Sequence[Any], kind: str) -> Html:
        return tag("tr", [tag(kind, cell, class_="number" if n in numeric else None) for n, cell in enumerate(cells)])

    parts = [tag("caption", caption)] if caption else []
    parts += [tag("thead", line(header, "th"))] if header else []
    return tag("div", tag("table", parts, tag("tbody", [line(row, "td") for row in rows])), class_="scroll")


def section(title: str, *content: Any, note: str = "") -> Html:
    """Returns a part of a page under a heading, with a soft line below it that says how to read it."""
    return tag("section", tag("h2", title), tag("p", note, class_="soft") if note else None, content)


def fold(summary: str, *content: Any) -> Html:
    """Returns content that is folded away until somebody asks for it."""
    return tag("details", tag("summary", summary), content)


def legend(names: Sequence[str]) -> Html:
    """Returns the colours of the series, in their order."""
    keys = [tag("span", tag("span", class_=f"key b{n % 8}"), name) for n, name in enumerate(names)]
    return tag("div", keys, class_="legend")


def page(title: str, *sections: Any, subtitle: str = "", style: str = "") -> str:
    """Returns a whole document.

    Args:
        title: its heading.
        sections: its parts.
        subtitle: a soft line below the heading.
        style: more CSS.
    """
    head = (
        '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escaped(title)}</title><style>{STYLE}{style}</style>"
    )
    body = escaped([tag("h1", title), tag("p", subtitle, class_="soft") if subtitle else None, sections])
    return f'<!doctype html>\n<html lang="en"><head>{head}</head><body>{body}</body></html>\n'


def frame(document: str, title: str) -> Html:
    """Returns a document as a frame, which a notebook shows without mixing its style with its own."""
    return tag("iframe", srcdoc=document, style="width: 100%; height: 46rem; border: 0", title=title)
