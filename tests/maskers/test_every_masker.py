"""The laws that hold for every registered masker; registering one enrols it."""

import dataclasses
import inspect
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from taskmask.config import Assignment, Problems, build, fields_of, help_lines, to_dict
from taskmask.data.rng import RowRng
from taskmask.errors import ConfigError
from taskmask.maskers.base import Masker, build_masker
from taskmask.registry import MASKERS

MODES = ["fully_explored mode=in_turn", "fully_explored mode=sequential"]
pytestmark = pytest.mark.parametrize("name", [*MASKERS.names(), *MODES])
FEW = settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])


class Case(NamedTuple):
    """Rows to mask, as lists of ids, and the numbers of the rows."""

    contents: list
    ids: np.ndarray


def entry_of(name):
    """The entry of a masker, with the options that stand behind its name."""
    name, *options = name.split()
    entry = MASKERS.get(name)
    return dataclasses.replace(entry, preset={**entry.preset, **dict(option.split("=") for option in options)})


def masker_of(name, vocab, **options):
    entry = entry_of(name)
    try:
        config = entry.config(**{**entry.preset, **options})
    except ConfigError as error:
        pytest.skip(str(error))
    return build_masker(entry.name, config, vocab)


def rows_for(masker, case, make_rows, index=None, extra=0):
    """The rows of a case at `index`; every column that the masker reads is 0 or 1, by row number and place."""
    index = np.arange(len(case.contents)) if index is None else index
    rows = make_rows([case.contents[i] for i in index], case.ids[index], extra)
    for column in masker.columns:
        values = RowRng(0, 0, rows.ids).uniform(column, rows.shape[1]) < 0.3
        rows.columns[column] = (values & rows.keep & ~rows.vocab.is_special[rows.tokens]).astype(np.int64)
    return rows


@pytest.fixture(scope="module")
def case(texts, vocab):
    contents = vocab.encode([*texts.values(), *(text * 3 for text in texts.values())])
    half = vocab.encode(["the lazy dogs"])[0]
    contents += [[], half[:1], [vocab.eos], [vocab.eos] * 3, [*half, vocab.eos, *half]]
    contents.append([vocab.mask, vocab.unk, vocab.pad])
    return Case(contents, 100 + np.arange(len(contents)))


def check(masker, rows, mask):
    assert mask.dtype == bool and mask.shape == (masker.views, *rows.shape)
    assert not (mask & rows.vocab.is_special[rows.tokens]).any()
    assert not (mask & ~rows.keep).any()


@pytest.mark.parametrize("ratio", [0.0, 0.15, 0.5, 1.0])
def test_no_special_no_padding_over_many_scripts(name, ratio, vocab, make_rows, case):
    masker = masker_of(name, vocab, ratio=ratio)
    rows = rows_for(masker, case, make_rows, extra=3)
    for epoch in range(10):
        check(masker, rows, masker(rows, RowRng(1, epoch, rows.ids)))


@FEW
@given(data=st.data())
def test_no_special_no_padding_over_random_rows(name, vocab, make_rows, data):
    special = st.sampled_from(vocab.special_ids.tolist())
    content = st.lists(st.integers(0, vocab.size - 1) | special, max_size=12)
    contents = data.draw(st.lists(content, min_size=1, max_size=4))
    masker = masker_of(name, vocab, ratio=data.draw(st.floats(0.02, 1)))
    rows = rows_for(masker, Case(contents, np.arange(len(contents))), make_rows, extra=data.draw(st.integers(0, 3)))
    check(masker, rows, masker(rows, RowRng(data.draw(st.integers(0, 99)), 1, rows.ids, data.draw(st.floats(0, 1)))))


@pytest.mark.parametrize("ratio", [0.0, 0.15, 1.0])
def test_never_is_never_and_always_is_always_masked(name, ratio, vocab, make_rows, case):
    never, always = ("▁the", "re", "的"), ("▁over", "天", "i")
    masker = masker_of(name, vocab, ratio=ratio, never=never, always=always)
    rows = rows_for(masker, case, make_rows)
    for epoch in range(5):
        mask = masker(rows, RowRng(1, epoch, rows.ids))
        check(masker, rows, mask)
        assert not mask[:, np.isin(rows.tokens, vocab.ids_of_pieces(never))].any()
        assert mask[:, np.isin(rows.tokens, vocab.ids_of_pieces(always))].all()


@FEW
@given(data=st.data())
def test_a_mask_depends_on_seed_epoch_and_row_alone(name, vocab, make_rows, case, data):
    """Not on the other rows of the batch, their order, the padding or the global random state."""
    masker = masker_of(name, vocab, never=("▁the",), always=("re",))
    rows = rows_for(masker, case, make_rows)
    seed, epoch, progress = data.draw(st.integers(0, 99)), data.draw(st.integers(0, 9)), data.draw(st.floats(0, 1))
    whole = masker(rows, RowRng(seed, epoch, rows.ids, progress))
    index = np.array(data.draw(st.lists(st.integers(0, len(case.ids) - 1), min_size=1, max_size=5)))
    some = rows_for(masker, case, make_rows, index, extra=data.draw(st.integers(0, 20)))
    np.random.seed(data.draw(st.integers(0, 9)))
    part = masker(some, RowRng(seed, epoch, some.ids, progress))
    width = min(rows.shape[1], some.shape[1])
    assert np.array_equal(part[:, :, :width], whole[:, index][:, :, :width])
    assert not part[:, :, width:].any()


def test_it_has_a_docstring_with_its_source_and_options_with_help(name):
    entry = entry_of(name)
    assert issubclass(entry.load(), Masker) and inspect.getdoc(entry.load())
    assert "**Source:**" in inspect.getdoc(entry.load())
    assert all(text for _, _, text in fields_of(entry.config).values())
    help = "\n".join(help_lines(entry.config, "masker", **entry.preset))
    assert all(f"--masker.{field} " in help for field in fields_of(entry.config))


def test_its_options_survive_a_round_trip(name):
    entry = entry_of(name)
    options = entry.config(**{**entry.preset, "ratio": 0.25, "ratio_schedule": "cosine", "never": ("the", "s")})
    problems = Problems()
    values = {key: Assignment(f"masker.{key}", value, "file") for key, value in to_dict(options).items()}
    assert build(entry.config, values, "masker", problems) == options
    problems.raise_any()
