"""Rows from a dataset: the text comes back whole, and columns follow their tokens and rows."""

import itertools
import pickle

import numpy as np
import pytest

from taskmask.data.dataset import Column, Dataset
from taskmask.data.sequences.base import Examples, RowSource
from taskmask.data.writer import DatasetWriter
from taskmask.errors import DataError

DOCUMENTS = [
    ["The quick brown fox jumps.", "A reasonable dog isn't able to jump over an unable fox (really)!"],
    ["我爱北京天安门，今天的天气很好。"],
    ["สวัสดีครับ วันนี้อากาศดีมาก", "مرحبا بالعالم", "smile 😀"],
]
COLUMNS = {
    "tokens": Column("ragged", "uint16"),
    "document": Column("row", "int32"),
    "score": Column("aligned", "float32", of="tokens"),
    "logits": Column("row", "float32", width=2),
    "answer": Column("ragged", "int32"),
    "answer_score": Column("aligned", "float32", of="answer"),
}


@pytest.fixture(scope="module")
def split(tmp_path_factory, unigram):
    """Every token's score is its place in the stream; the logits of a row are its number and that of its document."""
    rows, document = [], []
    for number, lines in enumerate(DOCUMENTS):
        for line, ids in enumerate(unigram.encode(lines)):
            rows.append([*ids, unigram.eos] if line == len(lines) - 1 else [*ids])
            document.append(number)
    tokens, lengths = np.concatenate(rows), np.array([len(row) for row in rows])
    folder = tmp_path_factory.mktemp("source") / "data"
    with DatasetWriter(folder, unigram) as writer:
        writer.split("train", COLUMNS).append({
            "tokens": (tokens, lengths),
            "document": np.array(document),
            "score": np.arange(len(tokens)),
            "logits": np.stack([np.arange(len(rows)), document], axis=1),
            "answer": (np.arange(len(rows)), np.ones(len(rows), int)),
            "answer_score": np.arange(len(rows)),
        })  # fmt: skip
    return Dataset.open(folder).split("train")


def read(source):
    """All rows in a shuffled batch; their contents, in order."""
    order = np.random.default_rng(0).permutation(len(source))
    rows = source[order]
    vocab = source.vocab
    assert np.array_equal(rows.ids, order) and np.array_equal(rows.lengths, source.lengths[order])
    assert (rows.tokens[:, 0] == vocab.bos).all()
    assert (rows.tokens[np.arange(len(order)), rows.lengths - 1] == vocab.eos).all()
    assert (rows.tokens[~rows.keep] == vocab.pad).all()
    by_id = np.argsort(order)
    return rows.take(by_id), [rows.tokens[i, 1 : rows.lengths[i] - 1] for i in by_id]


@pytest.mark.parametrize("length", [3, 10, 512])
@pytest.mark.parametrize("mode", ["complete", "document", "sentence"])
def test_the_text_comes_back_whole(split, unigram, mode, length):
    source = RowSource(split, unigram, length, mode)
    assert source.lengths.max() <= length
    stream = np.asarray(split.values("tokens"), np.int64)
    # in complete rows only the </s> at the very end is left out: it is the row's own
    stream = stream[:-1] if mode == "complete" else stream[stream != unigram.eos]
    assert np.array_equal(np.concatenate(read(source)[1]), stream)


def test_rows_are_sentences_or_documents(split, unigram):
    _, sentences = read(RowSource(split, unigram, 512, "sentence"))
    assert [unigram.decode(row) for row in sentences] == list(itertools.chain(*DOCUMENTS))
    _, documents = read(RowSource(split, unigram, 512, "document"))
    assert [unigram.decode(row) for row in documents] == [" ".join(lines) for lines in DOCUMENTS]
    _, complete = read(RowSource(split, unigram, 512, "complete"))
    assert len(complete) == 1 and (complete[0] == unigram.eos).sum() == len(DOCUMENTS) - 1


@pytest.mark.parametrize("length", [5, 512])
@pytest.mark.parametrize("mode", ["complete", "document", "sentence"])
def test_columns_follow(split, unigram, mode, length):
    source = RowSource(split, unigram, length, mode, ("tokens", "score", "logits"))
    rows, contents = read(source)
    stream = np.asarray(split.values("tokens"))
    inside = rows.keep & (np.arange(rows.shape[1]) > 0)
    inside[np.arange(len(source)), rows.lengths - 1] = False
    assert rows.columns["score"].shape == rows.shape and not rows.columns["score"][~inside].any()
    assert np.array_equal(stream[rows.columns["score"][inside].astype(int)], np.concatenate(contents))
    stored_row = np.searchsorted(split.offsets("tokens"), rows.columns["score"][:, 1], side="right") - 1
    assert np.array_equal(rows.columns["logits"][:, 0], stored_row)
    assert np.array_equal(rows.columns["logits"][:, 1], np.asarray(split.values("document"))[stored_row])


def test_a_column_that_is_missing_or_cannot_follow_is_an_error(split, unigram):
    with pytest.raises(DataError, match=r"'scor'.*tokens, document, score.*did you mean 'score'"):
        RowSource(split, unigram, 10, "sentence", ("scor",))
    for name in ("answer", "answer_score"):
        with pytest.raises(DataError, match=f"'{name}' has lengths of its own"):
            RowSource(split, unigram, 10, "sentence", (name,))


def test_it_can_be_sent_to_a_worker(split, unigram):
    source = RowSource(split, unigram, 10, "complete", ("score",))
    ids = np.arange(len(source))
    sent = pickle.loads(pickle.dumps(source))[ids]
    assert np.array_equal(sent.tokens, source[ids].tokens)
    assert np.array_equal(sent.columns["score"], source[ids].columns["score"])


def test_rows_without_text_are_told(unigram, tmp_path):
    with DatasetWriter(tmp_path / "data", unigram) as writer:
        columns = {"tokens": Column("ragged", "uint16"), "second": Column("ragged", "uint16")}
        full, empty = np.array([9, unigram.eos] * 3), np.array([unigram.eos, unigram.eos, 9, unigram.eos])
        writer.split("train", columns).append({
            "tokens": (full, np.array([2, 2, 2])), "second": (empty, np.array([1, 1, 2])),
        })  # fmt: skip
    split = Dataset.open(tmp_path / "data").split("train")
    assert Examples(split, unigram, 10).notes == []
    assert Examples(split, unigram, 10, "second").notes == ["split train: 2 of 3 rows have no second text"]
