"""What all policies share: options, budget, lists, the check of what comes back, the two samplers, registration."""

import dataclasses
import itertools
import typing

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskmask.config import fields_of
from taskmask.data.rng import RowRng
from taskmask.errors import ConfigError, DataError, RegistryError
from taskmask.maskers.base import (
    Masker,
    MaskerConfig,
    build_masker,
    highest,
    register_masker,
    sample_tokens,
    sample_units,
)
from taskmask.maskers.row import RowMasker

SIGMAS = 5  # seeds are fixed, so a bound that holds once holds always
ENGLISH = "The quick brown foxes jumping over the lazy dogs"


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"ratio": 0.2}, (0.2, 0.2, 0.2)),
        ({"ratio": 0.2, "ratio_schedule": "constant"}, (0.2, 0.2, 0.2)),
        ({"ratio": 0.2, "ratio_end": 0.4}, (0.2, 0.3, 0.4)),
        ({"ratio": 0.4, "ratio_end": 0.2, "ratio_schedule": "cosine"}, (0.4, 0.3, 0.2)),
        ({"ratio": 0.4, "ratio_end": 0.0}, (0.4, 0.2, 0.0)),
    ],
)
def test_schedule_of_the_ratio(options, expected):
    config = MaskerConfig(**options)
    assert [config.ratio_at(progress) for progress in (0, 0.5, 1)] == pytest.approx(expected)


def test_cosine_starts_slowly():
    config = MaskerConfig(ratio=0.0, ratio_end=1.0, ratio_schedule="cosine")
    assert config.ratio_at(0.25) == pytest.approx((1 - 2**-0.5) / 2)


def test_wrong_options_are_named():
    with pytest.raises(ConfigError, match=r"(?s)masker.ratio: is 1.5.*masker.ratio_end: is -1") as error:
        MaskerConfig(ratio=1.5, ratio_end=-1)
    assert "share from 0 to 1" in str(error.value)
    with pytest.raises(ConfigError, match=r"masker.never: dog are also in masker.always"):
        MaskerConfig(never=("dog",), always=("dog",))


def test_wrong_pieces_are_named(vocab):
    for options, message in [
        ({"never": ("zzqqx",)}, "masker.never: 'zzqqx' is no piece"),
        ({"always": ("<mask>",)}, "masker.always: <mask> is a special piece"),
        ({"never": ("▁the",), "always": ("the",)}, "masker.never: ▁the is also in masker.always"),
    ]:
        with pytest.raises(ConfigError, match=message):
            build_masker("uniform", MaskerConfig(**options), vocab)


@pytest.mark.parametrize("ratio", [0.0, 0.15, 0.5, 1.0])
def test_budget_is_rounded_both_ways_and_exact_on_average(vocab, copies, ratio):
    rows = copies(ENGLISH, 20_000)
    budget = build_masker("uniform", MaskerConfig(ratio=ratio), vocab).budget(rows, RowRng(1, 1, rows.ids))
    wanted = ratio * rows.maskable[0].sum()
    assert set(budget) <= {np.floor(wanted), np.ceil(wanted)}
    assert abs(budget.mean() - wanted) <= SIGMAS * 0.5 / np.sqrt(len(budget))


def test_budget_follows_the_schedule_and_pays_for_always(vocab, copies):
    rows = copies("the dogs over the foxes", 20_000)
    config = MaskerConfig(ratio=0.0, ratio_end=0.8, always=("the",))
    masker = build_masker("uniform", config, vocab)
    num = int(rows.maskable[0].sum())
    num_always = int((rows.tokens[0] == vocab.ids_of_pieces(["the"])[0]).sum())
    assert num_always == 1 or num_always == 2
    for progress, ratio in ((0, 0.0), (0.5, 0.4), (1, 0.8)):
        found = masker(rows, RowRng(1, 1, rows.ids, progress))[0].sum(axis=1)
        assert abs(found.mean() - max(num_always, ratio * num)) <= SIGMAS * 0.5 / np.sqrt(len(found))


