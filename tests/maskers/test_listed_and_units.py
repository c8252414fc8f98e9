"""Spans of a column: whole, in the number and by the probabilities that were asked for; and units of several words."""

import numpy as np
import pytest

from taskmask.data.rng import RowRng
from taskmask.errors import ConfigError
from taskmask.maskers.base import build_masker
from taskmask.maskers.runs import spans_of
from taskmask.registry import MASKERS

NUMBERS = [0, 1, 1, 1, 0, 2, 3, 3, 0, 0, 4, 0]  # of the tokens after <s>: spans of 3, 1, 2 and 1
SPANS = ([2, 3, 4], [6], [7, 8], [11])


def masks(rows, name="listed", epoch=1, **options):
    masker = build_masker(name, MASKERS.get(name).config(**options), rows.vocab)
    return masker(rows, RowRng(1, epoch, rows.ids))[0]


@pytest.fixture
def listed(copies):
    """Rows of 20 tokens with spans."""

    def make(num=40, numbers=NUMBERS, **columns):
        rows = copies([10] * 20, num)
        for name, values in {"spans": numbers, **columns}.items():
            row = np.zeros(rows.shape[1], np.uint16 if name == "spans" else np.float16)
            row[1 : len(values) + 1] = values
            rows.columns[name] = np.broadcast_to(row, rows.shape)
        return rows

    return make


def taken(mask):
    """Which of the spans each row has, and that it has nothing else."""
    found = np.stack([mask[:, span].all(axis=1) for span in SPANS], axis=1)
    assert (mask.sum(axis=1) == (found * [len(span) for span in SPANS]).sum(axis=1)).all()
    return found


def test_spans_are_runs_of_equal_numbers():
    values = np.array([[0, 1, 1, 2, 0, 2, 1, 0], [5, 5, 5, 5, 5, 5, 5, 5]], np.uint8)
    assert spans_of(values).tolist() == [[-1, 1, 1, 2, -1, 4, 5, -1], [0] * 8]


def test_all_spans_whatever_the_ratio(listed):
    rows = listed()
    for ratio in (0.0, 0.15, 1.0):
        assert taken(masks(rows, choose="all", ratio=ratio)).all()
    never = masks(rows, choose="all", never=(rows.vocab.piece(10),))
    assert not never.any()


def test_exactly_one_span(listed):
    found = taken(masks(listed(8000), choose="one"))
    assert (found.sum(axis=1) == 1).all()
    assert np.abs(found.mean(axis=0) - 0.25).max() < 5 * np.sqrt(0.25 * 0.75 / 8000)


def test_one_by_the_probabilities(listed):
    given = [0, 0.1, 0.1, 0.1, 0, 0.3, 0.6, 0.6, 0, 0, np.nan, 0]
    rows = listed(8000, p=given)
    found = taken(masks(rows, choose="one", probability="p")).mean(axis=0)
    assert np.abs(found - [0.1, 0.3, 0.6, 0]).max() < 5 * np.sqrt(0.25 / 8000) and found[3] == 0
    assert taken(masks(rows, choose="one", probability="p", epoch=2)).tolist() != found.tolist()


def test_the_likeliest_span(listed):
    for given, right in (
        ([0, 0.1, 0.1, 0.1, 0, 0.3, 0.6, 0.6, 0, 0, np.nan, 0], 2),
        ([0, 0.2, 0.2, 0.2, 0, 0.4, 0.1, 0.1, 0, 0, 0.4, 0], 1),  # of two alike the first
        ([0.9] + [0] * 10 + [0.9], None),  # beside spans, and spans of probability 0
    ):
        rows = listed(50, p=given)
        for epoch in (1, 2):
            found = taken(masks(rows, choose="best", probability="p", epoch=epoch, ratio=0.0))
            assert (found == [right == number for number in range(4)]).all()
    with pytest.raises(ConfigError, match=r"masker\.choose: is best, .*expected masker\.probability"):
        masks(rows, choose="best")


def test_a_sample_meets_the_budget_on_average_and_misses_it_by_less_than_a_span(listed):
    rows = listed(8000)
    for budget in (1, 2, 4):
        mask = masks(rows, ratio=budget / 20)
        taken(mask)
        totals = mask.sum(axis=1)
        assert abs(totals.mean() - budget) < 5 * totals.std() / np.sqrt(8000)
        assert np.abs(totals - budget).max() < 3
    assert taken(masks(rows, ratio=0.35)).all()  # all there are
    assert not masks(rows, ratio=0.0).any()


