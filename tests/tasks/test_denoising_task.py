"""The batches of denoising with every masker, what they rebuild, and how people read them."""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from taskmask.data.batch import TokenBatch
from taskmask.data.rng import RowRng
from taskmask.errors import ConfigError, DataError
from taskmask.maskers.base import Masker, MaskerConfig, build_masker
from taskmask.masking.replace import insert_gaps, permute_sentences
from taskmask.masking.targets import put_back
from taskmask.registry import MASKERS
from taskmask.tasks.denoising import Denoising, DenoisingConfig
from taskmask.tokenizer.tokenizer import Vocabulary, train_vocabulary

TEXTS = [
    "The quick brown foxes jump. Over the lazy dogs! Often, not always.",
    "我爱北京，今天很好。",
    "unable foxes",
    "fox",
]
ENDLESS = 1000  # sentinels, so that any mask has enough


class Chosen(Masker):
    """The tokens at given places, in two views: the second one without any."""

    views = 2
    places = (2, 3, 6)

    def select(self, batch, rng):
        mask = np.zeros((2, *batch.shape), bool)
        mask[0, :, list(self.places)] = True
        return mask & batch.maskable


@pytest.fixture(scope="module")
def vocab():
    return Vocabulary(train_vocabulary(TEXTS * 20, 370, "bpe", character_coverage=1.0, sentinels=40))


@pytest.fixture(scope="module")
def rows(vocab):
    contents = vocab.encode(TEXTS)
    lengths = np.array([len(c) + 2 for c in contents])
    tokens = np.full((len(contents), lengths.max()), vocab.pad)
    for row, content in zip(tokens, contents, strict=True):
        row[: len(content) + 2] = [vocab.bos, *content, vocab.eos]
    return TokenBatch(tokens, lengths, np.arange(7, 7 + len(TEXTS)), vocab)


def task_of(vocab, masker="uniform", ratio=0.4, **options):
    if isinstance(masker, str):
        entry = MASKERS.get(masker)
        names = {"ratio": ratio} if "ratio" in {field.name for field in dataclasses.fields(entry.config)} else {}
        try:
            masker = build_masker(masker, entry.config(**{**entry.preset, **names}), vocab)
        except ConfigError:  # its ratio is its own
            masker = build_masker(masker, entry.config(**entry.preset), vocab)
    return Denoising(DenoisingConfig(**options), vocab, masker, {})


def with_columns(rows, masker):
    """The rows with the columns that the masker reads, 0 or 1 at each token."""
    values = {name: RowRng(0, 0, rows.ids).uniform(name, rows.shape[1]) < 0.3 for name in masker.columns}
    columns = {
        name: (value & rows.keep & ~rows.vocab.is_special[rows.tokens]).astype(int) for name, value in values.items()
    }
    return dataclasses.replace(rows, columns=columns)


def written(batch):
    """The text of each row: the `<s>` that the decoder is given, and the targets; it reads them one place later."""
    target, places = batch.inputs["target"], batch.inputs["positions"]["seq2seq"]
    row, place = places // target.shape[1], places % target.shape[1]
    texts = []
    for number, read in enumerate(target):
        right, at = batch.targets["seq2seq"][row == number], place[row == number]
        text = np.append(read[1], right) if len(right) else right
        assert at.tolist() == list(range(1, len(text))) and read[1 : len(text)].tolist() == text[:-1].tolist()
        texts.append(text)
    return texts


def read(batch):
    tokens = batch.inputs["tokens"]
    keep = batch.inputs.get("keep", np.ones(tokens.shape, bool))
    return [row[kept] for row, kept in zip(tokens, keep, strict=True)]