def test_lists_narrow_what_was_narrowed_already(make_rows, vocab):
    rows = make_rows(["the lazy dogs over the lazy foxes"])
    allowed = np.ones(vocab.size, bool)
    allowed[vocab.ids_of_pieces(["lazy"])] = False
    narrow = dataclasses.replace(rows, allowed=allowed)
    for never in ((), ("the",)):
        found = build_masker("uniform", MaskerConfig(ratio=1.0, never=never), vocab)(narrow, RowRng(1, 1, rows.ids))[0]
        banned = np.isin(rows.tokens, vocab.ids_of_pieces(["lazy", *never]))
        assert np.array_equal(found, rows.maskable & ~banned)


# ---- what a policy may not return


def rogue(answer):
    class Rogue(Masker):
        """Returns what it is told to."""

        def select(self, batch, rng):
            return answer(batch)

    return Rogue


def chosen(rows, row, position):
    mask = np.zeros(rows.shape, bool)
    mask[row, position] = True
    return mask


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda rows: rows.maskable.astype(int), r"returned int64 \[1, 2, \d+\]; expected bool \[1, 2, \d+\]"),
        (lambda rows: np.full(rows.shape, np.nan), r"returned float64"),
        (lambda rows: rows.maskable[:, :-1], r"returned bool \[1, 2, \d+\]; expected bool"),
        (lambda rows: rows.maskable[0], r"returned bool \[\d+\]"),
        (lambda rows: np.stack([rows.maskable] * 2), r"returned bool \[2, 2, \d+\]; expected bool \[1, 2"),
        (lambda rows: None, r"returned None; expected bool \[1, 2, \d+\]"),
        (lambda rows: [[1], [1, 2]], r"returned a list that is no array; expected bool \[1, 2, \d+\]"),
        (lambda rows: chosen(rows, 0, 0), r"chose position 0 of row 40, '<s>', which is not maskable"),
        (lambda rows: chosen(rows, 1, 3), r"chose position 3 of row 41, '</s>'"),
        (lambda rows: chosen(rows, 1, -1), r"of row 41, '<pad>'"),
        (lambda rows: chosen(rows, 1, 1), r"chose position 1 of row 41, '▁the'"),
    ],
)
def test_nonsense_is_an_error_that_names_the_masker(registry, make_rows, vocab, answer, message):
    register_masker("rogue")(rogue(answer))
    rows = make_rows([ENGLISH, vocab.ids_of_pieces(["▁the", "re"])], ids=[40, 41])
    masker = build_masker("rogue", MaskerConfig(never=("▁the",)), vocab)
    with pytest.raises(ConfigError, match=rf"masker rogue: .*{message}.*test_base.py:\d+"):
        masker(rows, RowRng(1, 1, rows.ids))


@pytest.mark.parametrize("name", ["tokens", "maskable"])
def test_a_policy_cannot_write_to_the_rows(registry, make_rows, vocab, name):
    """What it wrote would be what the model learns from, and a maskable special piece would pass the check."""

    @register_masker("rogue")
    def writing(batch, rng):
        getattr(batch, name)[:] = 1
        return batch.maskable

    rows = make_rows([ENGLISH])
    before = getattr(rows, name).copy()
    with pytest.raises(ConfigError, match=r"masker rogue, .*test_base.py:\d+: ValueError: .*read-only"):
        build_masker("rogue", MaskerConfig(), vocab)(rows, RowRng(1, 1, rows.ids))
    assert (getattr(rows, name) == before).all() and getattr(rows, name).flags.writeable


def test_a_policy_that_ends_the_process_is_named(registry, make_rows, vocab):
    @register_masker("rogue")
    def ending(batch, rng):
        raise SystemExit("out of words")

    rows = make_rows([ENGLISH])
    with pytest.raises(ConfigError, match=r"masker rogue, row 0, .*test_base.py:\d+: SystemExit: out of words"):
        build_masker("rogue", MaskerConfig(), vocab)(rows, RowRng(1, 1, rows.ids))


def failing(batch, rng, *, ratio: float = 0.15):
    """Raises."""
    return batch.columns["nothing"]


def misusing(batch, rng, *, budget):
    """Gives a helper, and through it numpy, what does not fit."""
    return sample_tokens(np.ones((3, 2)), budget, np.ones((5, 7)))


