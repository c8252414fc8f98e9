"""Rows of a text and what is to be written for it: targets, accepted texts, choices."""

import numpy as np
import pytest
from task_data_help import closed, ragged, text_columns, write

from taskmask.data.dataset import Column
from taskmask.data.sequences.seq2seq import TextToText, texts_of
from taskmask.errors import DataError

EXAMPLES = [
    ("The fox jumps.", ["a dog", "naïve 我 dogs"], ["fox", "a dog", "the lazy dog"]),
    ("A reasonable dog", ["jump"], ["jump", "over"]),
    ("fox", ["the quick brown fox jumps over the lazy dog"], ["x"]),
]


@pytest.fixture(scope="module")
def split(tmp_path_factory, unigram):
    columns = text_columns(unigram, EXAMPLES)
    targets = unigram.encode([answers[0] for _, answers, _ in EXAMPLES])
    columns["target"] = (Column("ragged", unigram.token_dtype), ragged(closed(targets, unigram.eos)))
    columns["score"] = (Column("row", "float32"), np.zeros(3))
    return write(tmp_path_factory.mktemp("pairs") / "data", unigram, {"train": columns}).split("train")


def open_rows(split, vocab, length=100, target="answers", max_target=50, **columns):
    return TextToText(split, vocab, length, target=target, max_target=max_target, **columns)


@pytest.mark.parametrize("target", ["answers", "target"])
def test_targets_are_the_first_texts(split, unigram, target):
    source = open_rows(split, unigram, target=target)
    order = np.array([2, 0, 1])
    rows = source[order]
    for row, label, length in zip(order, rows.columns["labels"], rows.columns["label_lengths"], strict=True):
        text, (answer, *_), _ = EXAMPLES[row]
        assert unigram.decode(label[:length]) == answer and unigram.decode(source[np.array([row])].tokens[0]) == text
        assert (label[0], label[length - 1]) == (unigram.bos, unigram.eos) and (label[length:] == unigram.pad).all()
    longest = np.maximum(rows.lengths, rows.columns["label_lengths"])
    assert np.array_equal(source.lengths[order], longest) and (longest > rows.lengths).any() and not source.notes
    assert source.used == ("tokens", target)


def test_what_is_accepted(split, unigram):
    assert open_rows(split, unigram).accepted(np.array([1, 0])) == [EXAMPLES[1][1], EXAMPLES[0][1]]
    assert open_rows(split, unigram, target="target").accepted(np.array([0])) == [EXAMPLES[0][1][:1]]
    assert texts_of(split, "answers") == ["\n".join(answers) for _, answers, _ in EXAMPLES]


def test_choices(split, unigram):
    source = open_rows(split, unigram, choices="choices")
    ids = np.array([1, 2, 0, 1])
    labels, lengths, row = source.gather_choices(ids)
    found = [[unigram.decode(labels[at][: lengths[at]]) for at in np.flatnonzero(row == n)] for n in range(4)]
    assert found == [EXAMPLES[id][2] for id in ids] == source.choices_of(ids) and "choices" in source.used
    none = source.gather_choices(np.zeros(0, int))
    assert [len(part) for part in none] == [0, 0, 0]


def test_what_is_too_long_is_cut_and_told(split, unigram):
    source = open_rows(split, unigram, length=8, max_target=6)
    rows = source[np.arange(3)]
    assert rows.lengths.max() <= 8 and rows.columns["label_lengths"].max() == 6
    whole = [len(ids) for ids in unigram.encode([answers[0] for _, answers, _ in EXAMPLES])]
    cut = sum(size > 4 for size in whole)
    assert cut and any(f"{cut} of 3 targets are cut to task.max_length 6" in note for note in source.notes)
    assert open_rows(split, unigram, length=8).max_target == 8  # no more than the model has places


def test_choices_have_the_room_of_the_rows(split, unigram):
    longest = max(len(ids) for _, _, choices in EXAMPLES for ids in unigram.encode(choices)) + 2
    whole = open_rows(split, unigram, length=longest, max_target=3, choices="choices")
    assert whole.gather_choices(np.arange(3))[1].max() == longest > 5
    assert not any("choices" in note for note in whole.notes)
    cut = open_rows(split, unigram, length=longest - 1, max_target=3, choices="choices")
    assert cut.gather_choices(np.arange(3))[1].max() == longest - 1
    assert any(f"1 of 6 choices are cut to data.length {longest - 1}" in note for note in cut.notes)


def test_pairs_and_rows_without_targets(split, unigram):
    rows = open_rows(split, unigram, target="", pair="target")[np.arange(3)]
    assert unigram.decode(rows.tokens[0]) == "The fox jumps. a dog" and "labels" not in rows.columns


@pytest.mark.parametrize("columns", [{"target": "score"}, {"target": "answers", "choices": "target"}])
def test_columns_that_hold_no_texts(split, unigram, columns):
    with pytest.raises(DataError, match=r"column '(score|target)' is no list of texts.*taskmask-preprocess --list"):
        open_rows(split, unigram, **columns)