@pytest.mark.parametrize("name", MASKERS.names())
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.integers(0, 99), st.floats(0, 1), st.sampled_from(["sentence", "spans"]), st.floats(0, 2), st.booleans(),
    st.booleans(),
)  # fmt: skip
def test_texts_are_rebuilt_with_every_masker(vocab, rows, name, seed, ratio, output, insertions, permute, sentinels):
    options = {"output": output, "insertions": insertions, "permute": permute, "sentinels": sentinels}
    task = task_of(vocab, name, ratio, **options)
    task.sentinels = np.resize(task.sentinels, ENDLESS * sentinels)
    rows, rng = with_columns(rows, task.masker), RowRng(seed, 1, rows.ids)
    batch = task.make_batch(rows, rng)
    originals = [row[row != vocab.pad].tolist() for row in rows.tokens] * task.views
    moved = permute_sentences(rows, rng).tokens if permute else rows.tokens
    moved = [row[row != vocab.pad].tolist() for row in moved] * task.views
    inputs, texts = read(batch), written(batch)
    assert len(inputs) == len(texts) == len(originals) and batch.num_tokens == rows.lengths.sum() * task.views
    assert (batch.inputs["target"][[len(text) > 0 for text in texts], 0] == vocab.eos).all()
    for given_tokens, text, original, source in zip(inputs, texts, originals, moved, strict=True):
        has_gap = np.isin(given_tokens, task.marks).any()
        if output == "sentence":
            assert text.tolist() == original
        else:
            assert text[[0, -1]].tolist() == [vocab.bos, vocab.eos] if has_gap else not len(text)
            inside = text[1:-1]
            assert not vocab.is_special[inside[~np.isin(inside, task.marks)]].any()
            assert put_back(given_tokens, inside, task.marks, leading=sentinels).tolist() == source


@pytest.mark.parametrize("output", ["sentence", "spans"])
@pytest.mark.parametrize("name", MASKERS.names())
def test_a_row_is_the_same_in_any_batch(vocab, rows, name, output):
    task = task_of(vocab, name, output=output, insertions=0.5, permute=True)
    if "exchange" in type(task.masker).__module__:
        pytest.skip("looks at the other rows")
    rows = with_columns(rows, task.masker)
    batch = task.make_batch(rows, RowRng(3, 2, rows.ids))
    for order in ([2], [3, 0]):
        few = rows.take(np.array(order))
        alone = task.make_batch(few, RowRng(3, 2, few.ids))
        places = [view * len(rows.ids) + row for view in range(task.views) for row in order]
        for take in (read, written):
            assert [a.tolist() for a in take(alone)] == [take(batch)[place].tolist() for place in places]


def test_by_hand(vocab, rows):
    task = task_of(vocab, Chosen(MaskerConfig(), vocab), output="spans")
    first = rows.take(np.array([0]))
    batch = task.make_batch(first, RowRng(1, 1, first.ids))
    t = first.tokens[0].tolist()
    m, bos, eos = vocab.mask, vocab.bos, vocab.eos
    assert read(batch)[0].tolist() == [*t[:2], m, *t[4:6], m, *t[7:]] and read(batch)[1].tolist() == t
    assert [text.tolist() for text in written(batch)] == [[bos, t[2], t[3], m, t[6], eos], []]  # nothing in view 2
    whole = task_of(vocab, Chosen(MaskerConfig(), vocab)).make_batch(first, RowRng(1, 1, first.ids))
    assert [text.tolist() for text in written(whole)] == [t, t]


def test_lengths_of_t5(vocab):
    """568 tokens are 512 to read and 114 to write, `</s>` counted, and `<s>` besides."""
    ids = np.random.default_rng(0).choice(np.flatnonzero(~vocab.is_special), (3, 568))
    tokens = np.pad(ids, ((0, 0), (1, 1)), constant_values=((0, 0), (vocab.bos, vocab.eos)))
    rows = TokenBatch(tokens, np.full(3, 570), np.arange(3), vocab)
    task = task_of(vocab, "t5_span", 0.15, output="spans", sentinels=True)
    batch = task.make_batch(rows, RowRng(1, 1, rows.ids))
    assert [len(row) for row in read(batch)] == [513] * 3 and [len(row) for row in written(batch)] == [115] * 3