@pytest.mark.parametrize(
    ("function", "says"),
    [(failing, "reads column 'nothing', which it does not name; name it"), (misusing, r"\w+Error: ")],
)
def test_an_exception_inside_names_the_masker_and_the_line(registry, make_rows, vocab, function, says):
    register_masker("mine")(function)
    rows = make_rows([ENGLISH])
    line = function.__code__.co_firstlineno + 2
    with pytest.raises(ConfigError, match=rf"masker mine, .*test_base.py:{line}: {says}") as error:
        build_masker("mine", registry.get("mine").config(), vocab)(rows, RowRng(1, 1, rows.ids))
    assert isinstance(error.value.__cause__, (KeyError, ValueError))


def test_columns_and_promises_are_tuples(registry):
    class Mine(Masker):
        """Names a column as a text."""

        columns = "score"

    with pytest.raises(
        RegistryError, match=r"columns is 'score'; expected a tuple of names; write columns = \('score',\)"
    ):
        register_masker("mine")(Mine)
    with pytest.raises(RegistryError, match=r"promises is 'mean_budget'; expected a tuple"):
        register_masker("mine", promises="mean_budget")
    register_masker("reading", columns=("score",))(failing)
    assert registry.get("reading").load().columns == ("score",)


def test_errors_of_taskmask_pass_through(make_rows, vocab):
    def complain(rows):
        raise DataError("the column is empty")

    rows = make_rows([ENGLISH])
    with pytest.raises(DataError, match=r"^the column is empty$"):
        rogue(complain)(MaskerConfig(), vocab)(rows, RowRng(1, 1, rows.ids))


def test_a_masker_without_select_says_so(make_rows, vocab):
    rows = make_rows([ENGLISH])
    with pytest.raises(ConfigError, match=r"masker Masker.*must define select\(batch, rng\)"):
        Masker(MaskerConfig(), vocab)(rows, RowRng(1, 1, rows.ids))


# ---- the samplers


def test_weighted_sampling_agrees_with_enumeration():
    weights, budget, num = np.array([1.0, 2.0, 0.0, 3.0, 4.0]), 2, 60_000
    expected = {}
    for first, second in itertools.permutations([0, 1, 3, 4], 2):
        pair = frozenset((first, second))
        chance = weights[first] / 10 * weights[second] / (10 - weights[first])
        expected[pair] = expected.get(pair, 0) + chance
    random = RowRng(1, 1, np.arange(num)).uniform("a", 5)
    found = sample_tokens(np.tile(weights, (num, 1)), np.full(num, budget), random)
    for pair, chance in expected.items():
        share = (found == np.isin(np.arange(5), list(pair))).all(axis=1).mean()
        assert abs(share - chance) < SIGMAS * np.sqrt(chance * (1 - chance) / num)
    assert not found[:, 2].any()


def test_equal_weights_are_uniform():
    num = 40_000
    random = RowRng(2, 1, np.arange(num)).uniform("a", 11)
    shares = sample_tokens(np.ones((num, 11)), np.full(num, 4), random).mean(axis=0)
    assert np.abs(shares - 4 / 11).max() < SIGMAS * np.sqrt(4 / 11 * 7 / 11 / num)


@given(
    st.lists(st.sampled_from([0.0, 5e-324, 1e-310, 1e-9, 1.0, 1e300]), min_size=1, max_size=9),
    st.integers(0, 12),
    st.integers(0, 99),
)
def test_exactly_the_budget_and_never_a_weight_of_zero(weights, budget, seed):
    weights = np.array([weights])
    random = RowRng(seed, 0, np.zeros(1, int)).uniform("a", weights.shape[1])
    random[:, 0] = 0.0
    found = sample_tokens(weights, np.array([budget]), random)
    assert found.sum() == min(budget, (weights > 0).sum())
    assert not found[weights == 0].any()


@given(st.lists(st.integers(1, 6), min_size=1, max_size=12), st.floats(0, 1), st.integers(0, 999))
def test_units_are_whole_and_miss_the_budget_by_less_than_one(sizes, share, seed):
    units = np.repeat(np.arange(len(sizes)), sizes)[None]
    budget = round(share * units.size)
    rng = RowRng(seed, 0, np.zeros(1, int))
    found = sample_units(units, np.ones(units.shape, bool), np.array([budget]), rng)
    assert abs(found.sum() - budget) < max(sizes)
    assert all(len(set(found[units == unit])) == 1 for unit in range(len(sizes)))
    if budget in (0, units.size):
        assert found.sum() == budget


