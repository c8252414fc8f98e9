"""Masking by scores: the highest within the budget, and a control that differs in nothing but the places."""

import numpy as np
import pytest

from taskmask.data.rng import RowRng
from taskmask.errors import ConfigError
from taskmask.maskers.base import build_masker
from taskmask.registry import MASKERS


def masks(rows, epoch=1, **options):
    masker = build_masker("scored", MASKERS.get("scored").config(column="score", **options), rows.vocab)
    return masker(rows, RowRng(1, epoch, rows.ids))[0]


@pytest.fixture
def scored(make_rows, texts):
    """Rows with a score of each token, given as a function of the place."""

    def make(score, num=40):
        rows = make_rows([texts["english"]] * num)
        rows.columns["score"] = np.broadcast_to(score(np.arange(rows.shape[1])), rows.shape).astype(np.float16)
        return rows

    return make


def test_the_highest_scores_within_the_budget(scored):
    rows = scored(lambda place: place / 100)
    mask = masks(rows, ratio=0.2)
    inside = rows.maskable.sum(1)[0]
    for row in mask:
        places = np.flatnonzero(row)
        assert abs(len(places) - 0.2 * inside) < 1 and places.tolist() == list(
            range(inside + 1 - len(places), inside + 1)
        )
    assert mask.sum() / mask.shape[0] == pytest.approx(0.2 * inside, abs=0.3)


def test_only_what_is_above(scored):
    rows = scored(lambda place: np.isin(place, (2, 5)).astype(float))
    assert all(np.flatnonzero(row).tolist() == [2, 5] for row in masks(rows, ratio=0.5, above=0.5))
    assert masks(rows, ratio=0.0, above=0.5).sum() == 0
    assert (masks(rows, ratio=0.5, above=0.5) == masks(rows, epoch=9, ratio=0.5, above=0.5)).all()
    few = masks(rows, ratio=1 / rows.maskable.sum(1)[0], above=0.5)  # one of two that are alike
    assert (few.sum(1) == 1).all() and 0.2 < few[:, 2].mean() < 0.8


def test_log_odds_order_what_probabilities_near_one_do_not(scored):
    """Tokens of log-odds 20, 21, 22 ... have probability 1 in float32, so that a draw decides which are masked."""
    rows = scored(lambda place: place)
    odds = np.broadcast_to(20 + np.arange(rows.shape[1]), rows.shape).astype(np.float32)
    inside, few = rows.maskable.sum(1)[0], 3 / rows.maskable.sum(1)[0]
    rows.columns["score"] = odds
    assert (masks(rows, ratio=few, above=0.0)[:, inside - 2 : inside + 1]).all()
    rows.columns["score"] = (1 / (1 + np.exp(-odds.astype(np.float64)))).astype(np.float32)
    assert (rows.columns["score"] == 1).all() and len(np.unique(masks(rows, ratio=few, above=0.5), axis=0)) > 10


def test_rows_without_a_candidate(scored):
    rows = scored(lambda place: np.zeros(len(place)))
    assert masks(rows, above=0.5).sum() == 0
    uniform = masks(rows, above=0.5, fallback="uniform", ratio=0.3)
    assert (abs(uniform.sum(1) - 0.3 * rows.maskable.sum(1)) < 1).all() and len(np.unique(uniform, axis=0)) > 30
    rows.columns["score"][:20, 3] = 1
    mixed = masks(rows, above=0.5, fallback="uniform", ratio=0.3)
    assert all(np.flatnonzero(row).tolist() == [3] for row in mixed[:20]) and (mixed[20:] == uniform[20:]).all()


def test_the_control_has_as_many_in_other_places(scored):
    rows = scored(lambda place: np.isin(place, (2, 5, 7)).astype(float), num=2000)
    chosen, control = (masks(rows, ratio=0.5, above=0.5, control=on) for on in (False, True))
    assert (chosen.sum(1) == control.sum(1)).all() and (chosen.sum(1) == 3).all()
    inside = rows.maskable[0].sum()
    rates = control[:, 1 : inside + 1].mean(0)
    assert np.abs(rates - 3 / inside).max() < 5 * np.sqrt(3 / inside / 2000)  # every place alike


def test_drawn_in_proportion_to_the_score(scored):
    rows = scored(lambda place: np.where(place == 3, 0.8, np.where(place == 6, 0.4, 0.0)), num=3000)
    mask = masks(rows, choose="sample", ratio=1 / rows.maskable.sum(1)[0])
    assert (mask.sum(1) == 1).all() and mask[:, 3].mean() == pytest.approx(2 / 3, abs=0.04)
    assert mask[:, [3, 6]].sum() == 3000


