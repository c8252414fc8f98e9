"""The batches of masked language modelling, and how people read them."""

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taskmask.data.batch import TokenBatch
from taskmask.data.rng import RowRng
from taskmask.errors import ConfigError
from taskmask.maskers.base import Masker, MaskerConfig, build_masker
from taskmask.registry import MASKERS, TASKS
from taskmask.tasks.masked_lm import MaskedLM, MaskedLMConfig
from taskmask.tokenizer.tokenizer import Vocabulary, train_vocabulary

TEXTS = ["The quick brown foxes jump over the lazy dogs.", "我爱北京，今天很好。", "unable foxes"]


class Twice(Masker):
    """Two masks of a row."""

    views = 2

    def select(self, batch, rng):
        return np.stack([batch.maskable & (rng.uniform(view, batch.shape[1]) < 0.4) for view in "ab"])


@pytest.fixture(scope="module")
def vocab():
    return Vocabulary(train_vocabulary(TEXTS * 20, 330, "bpe", character_coverage=1.0))


@pytest.fixture(scope="module")
def rows(vocab):
    contents = vocab.encode(TEXTS)
    lengths = np.array([len(c) + 2 for c in contents])
    tokens = np.full((len(contents), lengths.max()), vocab.pad)
    for row, content in zip(tokens, contents, strict=True):
        row[: len(content) + 2] = [vocab.bos, *content, vocab.eos]
    return TokenBatch(tokens, lengths, np.array([7, 8, 9]), vocab)


def task_of(vocab, masker="uniform", ratio=0.4, **options):
    if isinstance(masker, str):
        masker = build_masker(masker, MASKERS.get(masker).config(ratio=ratio), vocab)
    return MaskedLM(MaskedLMConfig(**options), vocab, masker, {})


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 99), st.sampled_from(["uniform", "whole_word", "span", "mix"]), st.floats(0, 1),
    st.sampled_from(["token", "word", "span"]),
)  # fmt: skip
def test_corrupted_tokens_and_targets_rebuild_the_text(vocab, rows, seed, masker, ratio, per):
    batch = task_of(vocab, masker, ratio, replace_per=per).make_batch(rows, RowRng(seed, 1, rows.ids))
    tokens = batch.inputs["tokens"].copy()
    tokens.reshape(-1)[batch.inputs["positions"]["mlm"]] = batch.targets["mlm"]
    assert np.array_equal(tokens, rows.tokens)
    assert np.array_equal(batch.inputs["keep"], rows.keep)
    assert batch.num_tokens == rows.lengths.sum() and np.array_equal(batch.ids, rows.ids)


def test_views_stack_up(vocab, rows):
    task = task_of(vocab, Twice(MaskerConfig(), vocab), mask_share=1.0, random_share=0.0)
    batch = task.make_batch(rows, RowRng(1, 1, rows.ids))
    tokens, positions = batch.inputs["tokens"], batch.inputs["positions"]["mlm"]
    assert task.views == 2 and tokens.shape == batch.inputs["keep"].shape == (6, rows.shape[1])
    assert (tokens.reshape(-1)[positions] == vocab.mask).all() and (tokens == vocab.mask).sum() == len(positions)
    assert not np.array_equal(tokens[:3], tokens[3:])
    assert batch.num_tokens == 2 * rows.lengths.sum()
    tokens.reshape(-1)[positions] = batch.targets["mlm"]
    assert np.array_equal(tokens, np.tile(rows.tokens, (2, 1)))


def test_without_padding_there_is_nothing_to_keep(vocab, rows):
    full = rows.take(np.array([0]))
    assert "keep" not in task_of(vocab).make_batch(full, RowRng(1, 1, full.ids)).inputs


def test_nothing_masked_is_no_target_and_undefined(vocab, rows):
    task = task_of(vocab, ratio=0.0)
    batch = task.make_batch(rows, RowRng(1, 1, rows.ids))
    assert len(batch.targets["mlm"]) == len(batch.inputs["positions"]["mlm"]) == 0
    assert np.array_equal(batch.inputs["tokens"], rows.tokens)
    metrics = task.metrics({"mlm": 0.0, "mlm_count": 0, "mlm_correct": 0})
    assert set(metrics) == {"loss", "perplexity", "accuracy"} and np.isnan(list(metrics.values())).all()


@pytest.mark.parametrize("shares", [(1.0, 0.0), (0.0, 1.0), (0.5, 0.5)])
def test_shown_without_its_brackets_a_row_is_the_text(vocab, rows, shares):
    task = task_of(vocab, mask_share=shares[0], random_share=shares[1])
    for epoch in range(20):
        batch = task.make_batch(rows, RowRng(1, epoch, rows.ids))
        lines = task.show(batch)
        assert sum(line.count("[") for line in lines) == len(batch.targets["mlm"]) > 5
        assert [re.sub(r"[\[\]]|</?s>", "", line).strip() for line in lines] == TEXTS


def test_shown_with_the_guesses_of_a_model(vocab, rows):
    torch = pytest.importorskip("torch")
    task = task_of(vocab)
    batch = task.make_batch(rows, RowRng(1, 1, rows.ids))
    guess = int(vocab.ids_of_pieces(["."])[0])
    logits = torch.nn.functional.one_hot(torch.full((len(batch.targets["mlm"]),), guess), vocab.size)
    lines = task.show(batch, {"mlm": logits})
    assert sum(line.count(" > .]") for line in lines) == len(batch.targets["mlm"])


def test_wrong_shares_are_named():
    with pytest.raises(ConfigError, match=r"task.mask_share: and task.random_share add up to 1.1"):
        MaskedLMConfig(mask_share=0.9, random_share=0.2)
    with pytest.raises(ConfigError, match=r"task.random_share: is -0.1"):
        MaskedLMConfig(random_share=-0.1)
    assert MaskedLMConfig(mask_share=0.7, random_share=0.3)


def test_it_is_registered_with_its_defaults():
    task = TASKS.get("masked_lm").load()
    assert (task.default_criterion, task.default_masker, task.columns) == ("masked_lm", "uniform", ("tokens",))