def test_every_unit_is_as_likely_whatever_its_size():
    num, sizes, budget = 40_000, [1, 2, 5, 1, 3, 8], 6
    units = np.tile(np.repeat(np.arange(6), sizes), (num, 1))
    found = sample_units(units, np.ones(units.shape, bool), np.full(num, budget), RowRng(1, 1, np.arange(num)))
    share = budget / sum(sizes)
    assert np.abs(found.mean(axis=0) - share).max() < SIGMAS * np.sqrt(share * (1 - share) / num)
    totals = found.sum(axis=1)
    assert abs(totals.mean() - budget) < SIGMAS * totals.std() / np.sqrt(num)


def test_neighbouring_units_are_chosen_independently_of_their_order():
    num = 40_000
    units = np.tile(np.arange(6), (num, 1))
    found = sample_units(units, np.ones(units.shape, bool), np.full(num, 3), RowRng(1, 1, np.arange(num)))
    for one, other in itertools.combinations(range(6), 2):
        assert abs((found[:, one] & found[:, other]).mean() - 0.2) < SIGMAS * 0.4 / np.sqrt(num)


def units_by_hand(units, maskable, budget, rng):
    """Systematic sampling as its definition says it, for one row."""
    number, arc = rng.small("units", len(units), "<u4")[0], rng.once[0, 1]
    sizes = {u: int((maskable & (units == u)).sum()) for u in sorted(set(units[maskable & (units >= 0)].tolist()))}
    total, start, mask = sum(sizes.values()), 0, np.zeros(len(units), bool)
    begin = int(arc * total) + 1
    for unit in sorted(sizes, key=lambda u: number[u]):
        if (start - begin) % total < budget:
            mask |= maskable & (units == unit)
        start += sizes[unit]
    return mask


@given(st.data())
def test_units_are_those_of_the_definition_in_any_order_and_any_batch(data):
    num, width = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 12))
    generator = np.random.default_rng(data.draw(st.integers(0, 10**6)))
    units = generator.integers(-1, width, (num, width))
    maskable = generator.random((num, width)) < data.draw(st.sampled_from([0.0, 0.5, 1.0]))
    budget = generator.integers(0, width + 3, num)
    rng = RowRng(data.draw(st.integers(0, 999)), 1, np.arange(num))
    found = sample_units(units, maskable, budget, rng)
    for i in range(num):
        assert np.array_equal(found[i], units_by_hand(units[i], maskable[i], budget[i], rng.take(np.array([i]))))


@given(st.data(), st.sampled_from([np.uint32, np.float64]))
def test_the_highest_keys_are_exactly_as_many_and_of_equal_ones_the_first(data, kind):
    num, width = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 9))
    keys = np.random.default_rng(data.draw(st.integers(0, 10**6))).integers(0, 6, (num, width)).astype(kind)
    wanted = np.array(data.draw(st.lists(st.integers(0, width), min_size=num, max_size=num)))
    found = highest(keys, wanted)
    for i in range(num):
        order = sorted(range(width), key=lambda place: (-int(keys[i, place]), place))
        assert np.flatnonzero(found[i]).tolist() == sorted(order[: wanted[i]])


def test_units_count_only_what_is_maskable():
    units = np.array([[-1, 0, 0, 1, 1, 2, -1]])
    maskable = np.array([[False, True, False, True, True, False, False]])
    found = sample_units(units, maskable, np.array([3]), RowRng(1, 1, np.zeros(1, int)))
    assert np.array_equal(found, maskable)


# ---- functions and rows as policies


def lowest(batch, rng, *, ratio: float = 0.3, top: int = 2, words: tuple[str, ...] = ("a",), cut: float | None = None):
    """Keeps its options for the test to see."""
    lowest.seen = ratio, top, words, cut
    return np.zeros(batch.shape, bool)


