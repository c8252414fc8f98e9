"""The parts of the conformance kit: rows, the search for the smallest case, and what a mean and an empty row may be."""

import time

import numpy as np
import pytest

from taskmask.analysis.check import budget_properties, cases
from taskmask.analysis.check.bench import Bench, Unfit, Wrong
from taskmask.analysis.check.budget_properties import Counts, most_empty, off_over_all
from taskmask.analysis.check.cases import KINDS, LENGTHS, LONG, TEXTS, Case, Line, lines_of, smallest, vocabularies
from taskmask.maskers.base import register_masker
from taskmask.maskers.policy import read_policy


@pytest.mark.parametrize("kind", KINDS)
def test_the_rows_are_of_every_script_and_length(kind):
    made = vocabularies()[0]
    if kind not in made:
        pytest.skip("tokenizers is not installed")
    lines = lines_of(made[kind])
    assert len({line.id for line in lines}) == len(lines)
    assert {(line.script, len(line.content)) for line in lines} >= {(s, n) for s in TEXTS for n in LENGTHS}
    assert len(TEXTS) == 8 and LENGTHS[:3] == (0, 1, 2) and LONG >= 64
    several = [np.bincount(made[kind].word_numbers(np.array([line.content]))[0] + 1) for line in lines if line.content]
    assert max(counts[1:].max(initial=0) for counts in several) > 5  # words of several tokens, to be torn apart
    special = made[kind].is_special
    assert any(special[list(line.content)].any() for line in lines if line.content)


def test_vocabularies_are_made_once_and_fast():
    vocabularies()
    start = time.perf_counter()
    assert vocabularies()[0]["bpe"] is vocabularies()[0]["bpe"] and time.perf_counter() - start < 0.1


def test_the_smallest_case_has_nothing_to_leave_out():
    lines = tuple(Line("english", tuple(range(40)), id) for id in range(6))

    def look(case):
        """Wrong where a row holds 7 and 30, and another one 12."""
        rows = [set(line.content) for line in case.lines]
        wrong = any({7, 30} <= one and any(12 in other for other in rows if other is not one) for one in rows)
        return Wrong(0, None, f"{len(rows)} rows") if wrong else None

    case, wrong = smallest(Case(lines), look(Case(lines)), look)
    assert sorted(line.content for line in case.lines) == [(7, 30), (12,)] and wrong.says == "2 rows"
    untouched, _ = smallest(Case(lines), look(Case(lines)), lambda case: None)
    assert untouched.lines == lines
    few, _ = smallest(Case(lines), look(Case(lines)), look, attempts=2)
    assert {len(line.content) for line in few.lines} == {40}


def counts(tokens, share, found, words=(), always=0):
    return Counts("english", tokens, always, np.array(words, int), share, np.array([found]))


def test_how_often_a_row_may_be_empty():
    found = [1, 0, 0, 0]
    assert most_empty(counts(2, 0.15, found), ("exact_budget",)) == pytest.approx(0.7)
    assert most_empty(counts(20, 0.15, found), ("exact_budget",)) == 0
    assert most_empty(counts(20, 0.15, found, always=1), ()) == 0
    # 3 of 20 tokens in words of 10, 5 and 5: an arc of 3 lies within a word at 7 + 2 + 2 of 20 places
    within = most_empty(counts(20, 0.15, found, (10, 5, 5)), ("budget_within_a_word",))
    assert within == pytest.approx(max(11 / 20, 0.85**3))
    assert most_empty(counts(20, 0.15, found, (1,) * 20), ("budget_within_a_word",)) == pytest.approx(0.85**20)
    assert most_empty(counts(96, 0.15, [14] * 4), ()) == pytest.approx(0.85**4)
    assert most_empty(counts(96, 0.15, [1] * 4), ()) == 1 and most_empty(counts(3, 0.15, [1] * 4), ()) == 1


def test_the_tolerance_of_a_mean():
    even = counts(10, 0.3, [3] * 400)  # whole numbers that need not vary
    assert even.errors()[0] == 0 and even.wanted == pytest.approx(3)
    assert counts(5, 0.3, [1, 2] * 200).errors()[0] == pytest.approx(0.5 / 20)
    assert counts(5, 0.3, [1] * 400).errors()[0] == pytest.approx(0.5 / 20)  # must round, so it should have varied
    assert counts(10, 0.1, [0] * 400).errors()[0] == pytest.approx(10 * 0.3 / 20)  # all or nothing
    assert counts(10, 0.15, [0] * 10, always=4).wanted == 4


def test_rows_together_show_what_one_of_them_does_not():
    random = np.random.default_rng(0)
    fair = [counts(96, 0.15, random.binomial(96, 0.15, 400)) for _ in range(32)]
    low = [counts(96, 0.15, random.binomial(96, 0.145, 400)) for _ in range(32)]
    assert off_over_all(fair) == ""
    assert off_over_all(low).startswith("14.5") and off_over_all(low).endswith("expected 15.00%")
    assert all(abs(c.found.mean() - c.wanted) < budget_properties.ERRORS * c.errors()[0] for c in low)


def test_a_failure_has_the_words_of_a_run():
    @register_masker("raising")
    def raising(batch, rng):
        """Raises."""
        return batch.columns["nothing"]

    bench = Bench("bpe", vocabularies()[0]["bpe"], read_policy("raising"), cases.made_up)
    with pytest.raises(
        Unfit, match=r"masker raising, row 0, .*test_check_parts.py:\d+: reads column 'nothing', which it does not"
    ):
        bench.mask(Case(bench.lines))
