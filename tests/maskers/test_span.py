"""Span masking: lengths as specified, whole words, no border crossed, every position alike."""

import math

import numpy as np
import pytest

from taskmask.data.rng import RowRng
from taskmask.errors import ConfigError
from taskmask.maskers.span import Span, SpanConfig

ENGLISH = "The unreasonably quick brown foxes aren't jumping over the lazy, unbelievable dogs (really)! "


def chances_of(config):
    lengths = np.arange(1, config.longest + 1)
    if config.lengths == "geometric":
        chances = config.p * (1 - config.p) ** (lengths - 1.0)
    else:
        chances = np.array([config.mean**n / math.factorial(n) for n in lengths.tolist()])
    return lengths, chances / chances.sum()


def test_the_mean_of_spanbert():
    lengths, chances = chances_of(SpanConfig())
    assert (lengths * chances).sum() == pytest.approx(3.797, abs=0.001)


@pytest.mark.parametrize(
    "config",
    [
        SpanConfig(unit="token"),
        SpanConfig(unit="token", p=1.0),
        SpanConfig(unit="token", p=0.5, longest=3),
        SpanConfig(unit="token", lengths="poisson"),
        SpanConfig(unit="token", lengths="poisson", mean=60.0, longest=25),
        SpanConfig(unit="token", longest=1),
    ],
)
def test_lengths_of_the_tiling(vocab, copies, config):
    rows = copies([10] * 100, 2000)
    tile = Span(config, vocab).units(rows, RowRng(1, 1, rows.ids))[:, 1:-1]
    starts = np.diff(tile, axis=1, prepend=-1) > 0
    lengths, chances = chances_of(config)
    # a start after the edge, and so early that even the longest span ends inside the row
    row, place = np.nonzero(starts[:, 1 : 100 - config.longest])
    following = (tile[row, place + 1][:, None] == tile[row]).sum(axis=1)
    counts = np.bincount(following, minlength=config.longest + 1)[1:]
    expected = chances * len(following)
    seen = expected > 5
    free = max(seen.sum() - 1, 1)
    assert following.max() <= config.longest
    misfit = ((counts - expected)[seen] ** 2 / expected[seen]).sum()
    assert abs(misfit - free) < 5 * np.sqrt(2 * free)
    # at every place but the edge a span starts with probability 1 / mean length
    chance = 1 / (lengths * chances).sum()
    spread = np.sqrt(chance * (1 - chance) / len(starts))
    assert np.abs(starts[:, 1:].mean(axis=0) - chance).max() <= 5 * spread


@pytest.mark.parametrize("unit", ["word", "token"])
@pytest.mark.parametrize("ratio", [0.15, 0.5, 0.9])
@pytest.mark.parametrize("num_words", [3, 14])
def test_every_position_is_as_likely_edges_included(mask, copies, unit, ratio, num_words):
    num = 10_000
    rows = copies(" ".join(ENGLISH.split()[:num_words]), num)
    found = mask("span", rows, unit=unit, ratio=ratio)[0]
    shares = found[:, rows.maskable[0]].mean(axis=0)
    assert np.abs(shares - ratio).max() < 5 * np.sqrt(ratio * (1 - ratio) / num)
    totals = found.sum(axis=1)
    assert abs(totals.mean() - ratio * len(shares)) < 5 * totals.std() / np.sqrt(num)


def test_spans_are_whole_words_and_taken_whole(vocab, copies, mask):
    rows = copies(ENGLISH * 3, 300)
    tile = Span(SpanConfig(), vocab).units(rows, RowRng(1, 1, rows.ids))
    found = mask("span", rows)[0]
    for groups in (tile, np.maximum(rows.words, 0)):
        inside = (groups[:, 1:] == groups[:, :-1]) & rows.maskable[:, 1:] & rows.maskable[:, :-1]
        assert (found[:, 1:] == found[:, :-1])[inside].all()
    words = np.where(rows.words >= 0, rows.words, 10**6)
    for row_tile, row_words in zip(tile, words, strict=True):
        for span in np.unique(row_tile[row_words < 10**6]):
            assert len(np.unique(row_words[row_tile == span])) <= 10


@pytest.mark.parametrize("unit", ["word", "token"])
def test_no_span_crosses_a_special_token(vocab, copies, unit):
    half = vocab.encode(["the lazy dogs over"])[0]
    rows = copies([*half, vocab.eos, *half], 500)
    border = 1 + len(half)
    tile = Span(SpanConfig(unit=unit, p=0.01, longest=50), vocab).units(rows, RowRng(1, 1, rows.ids))
    assert (tile[:, border - 1] != tile[:, border]).all() and (tile[:, border] != tile[:, border + 1]).all()
    assert (tile[:, border - 2] == tile[:, border - 1]).mean() > 0.9


@pytest.mark.parametrize("unit", ["word", "token"])
def test_a_row_that_needs_more_spans_than_most_has_them(vocab, copies, unit):
    rows, masker = copies(ENGLISH * 3, 100), Span(SpanConfig(unit=unit), vocab)
    expected = masker.units(rows, RowRng(1, 1, rows.ids))
    masker.mean = 1e9  # guesses that 8 spans fill a row
    assert np.array_equal(masker.units(rows, RowRng(1, 1, rows.ids)), expected)


def test_masked_runs_are_longer_than_those_of_uniform(mask, copies):
    rows = copies([10] * 100, 500)
    runs = [(np.diff(mask(name, rows, **kind)[0].astype(int), axis=1) == 1).sum()
            for name, kind in (("uniform", {}), ("span", {"unit": "token"}))]  # fmt: skip
    assert runs[1] < runs[0] / 2.5


def test_wrong_options_are_named():
    with pytest.raises(ConfigError, match=r"(?s)masker.p: is 0.*masker.mean: is 0.*masker.longest: is 0") as error:
        SpanConfig(p=0, mean=0, longest=0)
    assert "3 settings are wrong" in str(error.value)