def test_keyword_only_parameters_become_options(registry, make_rows, vocab):
    assert register_masker("lowest")(lowest) is lowest
    entry = registry.get("lowest")
    fields = fields_of(entry.config)
    assert {name: fields[name][:2] for name in ("ratio", "top", "cut")} == {
        "ratio": (float, 0.3), "top": (int, 2), "cut": (float | None, None),
    }  # fmt: skip
    assert set(fields_of(MaskerConfig)) < set(fields)
    assert entry.doc == "Keeps its options for the test to see." and "test_base.py" in entry.place
    rows = make_rows([ENGLISH])
    options = entry.config(ratio=0.2, ratio_end=0.4, top=5, words=("b",))
    build_masker("lowest", options, vocab)(rows, RowRng(1, 1, rows.ids, progress=0.5))
    assert lowest.seen == (pytest.approx(0.3), 5, ("b",), None)


def test_a_function_may_return_two_or_three_dimensions_and_take_the_budget(registry, make_rows, vocab):
    def flat(batch, rng, *, budget):
        """As `uniform`."""
        return sample_tokens(batch.maskable * 1.0, budget, rng.uniform("uniform", batch.shape[1]))

    register_masker("flat")(flat)
    register_masker("deep")(lambda batch, rng, *, budget: flat(batch, rng, budget=budget)[None])
    assert "budget" not in fields_of(registry.get("flat").config)
    rows = make_rows([ENGLISH, "the dogs"])
    rng = RowRng(1, 1, rows.ids)
    masks = [build_masker(name, MaskerConfig(), vocab)(rows, rng) for name in ("flat", "deep", "uniform")]
    assert masks[0].shape == (1, *rows.shape)
    assert np.array_equal(masks[0], masks[2]) and np.array_equal(masks[1], masks[2])


class OneByOne(RowMasker):
    """The maskable positions with the lowest random numbers."""

    def select_row(self, tokens, maskable, budget, random):
        mask = np.zeros(len(tokens), bool)
        mask[np.argsort(np.where(maskable, random, 2))[:budget]] = True
        return mask


def test_a_row_masker_equals_the_same_policy_over_the_batch(registry, make_rows, vocab):
    @register_masker("at_once")
    def at_once(batch, rng, *, budget):
        """The same."""
        return sample_tokens(batch.maskable * 1.0, budget, rng.uniform("row", batch.shape[1]))

    rows = make_rows([ENGLISH, "the dogs", [], ENGLISH + ENGLISH], extra=3)
    config = MaskerConfig(ratio=0.4, never=("the",), always=("dogs",))
    rng = RowRng(1, 1, rows.ids)
    masks = [masker(rows, rng) for masker in (OneByOne(config, vocab), build_masker("at_once", config, vocab))]
    assert masks[0].sum() > 10 and np.array_equal(*masks)


@pytest.mark.parametrize("answer", [np.full(6, 0.5), np.array([True]), np.array([1, 2])])
def test_a_row_masker_that_returns_nonsense_is_named(make_rows, vocab, answer):
    class Odd(RowMasker):
        """Odd."""

        def select_row(self, tokens, maskable, budget, random):
            return answer

    rows = make_rows([[10, 11, 12, 13]], ids=[7])
    with pytest.raises(ConfigError, match=r"masker Odd: returned .* for row 7; expected bool \[6\]"):
        Odd(MaskerConfig(), vocab)(rows, RowRng(1, 1, rows.ids))


def test_what_cannot_be_registered_says_why(registry):
    class Stranger:
        pass

    for target, config, message in [
        (lambda batch, rng, *, share: None, None, "parameter 'share': has no default"),
        (lambda batch, rng, share=0.1: None, None, r"parameter 'share': is not keyword-only; .*\*, share"),
        (lambda batch, rng, *, words=[]: None, None, "parameter 'words': is of type list"),
        (lambda batch, rng, *, cut=None: None, None, "parameter 'cut': is of type NoneType"),
        (Stranger, None, "Stranger is no Masker"),
        (OneByOne, Stranger, "Stranger are no MaskerConfig"),
        (3, None, "3 is no class and no function"),
    ]:
        with pytest.raises(RegistryError, match=f"masker 'mine'.*{message}"):
            register_masker("mine", config=config)(target)
    assert "mine" not in registry.names()


def test_a_literal_is_an_option(registry):
    @register_masker("moody")
    def moody(batch, rng, *, mood: typing.Literal["good", "bad"] = "good"):
        """Moody."""

    assert registry.get("moody").config(mood="bad").mood == "bad"