class Every(Masker):
    """Every other token, from the first or from the second on."""

    views = 2

    def select(self, batch, rng):
        place = np.arange(batch.shape[1])
        return np.stack([batch.maskable & (place % 2 == 1), batch.maskable & (place % 2 == 0)])


@pytest.mark.parametrize("insertions", [0.0, 2.0])
@pytest.mark.parametrize("size", [1, 2, 8, 9])
def test_what_is_written_is_no_longer_than_the_row(vocab, size, insertions):
    """Nor where each second token is taken out, and has a sentinel."""
    tokens = np.array([[vocab.bos, *np.flatnonzero(~vocab.is_special)[:size], vocab.eos]])
    rows = TokenBatch(tokens, np.array([size + 2]), np.arange(1), vocab)
    task = task_of(vocab, Every(MaskerConfig(), vocab), output="spans", sentinels=True, insertions=insertions)
    batch = task.make_batch(rows, RowRng(1, 1, rows.ids))
    assert batch.inputs["target"].shape[1] <= size + 2
    for given_tokens, text in zip(read(batch), written(batch), strict=True):
        if len(text):
            assert text[-1] == vocab.eos
            assert put_back(given_tokens, text[1:-1], task.marks, leading=True).tolist() == tokens[0].tolist()


def test_nothing_masked_is_no_target(vocab, rows):
    batch = task_of(vocab, ratio=0.0, output="spans").make_batch(rows, RowRng(1, 1, rows.ids))
    assert len(batch.targets["seq2seq"]) == 0 == len(batch.inputs["positions"]["seq2seq"])


def test_the_insertions_of_bart(vocab, rows):
    """Of its spans a twentieth is inserted, so that there are a nineteenth more gaps."""
    many = dataclasses.replace(
        rows, tokens=np.repeat(rows.tokens[:1], 3000, 0), lengths=np.repeat(rows.lengths[:1], 3000), ids=np.arange(3000)
    )
    tokens = [task_of(vocab, Chosen(MaskerConfig(), vocab), insertions=share).make_batch(many, RowRng(1, 1, many.ids))
              .inputs["tokens"][:3000] for share in (0.0, 0.0524)]  # fmt: skip
    gaps = [(part == vocab.mask).sum() for part in tokens]
    assert gaps[0] == 6000 and abs(gaps[1] / gaps[0] - 1.0524) < 5 * 0.31 / np.sqrt(3000) / 2


def test_rows_are_shown_for_people(vocab, rows):
    task = task_of(vocab, Chosen(MaskerConfig(), vocab), output="spans")
    batch = task.make_batch(rows, RowRng(1, 1, rows.ids))
    guesses = torch.nn.functional.one_hot(torch.full((len(batch.targets["seq2seq"]),), 40), vocab.size)
    plain, asked = task.show(batch), task.show(batch, {"seq2seq": guesses})
    spans = [vocab.decode(text) for text in written(batch)]
    assert len(plain) == len(asked) == 8 and plain[0].endswith(f"not always. [{spans[0]}]") and "<mask>" in spans[0]
    assert asked[0].startswith(f"{plain[0][:-1]} > ") and plain[4] == f"{TEXTS[0]} []"


def test_a_vocabulary_without_sentinels():
    vocab = Vocabulary(train_vocabulary(TEXTS * 20, 330, "bpe", character_coverage=1.0))
    with pytest.raises(DataError, match=r"task.sentinels: .*no pieces that mark.*extra_id_0.*--vocab-sentinels 100"):
        task_of(vocab, sentinels=True)


def test_options():
    with pytest.raises(ConfigError, match=r"task.insertions: is -0.1"):
        DenoisingConfig(insertions=-0.1)


class Writer:
    """Writes given texts."""

    def __init__(self, *texts):
        self.texts, self.asked = texts, []

    def generate(self, tokens, keep, config, *, bos, eos):
        self.asked.append((tokens.tolist(), keep, config.max_length, bos, eos))
        return [np.array(text) for text in self.texts]


