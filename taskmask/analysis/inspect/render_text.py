"""An inspection in the terminal, and its figures as JSON types."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from taskmask.analysis.inspect.groupings import Groups
from taskmask.analysis.inspect.mask_stats import LONGEST, Observed
from taskmask.analysis.inspect.records import Seen, Shown
from taskmask.errors import visible
from taskmask.system.json_output import json_types
from taskmask.system.text_tables import aligned, width_of

BAR = 24
TOP = 10  # words to show
BY_CHANCE = 1e-3  # how likely it may be that any word is named that the policy does not prefer or avoid
SHADES = (0, 230, 223, 216, 209)  # of the 256 colours, for each fifth: from nothing to a strong orange
RESET = "\x1b[0m"


def lines_of(seen: Seen, colour: bool, width: int) -> list[str]:
    """Returns the inspection as `visible` lines; with colour, masked pieces are underlined, and tints are shown."""
    lines = [*map(visible, seen.about), "", *_rows(seen.shown, colour, width)]
    if seen.observed:
        figures = ["", *aligned(summary_table(seen)), *_charts(seen), *_overlaps(seen), *_words(seen)]
        lines += map(visible, figures)
    return lines


def _rows(shown: Sequence[Shown], colour: bool, width: int) -> list[str]:
    label = max((len(one.policy) for one in shown), default=0)
    key = "masked pieces underlined, tinted where they are masked often" if colour else "[masked] pieces"
    lines, before = [f"rows, {key}:"], None
    for one in shown:
        lines += [""] if one.row != before else []
        before = one.row
        painted = _painted(one) if colour else _bracketed(one)
        for number, text in enumerate(_wrapped(one, painted, max(width - label - 2, 20))):
            lines.append(f"{visible(one.policy) if not number else '':<{label}}  {text}")
    return lines


def spaced(one: Shown) -> list[tuple[str, bool]]:
    """Returns the text of each piece, and whether a space stands before it."""
    return [
        (visible(_byte(piece)).replace("▁", "") or "␣", number > 0 and piece.startswith("▁"))
        for number, piece in enumerate(one.pieces)
    ]


def _byte(piece: str) -> str:
    """Returns the sign that a piece such as `<0x3C>` stands for, if it is one of ASCII; else the piece."""
    found = re.fullmatch("<0x([2-7][0-9A-F])>", piece)
    sign = chr(int(found[1], 16)) if found else ""
    return sign if sign.isprintable() and sign.strip() else piece


def _bracketed(one: Shown) -> list[str]:
    """Returns the pieces, with a bracket around each run of masked ones."""
    inside = np.concatenate([[False], one.chosen, [False]])
    return [
        "[" * bool(inside[n + 1] and not inside[n]) + piece + "]" * bool(inside[n + 1] and not inside[n + 2])
        for n, (piece, _) in enumerate(spaced(one))
    ]


def _painted(one: Shown) -> list[str]:
    """Returns the pieces in colour."""
    painted = []
    for number, (piece, _) in enumerate(spaced(one)):
        level = min(int(one.tint[number] * len(SHADES)), len(SHADES) - 1)
        if one.chosen[number]:
            painted.append(f"\x1b[1;4;38;5;16;48;5;{SHADES[max(level, 2)]}m{piece}{RESET}")
        else:
            painted.append(f"\x1b[38;5;16;48;5;{SHADES[level]}m{piece}{RESET}" if level else piece)
    return painted


def _wrapped(one: Shown, painted: Sequence[str], width: int) -> Iterator[str]:
    """Yields the lines of a row: words stay whole where they fit, and lines may end between words without a space."""
    line, used = "", 0
    starts = [n for n in range(len(painted)) if not n or one.words[n] < 0 or one.words[n] != one.words[n - 1]]
    for start, stop in zip(starts, [*starts[1:], len(painted)], strict=True):
        space = spaced(one)[start][1]
        word, size = "".join(painted[start:stop]), width_of("".join(map(plain, painted[start:stop])))
        if used and used + space + size > width:
            yield line
            line, used, space = "", 0, False
        line += " " * (space and used > 0) + word
        used += size + (space and used > 0)
    if line:
        yield line


def plain(text: str) -> str:
    """Returns a text without its colours."""
    return re.sub("\x1b[^m]*m", "", text)


def summary_table(seen: Seen) -> list[tuple[str, ...]]:
    """Returns the head and a row a policy: the share that is masked, its spread, spans, replacement, hardness."""
    header = ["policy", "asked", "masked", "spread by row", "empty rows", "mean span", "<mask>", "random", "kept"]
    rows = []
    for one in seen.observed:
        total = max(sum(one.replaced.values()), 1)
        shares = [f"{one.replaced[kind] / total:.1%}" for kind in ("mask", "random", "kept")]
        asked = "own" if one.asked is None else f"{one.asked:.1%}"
        parts = [one.policy, asked, f"{one.ratio:.2%}", f"±{one.spread:.2%}", f"{one.empty:.2%}"]
        rows.append([*parts, f"{one.span:.2f}", *shares])
    if seen.hardness:
        header += ["loss", "accuracy"]
        for row, hard in zip(rows, seen.hardness, strict=True):
            row += [f"{hard.mean_loss:.3f}", f"{hard.accuracy:.1%}"]
    return [tuple(header), *map(tuple, rows)]


def _charts(seen: Seen) -> list[str]:
    lines = []
    for division in drawn(seen):
        shares = [one.shares(division.name) for one in seen.observed]
        highest = max((float(np.nanmax(s)) for s in shares if np.isfinite(s).any()), default=0.0) or 1.0
        hard = [one.losses(division.name) for one in seen.hardness]
        note = ", and the loss in nats" if hard else ""
        lines += ["", f"masked by {division.name} ({division.axis}){note}:"]
        rows = [("", *(one.policy for one in seen.observed))]
        for group, label in enumerate(division.labels):
            if all(np.isnan(share[group]) for share in shares):
                continue
            cells = []
            for number, share in enumerate(shares):
                loss = (
                    f" {hard[number][group]:5.2f}"
                    if hard and np.isfinite(hard[number][group])
                    else " " * 6 * bool(hard)
                )
                cells.append(f"{bar(share[group] / highest, 10)} {share[group]:6.1%}{loss}")
            rows.append((label, *cells))
        lines += aligned(rows)
    spans = [("tokens", *(one.policy for one in seen.observed))]
    for length in range(1, LONGEST + 1):
        parts = [one.spans[length] / max(one.spans.sum(), 1) for one in seen.observed]
        if any(parts):
            name = f"{length}{'+' * (length == LONGEST)}"
            spans.append((name, *(f"{bar(part, 10)} {part:6.1%}" for part in parts)))
    return [*lines, "", "length of runs of masked tokens:", *aligned(spans)]


def drawn(seen: Seen) -> list[Groups]:
    """Returns the divisions that are few enough to be drawn."""
    return [division for division in seen.divisions if division.axis]


def bar(share: float, width: int = BAR) -> str:
    """Returns a share as a bar of block characters."""
    eighths = round(max(0.0, min(share, 1.0)) * width * 8) if math.isfinite(share) else 0
    return ("█" * (eighths // 8) + (" ▏▎▍▌▋▊▉"[eighths % 8]).strip()).ljust(width)


def _overlaps(seen: Seen) -> list[str]:
    if len(seen.observed) < 2:
        return []
    names = [one.policy for one in seen.observed]
    rows = [("", *names), *((a, *(f"{value:.1%}" for value in seen.overlaps[n])) for n, a in enumerate(names))]
    return ["", "overlap (tokens that both mask / that either masks; with itself: in the next epoch):", *aligned(rows)]


def extremes(one: Observed, words: Groups, top: int = TOP) -> tuple[list[tuple[str, float]], list[tuple[str, float]]]:
    """Returns the words that a policy masks most and least, with the share.

    Only those are named whose share is further from the policy's mean than chance would have it, for any of all the
    words; so of a policy that prefers no word none is named.

    **Source:** the bound of Chernoff 1952 for the tail of a binomial distribution.
    """
    seen = one.there[words.name] / np.maximum(words.pieces, 1)  # times that the word was there, over rows and draws
    shares, mean = one.shares(words.name), one.ratio
    with np.errstate(divide="ignore", invalid="ignore"):
        parts = [np.where(a > 0, a * np.log(a / b), 0.0) for a, b in ((shares, mean), (1 - shares, 1 - mean))]
    is_named = seen * (parts[0] + parts[1]) > math.log(2 * len(seen) / BY_CHANCE)

    def named(some: np.ndarray, sign: int) -> list[tuple[str, float]]:
        order = some[np.lexsort((-seen[some], -sign * shares[some]))]
        return [(words.labels[n], float(shares[n])) for n in order[:top]]

    return named(np.flatnonzero(is_named & (shares > mean)), 1), named(np.flatnonzero(is_named & (shares < mean)), -1)


def _words(seen: Seen) -> list[str]:
    lines = ["", "words masked more and less than chance would have it:"]
    for one in seen.observed:
        for kind, words in zip(("most", "least"), extremes(one, seen.divisions[-1]), strict=True):
            text = ", ".join(f"{word} {share:.0%}" for word, share in words)
            lines.append(f"  {one.policy}, {kind}: {text or 'none'}")
    return lines


def figures_of(seen: Seen) -> dict[str, Any]:
    """Returns the figures as JSON types; what is undefined is None."""
    policies = []
    for number, one in enumerate(seen.observed):
        most, least = extremes(one, seen.divisions[-1])
        entry: dict[str, Any] = {
            "policy": one.policy,
            "asked": one.asked,
            "masked": one.ratio,
            "spread": one.spread,
            "empty": one.empty,
            "views": one.views,
            "mean_span": one.span,
            "spans": one.spans[1:].tolist(),
            "replaced": one.replaced,
            "most": dict(most),
            "least": dict(least),
            "by": {d.name: dict(zip(d.labels, one.shares(d.name), strict=True)) for d in drawn(seen)},
        }
        if seen.hardness:
            hard = seen.hardness[number]
            entry |= {"loss": hard.mean_loss, "accuracy": hard.accuracy}
            entry["accuracy_by"] = {
                d.name: dict(zip(d.labels, hard.accuracies(d.name), strict=True)) for d in drawn(seen)
            }
            entry["loss_by"] = {d.name: dict(zip(d.labels, hard.losses(d.name), strict=True)) for d in drawn(seen)}
        policies.append(entry)
    rows = [
        {
            "row": one.row,
            "policy": one.policy,
            "pieces": one.pieces,
            "masked": np.flatnonzero(one.chosen).tolist(),
            "score" if one.is_score else "rate": [round(float(value), 4) for value in one.rate],
        }
        for one in seen.shown
    ]
    return json_types({"about": seen.about, "rows": rows, "policies": policies, "overlaps": seen.overlaps})  # type: ignore[no-any-return]