def test_a_sample_without_replacement_by_the_probabilities(listed):
    """Two spans of one token: the second is drawn among what is left."""
    rows = listed(8000, numbers=[1, 2, 3], p=[0.2, 0.3, 0.5])
    mask = masks(rows, ratio=0.1, probability="p")[:, 1:4]
    assert (mask.sum(axis=1) == 2).all()
    without_first = 0.3 * 0.5 / 0.7 + 0.5 * 0.3 / 0.5
    without_last = 0.2 * 0.3 / 0.8 + 0.3 * 0.2 / 0.7
    missing = [without_first, 1 - without_first - without_last, without_last]
    assert np.abs(1 - mask.mean(axis=0) - missing).max() < 5 * np.sqrt(0.25 / 8000)


def test_rows_without_a_span_and_the_control(listed):
    rows = listed(400, numbers=[])
    assert not masks(rows).any()
    uniform = masks(rows, fallback="uniform", ratio=0.3)
    assert (uniform.sum(axis=1) == 6).all() and len(np.unique(uniform, axis=0)) > 300
    rows = listed(400)
    assert (masks(rows, fallback="uniform", choose="one") == masks(rows, choose="one")).all()
    control = masks(rows, choose="all", control=True)
    assert (control.sum(axis=1) == 7).all() and len(np.unique(control, axis=0)) > 300


def test_promises_follow_the_options(vocab):
    def promises(**options):
        return build_masker("listed", MASKERS.get("listed").config(**options), vocab).promises

    assert promises() == () and promises(choose="one") == ("own_budget",)
    assert promises(choose="all") == ("own_budget", "same_every_epoch") == promises(choose="best", probability="p")
    assert promises(choose="all", control=True) == ("own_budget",) == promises(choose="all", fallback="uniform")


def test_mixed_with_uniform_masks(listed):
    rows = listed(400)
    options = MASKERS.get("mix").config(of=("uniform", "listed choose=all"), weights=(0.25, 0.75))
    masker = build_masker("mix", options, rows.vocab)
    assert masker.columns == ("spans",)
    mask = masker(rows, RowRng(1, 1, rows.ids))[0]
    by_list = mask[:, [2, 3, 4, 6, 7, 8, 11]].all(axis=1)
    assert 0.65 < by_list.mean() < 0.85 and (mask[~by_list].sum(axis=1) == 3).all()


def test_a_column_of_rows_is_refused(listed):
    rows = listed(3, p=[0.5])
    rows.columns["p"] = np.zeros(3)
    with pytest.raises(
        ConfigError, match=r"masker.probability: column 'p' .* for each row; expected one for.*taskmask spans"
    ):
        masks(rows, probability="p")
    rows.columns["spans"] = np.zeros(3)
    for name in ("listed", "whole_unit"):
        with pytest.raises(ConfigError, match=r"masker.column: column 'spans' has a value for each row"):
            masks(rows, name)


# ---- units


def test_units_are_spans_and_words(make_rows):
    rows = make_rows(["the lazy dogs jumping over", "the lazy dogs"])
    words, inside = rows.words, rows.maskable
    numbers = np.where(inside, np.isin(words, (1, 2)), 0)  # "lazy dogs"
    last = np.flatnonzero(words[0] == 3)
    numbers[0, last[:1]] = 7  # the first piece of "jumping" alone: no unit ends within a word
    numbers[1, np.flatnonzero(words[1] == 0)[0]] = 7
    rows.columns["spans"] = numbers
    masker = build_masker("whole_unit", MASKERS.get("whole_unit").config(), rows.vocab)
    units = masker.units(rows, RowRng(1, 1, rows.ids))
    assert (units[words < 0] == -1).all()
    for row in (0, 1):
        of_words = {word: np.unique(units[row][words[row] == word]) for word in range(words[row].max() + 1)}
        assert all(len(found) == 1 for found in of_words.values())
        one = [int(found[0]) for found in of_words.values()]
        assert one[1] == one[2] and len(set(one)) == len(one) - 1 and sorted(one) == one


def test_units_are_masked_whole_and_every_token_is_as_likely(make_rows):
    num = 6000
    rows = make_rows(["the lazy dogs jumping over the foxes"] * num)
    rows.columns["spans"] = np.where(np.isin(rows.words, (1, 2, 3)), 1, 0)
    mask = masks(rows, "whole_unit", ratio=0.3)
    unit = np.isin(rows.words[0], (1, 2, 3))
    assert (mask[:, unit].all(axis=1) | ~mask[:, unit].any(axis=1)).all() and mask[:, unit].any()
    assert np.abs(mask[:, rows.maskable[0]].mean(axis=0) - 0.3).max() < 5 * np.sqrt(0.21 / num)