def test_gaps_are_filled_with_what_is_written(vocab):
    texts = ["the <mask> foxes <mask>.", "fox <mask>"]
    quick, dogs = (vocab.encode([word])[0].tolist() for word in ("quick brown", "dogs"))
    records = [{"text": text} for text in texts]
    model = Writer([*quick, vocab.mask, *dogs], dogs)
    found = task_of(vocab, output="spans").predict(model, records, 5, 40)
    assert [answer["filled"] for answer in found] == ["the quick brown foxes dogs.", "fox dogs"]
    ((tokens, keep, longest, bos, eos),) = model.asked
    assert tokens[0].count(vocab.mask) == 2 and not keep.all() and (longest, bos, eos) == (40, vocab.bos, vocab.eos)
    marks = vocab.sentinels
    numbered = Writer([marks[0], *quick, marks[1], *dogs], [marks[0], *dogs])
    found = task_of(vocab, output="spans", sentinels=True).predict(numbered, records, 5, 40)
    assert [answer["filled"] for answer in found] == ["the quick brown foxes dogs.", "fox dogs"]
    assert marks[1] in numbered.asked[0][0][0]
    whole = task_of(vocab).predict(Writer(dogs, quick), records, 5, 40)
    assert whole[0] == {"generated": "dogs", "filled": "dogs"}
    one = task_of(vocab, output="spans", sentinels=True)
    one.sentinels = marks[:1]
    with pytest.raises(DataError, match=r"2 <mask>s in .*expected at most 40 tokens and 1 <mask>s"):
        one.predict(numbered, records, 5, 40)
    for text, length in (("no gap", 40), ("the <mask> foxes", 4)):
        with pytest.raises(DataError, match=r"no <mask> in 'no gap'|at most 4 tokens"):
            task_of(vocab).predict(model, [{"text": text}], 5, length)


@pytest.mark.parametrize("of", ["uniform", "whole_word", "span"])
@pytest.mark.parametrize("mode", ["together", "in_turn", "sequential"])
def test_masks_that_cover_a_row_have_every_token_written_once(rows, vocab, mode, of):
    """Over the visits of a row the spans to be written are, together, its text."""
    entry = MASKERS.get("fully_explored")
    task = task_of(
        vocab, build_masker("fully_explored", entry.config(masks=3, mode=mode, of=of), vocab), output="spans"
    )
    visits = {"together": [(1, 0)], "in_turn": [(1, 0), (2, 0), (3, 0)], "sequential": [(1, 0), (1, 1), (1, 2)]}
    written = []
    for epoch, turn in visits[mode]:
        batch = task.make_batch(rows, RowRng(1, epoch, rows.ids, turn=turn))
        written.append(batch.targets["seq2seq"])
    written = np.concatenate(written)
    assert sorted(written[~vocab.is_special[written]]) == sorted(rows.tokens[rows.maskable])


def test_gaps_of_masks_in_turn_are_those_of_masks_together(rows):
    """Each mask has gaps without a token of its own, whether the masks of a row come at once or one after the other."""
    mask = np.zeros((4, *rows.shape), bool)
    for view in range(4):
        mask[view, :, 2 + 3 * view : 4 + 3 * view] = True
    mask &= rows.maskable
    rng = RowRng(1, 1, rows.ids)
    together = insert_gaps(rows, mask, 0.9, rng)
    in_turn = [insert_gaps(rows, mask[n : n + 1], 0.9, dataclasses.replace(rng, turn=n))[0] for n in range(4)]
    assert np.array_equal(together, np.stack(in_turn)) and together.any(axis=(1, 2)).all()
    same = [insert_gaps(rows, mask[:1], 0.9, dataclasses.replace(rng, turn=n)) for n in range(4)]
    assert any(not np.array_equal(same[0], other) for other in same[1:])