@pytest.mark.parametrize("lowest", [np.inf, 1e-320])
def test_of_equal_scores_without_bounds_any_is_drawn(scored, lowest):
    """Infinite scores come first and are equal; scores too small to divide by are still told apart, or equal."""
    rows = scored(lambda place: np.ones(len(place)), num=2000)
    score = np.where(np.isin(np.arange(rows.shape[1]), (2, 5, 8, 9)), lowest, 0.0 if lowest < 1 else 1.0)
    rows.columns["score"] = np.broadcast_to(score, rows.shape)
    mask = masks(rows, choose="sample", ratio=2 / rows.maskable.sum(1)[0])
    assert (mask.sum(1) == 2).all() and mask[:, [2, 5, 8, 9]].sum() == 4000
    assert np.abs(mask[:, [2, 5, 8, 9]].mean(0) - 0.5).max() < 0.06  # 5 deviations
    assert (mask == masks(rows, choose="sample", ratio=2 / rows.maskable.sum(1)[0])).all()
    more = masks(rows, choose="sample", ratio=6 / rows.maskable.sum(1)[0])
    assert more[:, [2, 5, 8, 9]].all() and (more.sum(1) == (4 if lowest < 1 else 6)).all()


def test_where_nothing_can_be_drawn_the_fallback_masks(scored):
    """A draw in proportion to scores needs one above 0: a row without is a row without a candidate."""
    rows = scored(lambda place: np.where(place % 2, 0.0, -1.0))
    assert masks(rows, choose="sample", ratio=0.3).sum() == 0
    uniform = masks(rows, choose="sample", fallback="uniform", ratio=0.3)
    assert (abs(uniform.sum(1) - 0.3 * rows.maskable.sum(1)) < 1).all()
    rows.columns["score"][:20, 3] = 1
    mixed = masks(rows, choose="sample", fallback="uniform", ratio=0.3)
    assert all(np.flatnonzero(row).tolist() == [3] for row in mixed[:20]) and (mixed[20:] == uniform[20:]).all()
    below = masks(rows, choose="sample", fallback="uniform", above=-5.0, ratio=0.3)
    assert np.array_equal(below, mixed)


def test_what_has_no_score_is_no_candidate(scored):
    rows = scored(lambda place: np.where(place < 4, np.nan, 1.0))
    for options in ({}, {"choose": "sample"}, {"above": 0.5}):
        mask = masks(rows, ratio=1.0, **options)
        assert not mask[:, :4].any() and mask[:, 4 : rows.maskable[0].sum() + 1].all()


def test_mixed_with_uniform_masks(scored):
    """Rows of either kind, and the column is asked for by the mixture."""
    rows = scored(lambda place: np.isin(place, (2, 5)).astype(float), num=400)
    options = MASKERS.get("mix").config(of=("uniform", "scored above=0.5"), weights=(0.25, 0.75), ratio=0.5)
    masker = build_masker("mix", options, rows.vocab)
    assert masker.columns == ("score",)
    mask = masker(rows, RowRng(1, 1, rows.ids))[0]
    by_score = np.array([np.flatnonzero(row).tolist() == [2, 5] for row in mask])
    assert 0.65 < by_score.mean() < 0.85 and (mask[~by_score].sum(1) > 3).all()


def test_mixed_with_uniform_masks_the_control_masks_as_many_of_every_row(scored):
    """The mixture gives both the same rows, and the uniform masks of the others are the same."""
    rows = scored(lambda place: np.isin(place, (2, 5)).astype(float), num=400)
    chosen, control = (
        build_masker("mix", MASKERS.get("mix").config(of=("uniform", part), ratio=0.5), rows.vocab)(
            rows, RowRng(1, 1, rows.ids)
        )[0]
        for part in ("scored above=0.5", "scored above=0.5 control=true")
    )
    assert (chosen.sum(1) == control.sum(1)).all()
    same, two = (chosen == control).all(1), chosen.sum(1) == 2
    assert same[~two].all() and 150 < two.sum() < 250 and same[two].mean() < 0.1


def test_a_column_of_rows_is_refused(scored):
    rows = scored(lambda place: place / 100, num=3)
    for values in (np.zeros(3), np.zeros((3, 2))):
        rows.columns["score"] = values
        with pytest.raises(ConfigError, match="column 'score' has a value for each row; expected one for each token"):
            masks(rows)
