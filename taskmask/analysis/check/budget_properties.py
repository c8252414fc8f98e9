"""The laws of how much is masked, over many draws: the share and its spread, and rows that stay empty.

A row of `n` maskable tokens of which a share `r` is to be masked has `r n` tokens masked on average. What is seen in a
few hundred draws is held against that with a tolerance of six standard errors, so that a policy which keeps its word
fails one time in a thousand million; and draws are functions of a seed, so what passes once passes always.

Shapes: N draws, K views, T tokens of a row.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from taskmask.analysis.check.bench import Bench, Wrong
from taskmask.analysis.check.cases import LONG, Case, Line, copies

ERRORS = 6  # standard errors
FEWEST, MOST = 400, 4000  # draws of a row
PIECES, TOGETHER = 4, 4  # a policy that promises nothing may mask a row in as few pieces, and as many runs in one go

# Options, and the share of the run that is over: as they are, at a half, and at the end of a schedule.
VARIANTS: tuple[tuple[dict[str, Any], float], ...] = (
    ({}, 0.0),
    ({"ratio": 0.5, "ratio_end": None}, 0.0),
    ({"ratio": 0.3, "ratio_end": 0.05, "ratio_schedule": "linear"}, 1.0),
)


@dataclass(frozen=True)
class Counts:
    """How much of one row was masked in many draws.

    Args:
        script: its script.
        tokens: its maskable tokens, those that `always` masks included.
        always: tokens that `always` masks.
        word_sizes: int [words], maskable tokens of each word.
        share: what the options say is to be masked.
        found: int [K, N], tokens that were masked.
        run: masked tokens that stand side by side, on average.
    """

    script: str
    tokens: int
    always: int
    word_sizes: np.ndarray
    share: float
    found: np.ndarray
    run: float = math.inf

    @property
    def wanted(self) -> float:
        """Tokens that are to be masked on average."""
        return max(self.share * self.tokens, float(self.always))

    @property
    def longest_word(self) -> int:
        """Tokens of the longest word."""
        return int(self.word_sizes.max(initial=0))

    def errors(self) -> np.ndarray:
        """Float [K], the standard error of the mean, as large as it may honestly be.

        Whole numbers cannot vary less than by rounding up and down. Where less is masked than is wanted, the variance
        is that of a policy which masks more; where nothing is, that of one which masks all of the row or nothing.
        """
        part = self.wanted % 1
        mean, variance = self.found.mean(axis=1), self.found.var(axis=1)
        grown = variance * np.maximum(1, self.wanted / np.maximum(mean, 1e-9))
        nothing = self.tokens**2 * self.share * (1 - self.share)
        variance = np.maximum(np.where(mean > 0, grown, nothing), part * (1 - part))
        return np.sqrt(variance / self.found.shape[1])


def count(bench: Bench, case: Case) -> Counts:
    """Masks the first row of a case many times, as rows of the same content with other numbers; remembers it."""
    line, key = case.lines[0], (case.lines[0], repr(case.options), case.progress)
    if key not in bench.counted:
        bench.counted[key] = _count(bench, case, line)
    return bench.counted[key]


def _count(bench: Bench, case: Case, line: Line) -> Counts:
    masker = bench.made(case.options)
    share = masker.config.ratio_at(case.progress)
    num = min(MOST, max(FEWEST, math.ceil(60 / max(share, 1e-9))))
    rows, mask = bench.mask(Case(copies(line, num), case.seed, case.epoch, case.progress, 0, case.options))
    always = bench.always(rows, masker)[0]
    words = rows.words[0][rows.maskable[0] & (rows.words[0] >= 0)]
    sizes = np.bincount(words)
    found, starts = mask.sum(axis=2), mask & ~np.pad(mask, ((0, 0), (0, 0), (1, 0)))[:, :, :-1]
    run = float(found.sum()) / max(int(starts.sum()), 1)
    return Counts(line.script, int((rows.maskable[0] | always).sum()), int(always.sum()), sizes, share, found, run)


def not_more(bench: Bench, case: Case) -> Wrong | None:
    """No more than the share is masked on average, give or take one word: the last may pass the budget."""
    counts = count(bench, case)
    over = counts.found.mean(axis=1) - counts.wanted - max(counts.longest_word, 1) * (counts.share > 0)
    return _said(counts, "at most ") if (over > ERRORS * counts.errors() + 1e-9).any() else None


def mean_budget(bench: Bench, case: Case) -> Wrong | None:
    """The share is met on average."""
    counts = count(bench, case)
    off = np.abs(counts.found.mean(axis=1) - counts.wanted)
    return _said(counts) if (off > ERRORS * counts.errors() + 1e-9).any() else None


def off_over_all(found: Sequence[Counts]) -> str:
    """Says by how much the mean over all rows together is off, which shows what is too little to show in one of them;
    "" where it is within the tolerance."""
    off = [float((counts.found.mean(axis=1) - counts.wanted).mean()) for counts in found]
    variances = [float((counts.errors() ** 2).mean()) / len(counts.found) for counts in found]
    if abs(sum(off)) <= ERRORS * math.sqrt(sum(variances)) + 1e-9:
        return ""
    tokens, wanted = sum(counts.tokens for counts in found), sum(counts.wanted for counts in found)
    return f"{(wanted + sum(off)) / tokens:.2%} of all tokens are masked on average; expected {wanted / tokens:.2%}"


def _said(counts: Counts, bound: str = "") -> Wrong:
    means = counts.found.mean(axis=1)
    mean = float(means[np.abs(means - counts.wanted).argmax()])
    found = f"{mean:.2f} of {counts.tokens} tokens ({mean / max(counts.tokens, 1):.1%}) are masked on average"
    return Wrong(0, None, f"{found}; expected {bound}{counts.wanted:.2f} ({counts.share:.1%})")


def empty_rows(bench: Bench, case: Case) -> Wrong | None:
    """A row has nothing masked no more often than the share implies."""
    counts = count(bench, case)
    limit = most_empty(counts, bench.made(case.options).promises)
    num = counts.found.shape[1]
    empty = float((counts.found == 0).mean(axis=1).max())
    if empty <= limit + ERRORS * math.sqrt(limit * (1 - limit) / num):
        return None
    says = f"nothing is masked in {empty:.1%} of the draws of a row of {counts.tokens} tokens"
    return Wrong(0, None, f"{says}; at {counts.share:.0%} that is to happen in at most {limit:.1%}")


def most_empty(counts: Counts, promises: Sequence[str]) -> float:
    """Returns how often a row may have nothing masked.

    - Budgets that are exact: where `r n` is below 1 it is rounded to 0 with probability 1 - r n.
    - Budgets that are missed by less than a word: an arc of `b` tokens, at a random place of the words laid around a
      circle, holds no start of a word as often as the words are longer than `b`: sum(max(0, size - b)) / n. Words that
      are drawn one by one, each with probability `r`, are all left out with probability (1 - r) ** words.
    - Nothing is promised: as if a row were masked in four pieces, (1 - r) ** 4, or in as many as a quarter of the runs
      of masked tokens that it has room for; 1 - r where it is masked as a whole or not at all. Rows that are short, or
      in which the policy finds less than half of what it is to mask even where it masks something, may always be empty.
    """
    wanted, share = counts.wanted, counts.share
    if counts.always:
        return 0.0
    if "exact_budget" in promises:
        return max(0.0, 1 - wanted)
    if "budget_within_a_word" in promises and counts.tokens:
        low, part = math.floor(wanted + 1e-9), max(wanted - math.floor(wanted + 1e-9), 0.0)
        without = [float(np.maximum(counts.word_sizes - budget, 0).sum()) / counts.tokens for budget in (low, low + 1)]
        return max(without[0] * (1 - part) + without[1] * part, (1 - share) ** len(counts.word_sizes))
    some = counts.found[counts.found > 0]
    if counts.tokens < LONG // 2 or not len(some) or some.mean() < wanted / 2:
        return 1.0
    is_whole = np.isin(counts.found, (0, counts.tokens)).all()
    return (1 - share) ** (1 if is_whole else max(PIECES, counts.tokens / counts.run / TOGETHER))


def spread(found: Sequence[Counts]) -> str:
    """Says between what shares the masks of long rows lie."""
    shares = [(counts.found / counts.tokens).reshape(-1) for counts in found if counts.tokens >= LONG // 2]
    if not shares:
        return ""
    low, high, deviation = np.min(shares), np.max(shares), np.concatenate(shares).std()
    return f"rows of {LONG} tokens: {low:.1%} to {high:.1%} of a row, standard deviation {deviation:.1%}"


def emptiness(found: Sequence[Counts]) -> str:
    """Says how often nothing is masked in a long row, and in one of one token."""
    parts = []
    for name, some in (
        (f"{LONG} tokens", [counts for counts in found if counts.tokens >= LONG // 2]),
        ("1 token", [counts for counts in found if counts.tokens == 1]),
    ):
        if some:
            parts.append(f"{np.mean([(counts.found == 0).mean() for counts in some]):.1%} of the rows of {name}")
    return f"nothing is masked in {' and in '.join(parts)}" if parts else ""


def share_masked(found: Sequence[Counts]) -> str:
    """Says what share of all tokens is masked, and in which scripts it is least and most."""
    if not found:
        return ""

    def share(some: Sequence[Counts]) -> float:
        return sum(int(c.found.sum()) for c in some) / max(sum(c.tokens * c.found.size for c in some), 1)

    scripts = dict.fromkeys(counts.script for counts in found)
    shares = sorted((share([counts for counts in found if counts.script == script]), script) for script in scripts)
    least, most = (f"{value:.2%} in {script}" for value, script in (shares[0], shares[-1]))
    return f"{share(found):.2%} of all tokens where {found[0].share:.2%} are to be masked; {least} to {most}"


def leaves_the_ratio(given: Sequence[Counts], others: Sequence[Counts]) -> bool:
    """Whether rows have the same share masked though their options, those of `others`, ask for other shares."""
    before, after = (
        np.mean([counts.found.mean() / max(counts.tokens, 1) for counts in some if counts.tokens >= LONG // 2] or [0.0])
        for some in (given, others)
    )
    return bool(before > 0 and abs(before - after) < 0.02 * before)


def nothing_at_all(found: Sequence[Counts]) -> str:
    """Says so where nothing is masked in any draw of any row, though some of them ask for it."""
    if any(counts.found.any() for counts in found) or not any(counts.wanted for counts in found):
        return ""
    return "nothing is masked in any draw of any row"


def is_long(line: Line) -> bool:
    """Whether a row is long enough to tell one share from another."""
    return len(line.content) >= LONG
