"""Greedy and beam search on models that are tables: against all sequences, by hand, and against batches."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from taskmask.errors import ConfigError
from taskmask.modules.generation import generate
from taskmask.modules.heads_spec import GenerationConfig

EOS, START = 0, 1


class Table:
    """A model that scores the next token by a table of (row, last two tokens), and knows what each hypothesis said."""

    def __init__(self, seed, rows, vocab, chosen=None):
        numbers = torch.Generator().manual_seed(seed)
        self.logits = torch.randn(rows, vocab, vocab, vocab, generator=numbers) * 2
        self.rows = torch.arange(rows) if chosen is None else torch.tensor(chosen)
        self.calls = 0

    def score(self, row, said):
        """Log-probabilities of what follows a text."""
        return self.logits[row, said[-2] if len(said) > 1 else said[-1], said[-1]].log_softmax(-1)

    def __call__(self, tokens, parents, rows):
        self.calls += 1
        if parents is None:
            self.said = tokens[:, None]
        else:
            if rows is not None:
                self.rows, self.said = self.rows[rows], self.said[rows]
            kept = self.said.gather(1, parents[:, :, None].expand(-1, -1, self.said.shape[2]))
            self.said = torch.cat((kept, tokens[:, :, None]), 2)
        before = self.said[:, :, -2:]
        return self.logits[self.rows[:, None], before[:, :, 0], before[:, :, -1]]


def run(table, config, rows=1):
    return [text.tolist() for text in generate(table, torch.full((rows, 1), START), config, eos=EOS)]


def best_of_all(table, config, vocab):
    """The best of all texts, by the score that the search says it looks for."""
    found = {}
    for length in range(1, config.max_length + 1):
        for text in itertools.product(range(1, vocab), repeat=length - 1):
            said, total = [START], 0.0
            for token in (*text, EOS):
                if token == EOS and len(said) == config.max_length:
                    break  # closed for nothing
                total += float(table.score(0, said)[token])
                said.append(token)
            found[text] = total / length**config.length_penalty
    return max(found, key=found.get)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("penalty", [0.0, 1.0])
def test_many_beams_find_the_best_of_all_texts(seed, penalty):
    """With more beams than there are texts, nothing is lost on the way."""
    table, config = Table(seed, 1, 4), GenerationConfig(beams=128, length_penalty=penalty, max_length=4)
    assert run(table, config) == [list(best_of_all(table, config, 4))]


@pytest.mark.parametrize("seed", range(6))
def test_greedy_takes_the_likeliest_token(seed):
    table = Table(seed, 1, 6)
    said = [START]
    while len(said) < 12 and (token := int(table.score(0, said).argmax())) != EOS:
        said.append(token)
    assert run(table, GenerationConfig(max_length=12)) == [said[1:]]


def chain(probabilities):
    """A model whose next token depends on the last one alone: {token: {next: probability}}."""
    table = torch.full((5, 5), -torch.inf)
    for last, following in probabilities.items():
        for token, chance in following.items():
            table[last, token] = math.log(chance)
    model = Table(0, 1, 5)
    model.logits = table[None, None].expand(1, 5, 5, 5)
    return model


def test_a_search_by_hand():
    """Greedy takes 2 (0.5), beams find 3 0 (0.45 x 0.9 = 0.405 against 0.5 x 0.4 = 0.2)."""
    model = {1: {2: 0.5, 3: 0.45, 0: 0.05}, 2: {0: 0.4, 2: 0.3, 4: 0.3}, 3: {0: 0.9, 4: 0.1}, 4: {0: 1.0}}
    assert run(chain(model), GenerationConfig()) == [[2]]
    assert run(chain(model), GenerationConfig(beams=2, length_penalty=0.0)) == [[3]]


def test_the_length_penalty_by_hand():
    """2 0: log(0.5) = -0.69 over 2; 3 4 0: log(0.35) = -1.05 over 3; both finished when the search ends."""
    model = {1: {2: 0.5, 3: 0.35, 0: 0.15}, 2: {0: 1.0}, 3: {4: 1.0}, 4: {0: 1.0}}
    for penalty, wanted in ((0.0, [2]), (1.0, [2]), (3.0, [3, 4])):
        assert run(chain(model), GenerationConfig(beams=3, length_penalty=penalty)) == [wanted], penalty


def test_early_stopping_by_hand():
    """0 (log(0.4)) and 2 0 (log(0.306) / 8) are finished, then 2 3 0 would win: log(0.294) / 27."""
    model = {1: {2: 0.6, 0: 0.4}, 2: {0: 0.51, 3: 0.49}, 3: {0: 1.0}, 4: {0: 1.0}}
    for early, wanted in ((True, [2]), (False, [2, 3])):
        assert run(chain(model), GenerationConfig(beams=2, length_penalty=3.0, early_stopping=early)) == [wanted]


CONFIGS = st.builds(
    lambda beams, penalty, ngram, least, more, early: GenerationConfig(
        beams=beams,
        length_penalty=penalty,
        no_repeat_ngram=ngram,
        min_length=least,
        max_length=least + more,
        early_stopping=early,
    ),
    st.integers(1, 4),
    st.sampled_from([-0.5, 0.0, 0.7, 1.0, 2.0]),
    st.integers(0, 3),
    st.integers(0, 5),
    st.integers(2, 9),
    st.booleans(),
)


@settings(max_examples=60, deadline=None)
@given(config=CONFIGS, seed=st.integers(0, 99))
def test_each_row_alone_is_the_row_in_a_batch(config, seed):
    together = run(Table(seed, 5, 9), config, 5)
    assert together == [run(Table(seed, 5, 9, [row]), config)[0] for row in range(5)]
    assert together == run(Table(seed, 5, 9), config, 5)


@settings(max_examples=60, deadline=None)
@given(config=CONFIGS, seed=st.integers(0, 99))
def test_lengths_and_repetitions_are_kept(config, seed):
    texts = run(Table(seed, 4, 30), config, 4)
    for text in texts:
        assert config.min_length <= len(text) <= config.max_length - 1 and EOS not in text
        if size := config.no_repeat_ngram:
            runs = [tuple(text[i : i + size]) for i in range(len(text) - size + 1)]
            assert len(set(runs)) == len(runs)


@pytest.mark.parametrize("beams", [1, 3])
def test_it_stops_when_all_are_finished(beams):
    model = chain({1: {2: 0.6, 3: 0.4}, 2: {0: 0.9, 4: 0.1}, 3: {0: 0.9, 4: 0.1}, 4: {0: 1.0}})
    run(model, GenerationConfig(beams=beams, max_length=500))
    assert model.calls <= 4


def test_a_prefix_that_is_forced():
    """Its first token is none of the new ones, the others are; texts begin after it."""
    table = Table(3, 2, 8)
    prefix = torch.tensor([[EOS, START]] * 2)
    for beams in (1, 3):
        texts = generate(table, prefix, GenerationConfig(beams=beams, max_length=2), eos=EOS)
        assert [text.tolist() for text in texts] == [[], []]
        (one, other) = generate(
            Table(3, 2, 8), prefix, GenerationConfig(beams=beams, max_length=6, min_length=5), eos=EOS
        )
        assert len(one) == len(other) == 4 and one.dtype == torch.int64
    assert generate(table, prefix[:0], GenerationConfig(), eos=EOS) == []


def test_nothing_that_may_be_said_says_nothing():
    """Where every token is forbidden, the search ends; more beams than texts are no error."""
    config = GenerationConfig(beams=3, no_repeat_ngram=1, max_length=9)
    assert all(len(text) <= 3 for text in run(Table(1, 2, 4), config, 2))


def test_settings_that_do_not_fit():
    with pytest.raises(ConfigError) as caught:
        GenerationConfig(beams=0, no_repeat_ngram=-1, min_length=5, max_length=5)
    for part in ("beams: is 0", "no_repeat_ngram: is -1", "min_length: is 5; expected fewer than max_length, 5"):
        assert part in str(caught.value)
