"""The conformance kit: does a masker keep the laws, over vocabularies, scripts and lengths of rows?

In a test suite of one's own:

    from taskmask import check_masker

    def test_my_masker():
        check_masker("mine power=2", user_dir="my_masker.py").assert_passed()
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from taskmask.analysis.check import budget_properties as budget
from taskmask.analysis.check import invariance_properties as sameness
from taskmask.analysis.check import mask_properties as laws
from taskmask.analysis.check.bench import Bench, Unfit, Wrong
from taskmask.analysis.check.cases import LENGTHS, TEXTS, Case, Columns, made_up, rows_of, smallest, vocabularies
from taskmask.analysis.check.other_process import Elsewhere, other_process
from taskmask.analysis.check.report import Counterexample, Law, Report
from taskmask.config.settings import Component
from taskmask.errors import ConfigError, TaskmaskError, did_you_mean
from taskmask.maskers.base import PROMISES
from taskmask.maskers.policy import read_policy
from taskmask.registry import load_user_dir

Look = Callable[[Bench, Case], Wrong | None]

NUM_EPOCHS = 8  # in which the masks of every row are looked at
VARIANTS: tuple[dict[str, Any], ...] = ({}, {"ratio": 0.0, "ratio_end": None}, {"ratio": 1.0, "ratio_end": None})
SPEED_ROWS, SPEED_SECONDS = 128, 0.15
_LEAVES = "the same at any ratio: a policy that decides itself how much it masks promises own_budget"


def check_masker(
    policy: str,
    *,
    user_dir: str | Path | Sequence[str | Path] = (),
    columns: Columns | None = None,
    advance: Callable[[float], Any] = lambda share: None,
) -> Report:
    """Checks a registered masker over vocabularies, scripts and lengths of rows.

    Args:
        policy: its name, and its options where they are not the defaults: "span p=0.3 longest=5".
        user_dir: file or folder of the plug-in that registers it, or several.
        columns: columns(rows, name) returns the values of a column that the masker reads, [B, T] or [B]; without it
            columns are token-aligned and hold 0 and 1.
        advance: is told, time and again, the share of the work that was just done; together at most 1.

    Raises:
        ConfigError: no such masker, a wrong option, a plug-in that does not run, or a promise that nobody knows.
    """
    for path in [user_dir] if isinstance(user_dir, str | Path) else user_dir:
        load_user_dir(str(path))
    chosen = read_policy(policy)
    benches, notes = _benches(chosen, columns or made_up)
    is_made_up = bool(benches[0].masker.columns) and columns is None
    if is_made_up:
        names = ", ".join(benches[0].masker.columns)
        notes += (f"columns made up for it, 0 and 1 for each token: {names}; check_masker(columns=...) takes others",)
    check = _Check(benches, advance, is_made_up)
    check.reach_all()
    kinds = tuple(bench.kind for bench in benches)
    found = tuple(check.found)
    speed = 0.0 if any(law.status == "broken" for law in found[:3]) else _tokens_per_second(benches[-1])
    *short, long = map(str, LENGTHS)
    rows = f"{len(TEXTS)} scripts, rows of {', '.join(short)} and {long} tokens"
    return Report(policy, found, speed, kinds, rows, notes)


def _benches(chosen: Component, columns: Columns) -> tuple[list[Bench], tuple[str, ...]]:
    """Returns the masker with each vocabulary, and notes on those that it cannot be made with, e.g. as a list names a
    piece that is not in it."""
    vocabs, notes = vocabularies()
    benches, errors = [], []
    for kind, vocab in vocabs.items():
        try:
            benches.append(Bench(kind, vocab, chosen, columns))
        except ConfigError as error:
            errors.append((kind, error))
    if not benches:
        raise errors[0][1]
    for promise in benches[0].masker.promises:
        if promise not in PROMISES:
            expected, near = f"some of {', '.join(PROMISES)}", did_you_mean(promise, PROMISES)
            raise ConfigError(f"promises {promise!r}", where=f"masker {chosen.name}", expected=expected, fix=near)
    return benches, (*notes, *(f"{kind} is left out: {error}" for kind, error in errors))


@dataclass
class _Check:
    """The laws that were looked at so far.

    Args:
        benches: the masker with each vocabulary.
        advance: is told of progress.
        is_made_up: whether the masker reads columns, and none were given.
    """

    benches: list[Bench]
    advance: Callable[[float], Any]
    is_made_up: bool = False
    found: list[Law] = field(default_factory=list)

    @property
    def promises(self) -> Sequence[str]:
        return self.benches[0].masker.promises

    def reach_all(self) -> None:
        """Looks at one law after the other."""
        self.law("runs on every row", laws.runs, self.all_cases())
        if (
            self.found[-1].status == "broken" and not self.is_endless
        ):  # the laws that follow can be looked at on the rows that are left
            for bench in self.benches:
                bench.lines = tuple(line for line in bench.lines if not laws.runs(bench, Case((line,))))
        self.law("returns bool [views, rows, tokens]", laws.shape, self.all_cases())
        self.advance(0.1)
        self.law("no special piece, no padding", laws.specials, self.all_cases())
        self.law("no piece that masker.never names", laws.lists, self.all_cases())
        self.law("leaves the rows as they are", laws.untouched, self.all_cases())
        self.law("prints nothing", laws.silent, self.few_cases())
        self.advance(0.15)
        if "same_every_epoch" in self.promises:
            self.law("the same in every epoch", sameness.same_every_epoch, self.few_cases())
        else:
            few = self.few_cases()
            self.law("drawn anew in every epoch", sameness.drawn_anew, few, says=sameness.ANEW, shrink=False)
            self.law("drawn for each row", sameness.drawn_for_each_row, few, says=sameness.ROWS, shrink=False)
        self.budgets()
        self.law("whole words", laws.whole_words, self.all_cases(), "whole_words", self.torn())
        self.advance(0.1)
        self.law("any batch, order and padding", sameness.batches, self.few_cases(), says=sameness.BATCHES)
        self.law("no global state", sameness.global_state, self.few_cases(), says=sameness.STATES)
        self.advance(0.2)
        self.law("any world size, any resume", sameness.world_sizes, self.few_cases(), says=sameness.WORLDS)
        self.advance(0.1)
        self.workers()
        self.advance(0.05)

    def all_cases(self) -> list[tuple[Bench, Case]]:
        """All rows of every vocabulary, in several epochs, at the share that was asked for, at 0 and at 1."""
        return [
            (bench, Case(bench.lines, epoch=epoch, options=options))
            for bench in self.benches
            for options in VARIANTS
            if bench.lines and bench.can(options)
            for epoch in range(NUM_EPOCHS)
        ]

    def few_cases(self) -> list[tuple[Bench, Case]]:
        """All rows of every vocabulary, once."""
        return [(bench, Case(bench.lines)) for bench in self.benches if bench.lines]

    def law(
        self,
        name: str,
        look: Look,
        cases: Sequence[tuple[Bench, Case]],
        promise: str = "",
        says: str = "",
        shrink: bool = True,
        waived: bool = False,
    ) -> None:
        """Looks at a law in one case after the other, up to the first in which it is broken.

        Args:
            name: of the law.
            look: finds what is wrong.
            cases: where it is looked at.
            promise: what the masker must have promised.
            says: what is told of a law that is kept, or not promised.
            shrink: whether a smaller case may break it in another way.
            waived: whether something that the masker promises rules it out.
        """
        if waived or (promise and promise not in self.promises):
            self.found.append(Law(name, "not promised", says))
            return
        law = Law(name, "kept" if cases else "not reached", says or f"{sum(len(c.lines) for _, c in cases):,} rows")
        try:
            for bench, case in cases:
                if wrong := look(bench, case):
                    is_quick = shrink and not bench.is_endless
                    case, wrong = _smallest(bench, case, wrong, look) if is_quick else _alone(case, wrong)
                    law = _broken(name, bench, case, wrong)
                    break
        except Unfit as error:
            law = Law(name, "not reached", str(error))
        if law.status == "not reached" and any(before.status == "broken" for before in self.found):
            law = Law(name, "not reached", "see above")
        self.found.append(law)
        if self.is_endless:  # no other law can be looked at
            for bench in self.benches:
                bench.lines = ()

    @property
    def is_endless(self) -> bool:
        """Whether the masker once was not done in time."""
        return any(bench.is_endless for bench in self.benches)

    def torn(self) -> str:
        """Says how many words are masked in part."""
        try:
            found = [laws.torn_words(bench, case) for bench, case in self.few_cases()]
        except Unfit:
            return ""
        torn, touched = (sum(numbers[place] for numbers in found) for place in (0, 1))
        if not touched:
            return ""
        return f"{torn / touched:.1%} of the words of several tokens that are masked are masked in part"

    def budgets(self) -> None:
        """Looks at the laws of how much is masked."""
        is_random = "same_every_epoch" in self.promises or self.found[-1].status != "broken"  # else many draws are one
        cases = [
            (bench, Case((line,), progress=progress, options=options))
            for options, progress in budget.VARIANTS
            if is_random
            for bench in self.benches
            if bench.can(options)
            for line in bench.lines
            if line.script in TEXTS and (budget.is_long(line) or not options)
        ]
        given = [(bench, case) for bench, case in cases if not case.options]
        counted = self.counted(cases)
        as_given = counted[: len(given)]
        mean, spread = budget.share_masked(as_given), budget.spread(as_given)
        is_own = "own_budget" in self.promises
        self.law("no more than the ratio", budget.not_more, cases, says=mean, waived=is_own)
        if self.found[-1].status == "broken" and budget.leaves_the_ratio(as_given, counted[len(given) :]):
            self.found[-1] = dataclasses.replace(self.found[-1], says=f"{self.found[-1].says}; {_LEAVES}")
        self.law("the ratio on average", budget.mean_budget, cases, "mean_budget", mean)
        if self.found[-1].status == "kept":
            for options, _ in budget.VARIANTS:
                some = [found for found, (_, case) in zip(counted, cases, strict=True) if case.options == options]
                if off := budget.off_over_all(some):
                    self.found[-1] = Law(self.found[-1].name, "broken", off)
        if "budget_within_a_word" in self.promises:
            cases = self.all_cases()
            self.law("the budget in every row, but for a word", laws.budget_within_a_word, cases, says=spread)
        else:
            self.law("the budget in every row", laws.exact_budget, self.all_cases(), "exact_budget", spread)
        empty, name = budget.emptiness(as_given), "no row empty without need"
        self.law(name, budget.empty_rows, given, says=empty, waived=is_own)
        nothing = "" if self.is_made_up else budget.nothing_at_all(counted)
        if nothing and self.found[-1].status == "kept":
            self.found[-1] = _broken(name, *given[-1], Wrong(0, None, nothing))

    def counted(self, cases: Sequence[tuple[Bench, Case]]) -> list[budget.Counts]:
        """Masks each row many times, which takes longest; none where the masker fails, as the laws will say."""
        found = []
        for bench, case in cases:
            try:
                found.append(budget.count(bench, case))
            except Unfit:
                return []
            finally:
                self.advance(0.3 / len(cases))
        return found

    def workers(self) -> None:
        """Looks at the masks of another process."""
        name, cases = "any number of workers", self.few_cases()
        if self.found[1].status != "kept":
            self.found.append(Law(name, "not reached", "see above"))
            return
        try:
            wrong = other_process([bench for bench, _ in cases], [case for _, case in cases])
        except Elsewhere as error:
            self.law(name, sameness.global_state, cases, says=f"made anew in this process: {error}")
            return
        if wrong:
            (bench, case), found = cases[wrong[0]], wrong[1]
            self.found.append(_broken(name, bench, *_alone(case, found)))
        else:
            self.found.append(Law(name, "kept", "another process, which makes the masker anew, masks the same"))


def _smallest(bench: Bench, case: Case, wrong: Wrong, look: Look) -> tuple[Case, Wrong]:
    """Returns the smallest case like the one in which a law is broken."""

    def again(smaller: Case) -> Wrong | None:
        try:
            return look(bench, smaller)
        except Unfit:
            return None

    alone, _ = _alone(case, wrong)
    found = again(alone)
    return smallest(alone, found, again) if found else smallest(case, wrong, again)


def _alone(case: Case, wrong: Wrong) -> tuple[Case, Wrong]:
    """Returns a case of the wrong row alone."""
    return dataclasses.replace(case, lines=(case.lines[wrong.row],)), wrong._replace(row=0)


def _broken(name: str, bench: Bench, case: Case, wrong: Wrong) -> Law:
    """Returns a law that is broken, with the case as its counterexample."""
    at = wrong.position
    rows = rows_of(bench.vocab, dataclasses.replace(case, extra=max(case.extra, at or 0)))  # it may be in the padding
    lines = []
    for row, length in enumerate(rows.lengths.tolist()):
        here = at if row == wrong.row else None
        pieces = bench.vocab.pieces(rows.tokens[row, : max(length, (here or 0) + 1)])
        if here is not None:
            pieces[here] = f"[[{pieces[here]}]]"
        lines.append(_cut(pieces, here or 0))
    says = wrong.says if at is None else f"position {at} of row {rows.ids[wrong.row]}: {wrong.says}"
    tokens, ids = tuple(line.content for line in case.lines), tuple(line.id for line in case.lines)
    script, rng = case.lines[wrong.row].script, (case.seed, case.epoch, case.progress)
    return Law(name, "broken", says, Counterexample(bench.kind, script, tuple(lines), tokens, ids, *rng, case.options))


def _cut(pieces: list[str], middle: int, around: int = 12) -> str:
    """Returns pieces as a line, of a long row only those around a position."""
    start, stop = max(0, middle - around), middle + around + 1
    before, after = "... " if start else "", " ..." if stop < len(pieces) else ""
    return f"{before}{' '.join(pieces[start:stop])}{after}"


def _tokens_per_second(bench: Bench) -> float:
    """Returns how many tokens a second the masker chooses among, in rows of English."""
    lines = [line for line in bench.lines if line.script == "english" and budget.is_long(line)]
    if not lines:
        return 0.0
    case = Case(budget.copies(lines[0], SPEED_ROWS))
    rows, rng = bench.rows(case), case.rng()
    everything = np.arange(SPEED_ROWS)
    best, end = float("inf"), time.perf_counter() + SPEED_SECONDS
    while best == float("inf") or time.perf_counter() < end:
        fresh, start = rows.take(everything), time.perf_counter()
        try:
            bench.masker(fresh, rng.take(everything))
        except TaskmaskError:  # a special piece, of which a law has told
            return 0.0
        best = min(best, time.perf_counter() - start)
    return float(rows.lengths.sum()) / best
