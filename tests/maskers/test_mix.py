"""A mixture masks each row as one of its parts would."""

import numpy as np
import pytest

from taskmask.errors import ConfigError
from taskmask.maskers.base import Masker, build_masker, register_masker
from taskmask.maskers.mix import MixConfig

TEXT = "The unreasonably quick brown foxes aren't jumping over the lazy, unbelievable dogs (really)!"
NUM = 4000


def shares_of(found, parts):
    """The share of rows that each part alone would mask in this way."""
    same = np.array([(found[0] == part[0]).all(axis=1) for part in parts])
    assert same.any(axis=0).all()
    return same.mean(axis=1)


@pytest.mark.parametrize(("weights", "shares"), [((), (0.5, 0.5)), ((3.0, 1.0), (0.75, 0.25)), ((0.0, 2.0), (0, 1))])
def test_each_row_is_masked_by_one_part_in_proportion(mask, copies, weights, shares):
    rows = copies(TEXT, NUM)
    found = mask("mix", rows, of=("uniform ratio=0.5", "span p=0.3 unit=token ratio=0.4"), weights=weights)
    parts = [mask("uniform", rows, ratio=0.5), mask("span", rows, p=0.3, unit="token", ratio=0.4)]
    for share, expected in zip(shares_of(found, parts), shares, strict=True):
        assert abs(share - expected) <= 5 * np.sqrt(expected * (1 - expected) / NUM)


def test_the_part_is_drawn_anew_in_every_epoch(mask, copies):
    rows = copies(TEXT, NUM)
    options = {"of": ("uniform ratio=0", "uniform ratio=1")}
    first, second = (mask("mix", rows, epoch=epoch, **options)[0].any(axis=1) for epoch in (1, 2))
    assert abs((first == second).mean() - 0.5) < 5 * 0.5 / np.sqrt(NUM)


def test_a_mixture_within_a_mixture_draws_anew(mask, copies):
    rows = copies(TEXT, NUM)
    found = mask("mix", rows, of=("whole_word ratio=0.4", "mix of=uniform,span ratio=0.4"))
    parts = [mask(name, rows, ratio=0.4) for name in ("whole_word", "uniform", "span")]
    for share, expected in zip(shares_of(found, parts), (0.5, 0.25, 0.25), strict=True):
        assert abs(share - expected) < 5 * np.sqrt(expected * (1 - expected) / NUM)


def test_ratio_and_schedule_hold_for_the_parts(mask, copies):
    rows = copies(TEXT, NUM)
    for progress, ratio in ((0, 0.2), (1, 0.6)):
        found = mask("mix", rows, progress=progress, ratio=0.2, ratio_end=0.6, of=("uniform", "uniform"))
        assert abs(found[0][:, rows.maskable[0]].mean() - ratio) < 0.01


def test_lists_hold_for_all_parts_and_a_part_may_add_its_own(mask, copies, vocab):
    rows = copies(TEXT, NUM)
    the, dogs, over = (rows.tokens == vocab.ids_of_pieces([piece])[0] for piece in ("the", "dogs", "over"))
    assert the.any() and dogs.any() and over.any()
    options = {"ratio": 0.3, "never": ("the",), "always": ("dogs",), "of": ("uniform never=over,al", "span")}
    found = mask("mix", rows, **options)[0]
    assert not found[the].any() and found[dogs].all()
    assert 0 < found[over].mean() < 0.3
    wanted = 0.3 * (rows.maskable & ~the)[0].sum()
    assert abs(found.sum(axis=1).mean() - wanted) < 0.6  # one part lacks two more tokens


def test_what_a_part_always_masks_comes_on_top_of_the_list_for_all(mask, copies, vocab):
    rows = copies("the lazy dogs over the foxes", NUM)
    found = mask("mix", rows, ratio=0.5, always=("dogs",), of=("uniform always=foxes",))[0]
    assert found[np.isin(rows.tokens, vocab.ids_of_pieces(["dogs", "foxes"]))].all()
    assert (found.sum(axis=1) == 3).all()  # half of six


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"of": ()}, "masker.of: names no masker"),
        ({"weights": (1.0,)}, "masker.weights: has 1 numbers; expected one for each of the 2"),
        ({"weights": (0.0, 0.0)}, "masker.weights: is .*not all 0"),
        ({"weights": (-1.0, 2.0)}, "masker.weights: is "),
        ({"of": ("spam",)}, "masker.of 'spam': unknown masker 'spam'; .*did you mean 'span'"),
        ({"of": ("",)}, "masker.of '': unknown masker ''"),
        ({"of": ("span p",)}, "masker.of 'span p': 'p' has no value"),
        ({"of": ("span q=1",)}, "masker.of 'span q=1': unknown option span.q"),
        ({"of": ("span p=x",)}, "masker.of 'span p=x': span.p is 'x'; expected number"),
        ({"of": ("span p=7",)}, "masker.of 'span p=7': masker.p: is 7.0"),
        ({"of": ("span unit=a,b",)}, "masker.of 'span unit=a,b': span.unit is 'a b'; expected one of word, token"),
        ({"of": ("uniform always=the",), "never": ("the",)}, "masker.of 'uniform always=the': masker.never: the"),
    ],
)
def test_wrong_options_are_named(vocab, options, message):
    with pytest.raises(ConfigError, match=message):
        build_masker("mix", MixConfig(**options), vocab)


def test_parts_bring_their_columns_and_one_view(registry, vocab):
    class Two(Masker):
        """Two."""

        views = 2

    class Reader(Masker):
        """Reads."""

        columns = ("score",)

    register_masker("two")(Two)
    register_masker("reader")(Reader)
    assert build_masker("mix", MixConfig(of=("uniform", "reader")), vocab).columns == ("score",)
    with pytest.raises(ConfigError, match=r"masker.of 'two': makes 2 masks of a row"):
        build_masker("mix", MixConfig(of=("two",)), vocab)


def test_a_part_that_fails_is_named(registry, make_rows, mask):
    @register_masker("broken")
    def broken(batch, rng):
        """Breaks."""
        raise OSError("no such model")

    with pytest.raises(ConfigError, match=r"^masker broken, .*test_mix.py:\d+: OSError: no such model"):
        mask("mix", make_rows([TEXT]), of=("broken",))


@pytest.mark.parametrize(("mode", "said"), [
    ("together", "makes 4 masks of a row"),
    ("sequential", "makes 4 masks of a row"),
    ("in_turn", "makes masks that belong together over epochs"),
])  # fmt: skip
def test_masks_that_belong_together_are_no_part(mask, copies, mode, said):
    """Of a row that another part has at the next visit, some tokens would never be masked, and some twice."""
    with pytest.raises(ConfigError, match=f"{said}; expected one mask a row, drawn anew at every epoch"):
        mask("mix", copies(TEXT, 2), of=("uniform", f"fully_explored masks=4 mode={mode}"))
