"""Importance by the growing buffer: computed by hand, planted keywords, and what must not matter."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from task_data_help import ragged, write

from taskmask.config.settings import DataSettings
from taskmask.data.batch import TokenBatch
from taskmask.data.compact import by_length, compact
from taskmask.data.dataset import Column, Dataset
from taskmask.errors import ConfigError
from taskmask.masking.sentences import sentence_numbers
from taskmask.tasks.word_importance import NAMES, WordImportance, WordImportanceConfig, lowest_of_groups
from taskmask.tokenizer.tokenizer import Vocabulary, train_vocabulary

WORDS = "the movie is great this and fun a fine plot".split()  # noqa: SIM905
PLAIN = {"guard": False, "sentences": False}


@pytest.fixture(scope="module")
def vocab():
    """Every word is one piece."""
    made = Vocabulary(train_vocabulary([" ".join(WORDS)] * 50, 330, "bpe"))
    assert all(len(ids) == 1 for ids in made.encode(WORDS))
    return made


def rows_of(vocab, contents, labels=None, extra=0):
    width = max(map(len, contents)) + 2 + extra
    tokens = np.full((len(contents), width), vocab.pad)
    for row, content in zip(tokens, contents, strict=True):
        row[: len(content) + 2] = [vocab.bos, *content, vocab.eos]
    lengths = np.array([len(content) + 2 for content in contents])
    labels = np.ones(len(contents), int) if labels is None else np.asarray(labels)
    return TokenBatch(tokens, lengths, np.arange(len(contents)), vocab, {"label": labels})


class Bag:
    """A classifier whose logit for class 1 is the sum of the weights of the pieces that it sees, each counted once."""

    def __init__(self, vocab, weights, once=False):
        self.table = np.zeros(vocab.size)
        for word, weight in weights.items():
            self.table[vocab.encode([word])[0] if isinstance(word, str) else word] = weight
        self.vocab, self.once, self.seen, self.calls = vocab, once, [], 0

    def __call__(self, batch):
        tokens = batch.inputs["tokens"]
        keep = batch.inputs.get("keep", np.ones(tokens.shape, bool))
        assert ((tokens != self.vocab.pad) == keep).all()
        weights = self.table[tokens] * keep
        if self.once:
            weights = np.array([self.table[np.unique(row)].sum() for row in np.where(keep, tokens, self.vocab.pad)])[
                :, None
            ]
        logit = torch.from_numpy(weights.sum(1))
        self.seen += [tuple(row[k].tolist()) for row, k in zip(tokens, keep, strict=True)]
        self.calls += 1
        return {"label": torch.stack([torch.zeros_like(logit), logit], 1)}, batch


def task_of(vocab, **options):
    return WordImportance(WordImportanceConfig(**{**PLAIN, **options}), vocab, None, {"label": ["bad", "good"]})


def important(vocab, text, weights, **options):
    """The words of a text that are important."""
    words = text.split()
    task = task_of(vocab, **options)
    rows = rows_of(vocab, [np.concatenate(vocab.encode(words))])
    scores = task.scores(Bag(vocab, weights), rows, 1000)[0, 1:-1]
    assert np.isfinite(scores).all()
    return [word for word, score in zip(words, scores, strict=True) if score < task.config.delta], scores


@pytest.mark.parametrize(
    ("text", "weights", "delta", "expected", "scores"),
    [
        ("the movie is great", {"great": 3}, 0.05, ["great"], [0.4526, 0.4526, 0.4526, 0]),
        ("this movie is great and fun", {"great": 2, "fun": 1}, 0.05, ["fun"], [0.4526] * 3 + [0.0718, 0.0718, 0]),
        ("this movie is great and fun", {"great": 2, "fun": 1}, 0.10, ["great"], None),
        ("fun and great movie", {"great": 2, "fun": 1}, 0.10, ["great"], None),
        ("great great plot", {"great": 3}, 0.05, ["great", "great"], [0.0450, 0.0450, None]),
        ("a fine plot", {"fine": 0.1}, 0.05, ["a", "fine", "plot"], [0.025, 0, 0.025]),
    ],
)
def test_by_hand(vocab, text, weights, delta, expected, scores):
    """P(y|s) is the logistic function of the sum of the weights."""
    found, given = important(vocab, text, weights, delta=delta)
    assert found == expected
    for value, wanted in zip(given, scores or [], strict=False):
        assert wanted is None or value == pytest.approx(wanted, abs=1e-4)


@pytest.mark.parametrize(
    ("text", "weights", "delta", "expected"),
    [
        ("the movie is great", {"great": 3}, 0.05, ["great"]),
        ("this movie is great and fun", {"great": 2, "fun": 1}, 0.05, ["fun"]),
        ("this movie is great and fun", {"great": 2, "fun": 1}, 0.10, ["great"]),
        ("fun and great movie", {"great": 2, "fun": 1}, 0.10, ["great"]),
        ("great great plot", {"great": 3}, 0.05, ["great", "great"]),
        ("a fine plot", {"fine": 0.1}, 0.05, None),  # all three without the guard
        ("great", {"great": 3}, 0.05, ["great"]),
    ],
)
def test_by_hand_with_the_guard_of_the_defaults(vocab, text, weights, delta, expected):
    """It leaves out the text of which the classifier is hardly sure, and no other."""
    words = text.split()
    task = WordImportance(WordImportanceConfig(delta=delta), vocab, None, {"label": ["bad", "good"]})
    scores = task.scores(Bag(vocab, weights), rows_of(vocab, [np.concatenate(vocab.encode(words))]), 1000)[0, 1:-1]
    assert np.isnan(scores).all() == (expected is None)
    found = [word for word, score in zip(words, scores, strict=True) if score < delta]
    assert found == (expected or [])


def test_the_dropped_word_of_the_third_example(vocab):
    """After great is taken out, fun alone is far from sure."""
    _, scores = important(vocab, "this movie is great and fun", {"great": 2, "fun": 1}, delta=0.1)
    assert scores[-1] == pytest.approx(0.2215, abs=1e-4)


def test_the_guard_leaves_out_what_the_classifier_does_not_know(vocab):
    rows = rows_of(vocab, [np.concatenate(vocab.encode(text.split())) for text in ("a fine plot", "the great movie")])
    scores = task_of(vocab, guard=True).scores(Bag(vocab, {"fine": 0.1, "great": 3}), rows, 1000)
    assert np.isnan(scores[0]).all() and np.isfinite(scores[1, 1:-1]).all()
    wrong = rows_of(vocab, [np.concatenate(vocab.encode(["great", "movie"]))] * 2, labels=[0, 1])
    scores = task_of(vocab).scores(Bag(vocab, {"great": 3}), wrong, 1000)
    assert np.isnan(scores[0]).all() and np.isfinite(scores[1, 1:-1]).all()


@pytest.mark.parametrize(
    ("empty", "text", "margin", "used"),
    [
        (0.5, 0.6, 0.1, False),  # above chance by less than delta and the margin
        (0.5, 0.6, 0.0, True),
        (0.5, 0.54, 0.0, False),  # by less than delta
        (0.2, 0.6, 0.1, True),  # an empty text is believed less than chance: that is what must be exceeded
        (0.9, 0.97, 0.1, True),  # and chance where it is believed more
    ],
)
def test_by_how_much_the_guard_wants_a_text_to_be_surer(vocab, empty, text, margin, used):
    bag = Bag(vocab, {"fine": np.log(text / (1 - text)) - np.log(empty / (1 - empty))})
    bag.table[vocab.bos] = np.log(empty / (1 - empty))  # P(y) of an empty text
    rows = rows_of(vocab, [np.concatenate(vocab.encode(["the", "fine", "plot"]))])
    _, use = task_of(vocab, guard=True, margin=margin).look(bag, rows, 1000)
    assert (use[0, 1:-1] == NAMES["use"].index("used" if used else "unsure")).all()


def test_of_the_class_that_an_empty_text_has_those_without_a_keyword_are_left_out(vocab):
    """Without a word the classifier believes that a text is bad: words of bad texts matter nevertheless, not any."""
    bag = Bag(vocab, {"great": 6, "plot": -3})
    bag.table[vocab.bos] = -2  # P(bad) of an empty text is 0.88
    contents = [np.concatenate(vocab.encode(text.split())) for text in ("fun and great", "a fine plot", "a fine movie")]
    scores, use = task_of(vocab, guard=True).look(bag, rows_of(vocab, contents, labels=[1, 0, 0]), 1000)
    assert [NAMES["use"][int(row[1])] for row in use] == ["used", "used", "unsure"]
    assert (scores[:2, 1:-1] < 0.05).tolist() == [[False, False, True]] * 2 and np.isnan(scores[2]).all()


def test_what_is_left_out_and_why(vocab):
    texts = ["a fine plot", "the great movie", "great movie", "great plot"]
    rows = rows_of(vocab, [np.concatenate(vocab.encode(text.split())) for text in texts], labels=[1, 1, 0, -1])
    scores, use = task_of(vocab, guard=True).look(Bag(vocab, {"fine": 0.1, "great": 3}), rows, 1000)
    told = [NAMES["use"][int(row[1])] for row in use]
    assert told == ["unsure", "used", "misclassified", "unlabelled"] and (np.isnan(use) == ~rows.maskable).all()
    assert (np.isfinite(scores) == (use == 0)).all()


def ordinary(vocab):
    return np.flatnonzero(~vocab.is_special)


def planted(vocab, copies, different):
    """Twenty keywords, and texts of other pieces with `copies` of `different` keywords in them."""
    random = np.random.default_rng(copies)
    keywords, others = np.split(ordinary(vocab), [20])
    contents = []
    for _ in range(60):
        content = random.choice(others, 12)
        content[random.choice(12, copies, replace=False)] = random.choice(keywords, different, replace=False)
        contents.append(content)
    return keywords, contents


@pytest.mark.parametrize("delta", [0.01, 0.05, 0.2])
@pytest.mark.parametrize("copies", [1, 2, 3])
def test_planted_keywords_are_found_and_leave_one_out_misses_them(vocab, copies, delta):
    """With several keywords that say the same, taking one away changes nothing; the buffer finds each."""
    keywords, contents = planted(vocab, copies, different=1)
    bag = Bag(vocab, {}, once=True)
    bag.table[keywords] = 6.0
    task, rows = task_of(vocab, delta=delta), rows_of(vocab, contents)
    scores = task.scores(bag, rows, 4096)
    found, truth = scores < delta, np.isin(rows.tokens, keywords)
    assert (found == truth).all()  # precision, recall and F1 of 1
    full, _ = task.chances(bag, task.apart(rows), rows.keep, 4096)
    left_out = np.zeros(rows.shape)
    for place in range(1, 13):
        kept = rows.keep.copy()
        kept[:, place] = False
        left_out[:, place] = full - task.chances(bag, task.apart(rows), kept, 4096)[0]
    recall = ((left_out > delta) & truth).sum() / truth.sum()
    assert recall == (1.0 if copies == 1 else 0.0)


@pytest.mark.parametrize("delta", [0.01, 0.05, 0.2])
@pytest.mark.parametrize("copies", [2, 3])
def test_different_keywords_of_which_one_suffices_are_all_found(vocab, copies, delta):
    keywords, contents = planted(vocab, copies, different=copies)
    bag = Bag(vocab, {})
    bag.table[keywords] = 12.0
    rows = rows_of(vocab, contents)
    for guard in (False, True):
        found = task_of(vocab, delta=delta, guard=guard).scores(bag, rows, 4096) < delta
        assert (found == np.isin(rows.tokens, keywords)).all()


def test_the_longest_text_says_how_often_the_classifier_is_asked(vocab):
    """All texts grow together: a call for the whole texts, and one for each place of the longest."""
    sizes = [3, 11, 1, 7, 7]
    bag = Bag(vocab, {"great": 3})
    contents = [np.resize(ordinary(vocab)[:5], size) for size in sizes]
    labels = [int(bag.table[content].sum() > 0) for content in contents]
    task_of(vocab).scores(bag, rows_of(vocab, contents, labels), 10**6)
    assert bag.calls == 1 + max(sizes)


@pytest.mark.parametrize("unit", ["token", "word"])
def test_an_unknown_piece_is_a_word_like_others(vocab, unit):
    """It is added and judged in its place, stands in no buffer before it, and begins no sentence."""
    (movie,), (great,) = vocab.encode(["movie", "great"])
    content = [movie, vocab.unk, vocab.unk, great, movie]
    rows, bag = rows_of(vocab, [content]), Bag(vocab, {"great": 3, vocab.unk: -1.0})
    task = task_of(vocab, sentences=True, unit=unit)
    assert sentence_numbers(rows)[0].tolist() == [-1, 0, 0, 0, 0, 0, -1]
    scores = task.scores(bag, rows, 1000)[0]
    shown = [row[1:-1] for row in bag.seen[1:]]  # the first is the whole text
    assert shown == [tuple(content[:size]) for size in range(1, 5)] + [(*content[:3], movie)]
    assert np.isfinite(scores[1:-1]).all() and (scores < 0.05).tolist() == [False] * 4 + [True] + [False] * 2


def test_the_buffers_are_those_of_the_rule(vocab):
    """What the classifier is shown is the buffer and one word; a word that was dropped is never shown again."""
    text = "this movie is great and fun".split()  # noqa: SIM905
    bag, content = Bag(vocab, {"great": 2, "fun": 1}), np.concatenate(vocab.encode(text))
    task_of(vocab, delta=0.1).scores(bag, rows_of(vocab, [content]), 1000)
    shown = [row[1:-1] for row in bag.seen[1:]]  # the first is the whole text
    ids = dict(zip(text, content.tolist(), strict=True))
    expected = [
        "this",
        "this movie",
        "this movie is",
        "this movie is great",
        "this movie is and",
        "this movie is and fun",
    ]
    assert shown == [tuple(ids[word] for word in buffer.split()) for buffer in expected]
    assert bag.calls == 1 + len(text)


@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_batches_order_and_padding_do_not_matter(vocab, data):
    pieces = ordinary(vocab).tolist()
    contents = data.draw(st.lists(st.lists(st.sampled_from(pieces), min_size=1, max_size=9), min_size=1, max_size=5))
    weights = np.random.default_rng(data.draw(st.integers(0, 99))).normal(0, 1, vocab.size)
    labels = [int(weights[content].sum() > 0) for content in contents]
    bag = Bag(vocab, {})
    bag.table[:] = np.where(vocab.is_special, 0, weights)
    task = task_of(vocab, delta=data.draw(st.sampled_from([0.01, 0.05, 0.2])))
    whole = task.scores(bag, rows_of(vocab, contents, labels), 4096)
    other = task.scores(bag, rows_of(vocab, contents, labels, extra=7), data.draw(st.integers(1, 60)))
    assert np.allclose(whole, other[:, : whole.shape[1]], rtol=0, atol=1e-12, equal_nan=True)
    order = data.draw(st.permutations(range(len(contents))))
    moved = task.scores(bag, rows_of(vocab, [contents[n] for n in order], [labels[n] for n in order]), 50)
    assert np.allclose(moved, whole[list(order)], rtol=0, atol=1e-12, equal_nan=True)


def test_the_last_word_of_what_stayed_whole_has_no_score_but_zero(vocab):
    """However numbers are rounded, which differs with the batch: at a delta of 0 it would decide."""

    class Jitters(Bag):
        def __call__(self, batch):
            outputs, batch = super().__call__(batch)
            return {"label": outputs["label"] - torch.tensor([0.0, 1e-9 * self.calls])}, batch

    task, words = task_of(vocab, delta=0.0), np.concatenate(vocab.encode(["this", "movie", "is", "great"]))
    scores = task.scores(
        Jitters(vocab, dict.fromkeys(("this", "movie", "is", "great"), 1.0)), rows_of(vocab, [words]), 99
    )
    assert (scores[0, 1:4] > 0).all() and scores[0, 4] == 0


def test_rows_without_a_label_are_left_out_of_a_training_and_annotated(vocab, tmp_path):
    rows = [np.append(ids, vocab.eos) for ids in vocab.encode(["the movie is great", "a fine plot", "this and fun"])]
    columns = {
        "tokens": (Column("ragged", vocab.token_dtype), ragged(rows)),
        "label": (Column("row", "int32"), np.array([1, -1, 0])),
    }
    write(tmp_path / "data", vocab, {"train": columns}, {"label": ["bad", "good"]})
    dataset = Dataset.open(tmp_path / "data")
    sources = [
        task_of(vocab).source(dataset.split("train"), DataSettings(length=20), dataset, labelled)
        for labelled in (True, False)
    ]
    assert [source.stored.tolist() for source in sources] == [[0, 2], [0, 1, 2]]
    assert all("label" in source.columns for source in sources)
    steps = []
    task_of(vocab).annotate_rows(Bag(vocab, {"great": 3.0}), sources[1], np.arange(3), ("score",), 99, steps.append)
    assert sum(steps) == sources[1].lengths.sum() and len(steps) > 2  # a bar that moves while texts are looked at


def test_words_go_in_and_out_as_a_whole(vocab):
    long = Vocabulary(train_vocabulary([" ".join(WORDS)] * 50, 300, "bpe"))  # words of several pieces
    (content,) = long.encode(["the movie is great"])
    rows = rows_of(long, [content])
    bag = Bag(long, {})
    (great,) = long.encode(["great"])
    bag.table[great[-1]] = 3.0
    scores = task_of(long, unit="word").scores(bag, rows, 1000)
    words = rows.words[0]
    assert all(len(set(scores[0][words == word].tolist())) == 1 for word in range(words.max() + 1))
    assert (scores[0] < 0.05).sum() == len(great)


def test_sentences_are_taken_each_for_itself():
    texts = ["The movie is great. Fun it is not! (Really.) It cost 3.5 dollars", "我爱北京。今天天气很好！"]
    vocab = Vocabulary(train_vocabulary(texts * 20, 330, "bpe", character_coverage=1.0))
    rows = rows_of(vocab, vocab.encode(texts))
    numbers = sentence_numbers(rows)
    for row, parts in zip(range(2), (["The movie is great.", "Fun it is not!", "(Really.)", "It cost 3.5 dollars"],
                                     ["我爱北京。", "今天天气很好！"]), strict=True):  # fmt: skip
        shown = [vocab.decode(rows.tokens[row][numbers[row] == n]) for n in range(numbers[row].max() + 1)]
        assert shown == parts
    assert (numbers[rows.words < 0] == -1).all()
    bag = Bag(vocab, {})
    task_of(vocab, sentences=True, guard=False).scores(bag, rows, 1000)
    assert len({row for row in bag.seen if len(row) > 2}) > 0 and max(map(len, bag.seen)) < rows.shape[1]


def test_the_union_over_aspects():
    nan = np.nan
    scores = np.array([[nan, 0.5, 0.01], [nan, nan, nan], [nan, 0.2, 0.3], [nan, 0.0, 0.9]])
    found = lowest_of_groups(scores, np.array([1, 1, 0, 1]))
    expected = [[nan, 0.0, 0.01], [nan, 0.0, 0.01], [nan, 0.2, 0.3], [nan, 0.0, 0.01]]
    assert np.array_equal(found, np.array(expected), equal_nan=True)


@given(data=st.data())
def test_compaction_keeps_what_is_kept(data):
    shape = data.draw(st.integers(1, 5)), data.draw(st.integers(1, 8))
    values = np.arange(np.prod(shape)).reshape(shape) + 1
    kept = np.array(data.draw(st.lists(st.booleans(), min_size=values.size, max_size=values.size))).reshape(shape)
    out = compact(values, kept, 0)
    for row, given_, own in zip(out, values, kept, strict=True):
        assert row[row > 0].tolist() == given_[own].tolist() and (row[: own.sum()] > 0).all()
    batches = list(by_length(kept.sum(1), data.draw(st.integers(1, 30))))
    assert sorted(np.concatenate(batches).tolist()) == list(range(shape[0]))


def test_wrong_options():
    for options, said in (({"margin": -0.1}, "task.margin"), ({"delta": 2.0}, "task.delta")):
        with pytest.raises(ConfigError, match=said):
            WordImportanceConfig(**options)


def test_a_word_matters_if_it_does_for_one_aspect(vocab, tmp_path):
    """Rows of a text and an aspect each, read from a dataset; what is asked in parts comes to the same."""
    texts = ["the movie is great", "a fine plot", "the movie is great", "the movie is great"]
    aspects = ["plot", "movie", "fun", "movie"]
    rows = [np.append(ids, vocab.eos) for ids in vocab.encode(texts)]
    seconds = [np.append(ids, vocab.eos) for ids in vocab.encode(aspects)]
    columns = {
        "tokens": (Column("ragged", vocab.token_dtype), ragged(rows)),
        "aspect": (Column("ragged", vocab.token_dtype), ragged(seconds)),
        "label": (Column("row", "int32"), np.array([1, 1, 0, 1])),
    }
    write(tmp_path / "data", vocab, {"train": columns}, {"label": ["bad", "good"]})
    dataset = Dataset.open(tmp_path / "data")
    task = task_of(vocab, pair="aspect", guard=False)
    source = task.source(dataset.split("train"), DataSettings(length=40), dataset)
    bag = Bag(vocab, {"great": 3, "fun": -9, "plot": -2})  # of "fun" it says the right label, by that word alone
    whole = task.annotate_rows(bag, source, np.arange(4), ("important", "use"), 400, lambda tokens: None)
    content = slice(1, 5)
    assert [row[content].tolist() for row in np.array(whole["use"])[[0, 2, 3]]] == [[0] * 4] * 3
    important = [row[content].tolist() for row in np.array(whole["important"])[[0, 2, 3]]]
    assert important[0] == important[1] == important[2] and important[0][3] == 1
    parts = [task.annotate_rows(bag, source, np.array([n]), ("important",), 400, lambda tokens: None) for n in range(4)]
    for number, part in enumerate(parts):
        size = source.stops[number] - source.starts[number]
        both = part["important"][0][1 : 1 + size], whole["important"][number][1 : 1 + size]
        assert both[0].tolist() == both[1].tolist()


def test_aspects_cut_the_text_at_different_lengths(vocab, tmp_path):
    """Rows of one text belong together, however much of it a long aspect leaves; the texts are compared once."""
    texts = ["the movie is a great and fine plot", "the movie is fun", "the movie is a great and fine plot"]
    aspects = ["plot and fun this movie", "plot", "plot"]
    columns = {
        "tokens": (Column("ragged", vocab.token_dtype), ragged([np.append(t, vocab.eos) for t in vocab.encode(texts)])),
        "aspect": (
            Column("ragged", vocab.token_dtype),
            ragged([np.append(t, vocab.eos) for t in vocab.encode(aspects)]),
        ),
        "label": (Column("row", "int32"), np.array([0, 1, 1])),
    }
    write(tmp_path / "data", vocab, {"train": columns}, {"label": ["bad", "good"]})
    dataset = Dataset.open(tmp_path / "data")
    task = task_of(vocab, pair="aspect", guard=False)
    source = task.source(dataset.split("train"), DataSettings(length=11), dataset)
    assert (source.stops - source.starts).tolist() == [4, 4, 7]
    bag = Bag(vocab, {"is": -6, "great": 12, "plot": -1})  # the first row is cut before "great": "is" makes it bad
    whole = task.annotate_rows(bag, source, np.arange(3), ("important",), 400, lambda tokens: None)["important"]
    assert whole[0][1:5].tolist() == whole[2][1:5].tolist() and whole[0][3] == 1 and whole[1][3] != 1
    one = task.annotate_rows(bag, source, np.array([2]), ("important",), 400, lambda tokens: None)["important"][0]
    assert one[1:8].tolist() == whole[2][1:8].tolist() and len(task._texts) == 1
