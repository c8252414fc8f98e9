"""Windows: every token of a context is in one, beside its question."""

import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taskmask.data.in_memory import MemorySplit
from taskmask.data.sequences.qa_windows import Windows, cut_windows
from taskmask.errors import DataError

contexts = st.lists(st.tuples(st.integers(0, 60), st.integers(1, 9)), min_size=1, max_size=8)


@given(contexts, st.integers(0, 20))
def test_windows_cover_their_context_and_share_the_stride(pairs, stride):
    sizes, rooms = (np.array(part) for part in zip(*pairs, strict=True))
    context, first, taken = cut_windows(sizes, rooms, stride)
    assert np.array_equal(np.unique(context), np.arange(len(sizes)))
    for number, (size, room) in enumerate(pairs):
        starts, stops = first[context == number], (first + taken)[context == number]
        assert starts[0] == 0 and stops[-1] == size and (stops - starts <= room).all()
        assert (stops[:-1] - starts[:-1] == room).all() and (stops[1:] > stops[:-1]).all()
        assert (stops[:-1] - starts[1:] == min(stride, room // 2)).all()


def split_of(vocab, sizes, questions, seed=0):
    random = np.random.default_rng(seed)
    tokens = [np.append(random.integers(5, 300, size), vocab.eos) for size in sizes]
    return MemorySplit({"tokens": tokens, "question": [np.append(np.arange(5, 5 + n), vocab.eos) for n in questions]})


@settings(deadline=None)
@given(contexts, st.integers(12, 40), st.integers(0, 9), st.integers(1, 8))
def test_rows_hold_question_and_window(unigram, pairs, length, stride, max_question):
    sizes, questions = zip(*pairs, strict=True)
    split = split_of(unigram, sizes, questions)
    source = Windows(split, unigram, length, stride=stride, max_question=max_question, labelled=False)
    order = np.random.default_rng(1).permutation(len(source))
    rows = source[order]
    assert np.array_equal(rows.lengths, source.lengths[order]) and source.lengths.max() <= length
    seen = [set() for _ in sizes]
    for at, id in enumerate(order):
        stored, asked = source.stored[id], min(questions[source.stored[id]], max_question)
        begin, offset, last = rows.columns["begin"][at], rows.columns["offset"][at], rows.lengths[at] - 1
        context = split.values("tokens")[split.offsets("tokens")[stored] :][offset : offset + last - begin]
        row = [unigram.bos, *range(5, 5 + asked), *[unigram.eos] * unigram.pair_separators, *context, unigram.eos]
        assert rows.tokens[at, : last + 1].tolist() == row and (rows.tokens[at, last + 1 :] == unigram.pad).all()
        assert np.array_equal(np.flatnonzero(rows.columns["segments"][at]), np.arange(begin, last + 1))
        seen[stored] |= set(range(offset, offset + last - begin))
    assert seen == [set(range(size)) for size in sizes]
    cut = sum(number > max_question for number in questions)
    expected = (
        [f"split memory: {cut} of {len(sizes)} questions are cut to task.max_question {max_question}"] if cut else []
    )
    assert source.notes == expected


def test_too_little_room_is_said_with_numbers(unigram):
    split = split_of(unigram, [9], [3])
    with pytest.raises(
        DataError, match=r"data.length: rows of 40 tokens have 17 .* of 20; expected at least 53.*lower"
    ):
        Windows(split, unigram, 40, max_question=20, least=30, labelled=False)
    with pytest.raises(DataError, match="no column 'answer'"):
        Windows(split, unigram, 90, labelled=True)


def test_it_can_be_sent_to_a_worker(unigram):
    source = Windows(split_of(unigram, [30, 4], [3, 5]), unigram, 20, max_question=6, stride=2, labelled=False)
    ids = np.arange(len(source))
    sent = pickle.loads(pickle.dumps(source))[ids]
    assert np.array_equal(sent.tokens, source[ids].tokens)
    assert set(source.used) == {"tokens", "question"}
