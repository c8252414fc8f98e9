"""Cutting: every token exactly once, in order, and where it came from."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskmask.data.blocks import cut
from taskmask.errors import ConfigError

EOS = 2
# Documents of rows of numbers of tokens, without </s>.
corpora = st.lists(st.lists(st.integers(0, 12), min_size=1, max_size=4), max_size=6)


def stored(corpus):
    """(values, offsets, document) as ingest stores them."""
    rows, document = [], []
    for number, lengths in enumerate(corpus):
        for at, length in enumerate(lengths):
            rows.append([7] * length + [EOS] * (at == len(lengths) - 1))
            document.append(number)
    offsets = np.cumsum([0, *map(len, rows)])
    values = np.array([token for row in rows for token in row], int)
    return values, offsets, np.array(document, np.uint32)


@given(corpus=corpora, length=st.integers(3, 9), mode=st.sampled_from(["sentence", "document", "complete"]))
def test_every_token_exactly_once(corpus, length, mode):
    values, offsets, document = stored(corpus)
    blocks = cut(offsets, document, length, mode)
    sizes = blocks.stops - blocks.starts
    assert ((sizes >= 1) & (sizes <= length - 2)).all()
    covered = np.concatenate([np.zeros(0, int), *map(np.arange, blocks.starts, blocks.stops)])
    kept = values != EOS if mode != "complete" else np.arange(len(values)) < len(values) - 1
    assert np.array_equal(covered, np.flatnonzero(kept))
    for start, source in zip(blocks.starts, blocks.source, strict=True):
        assert offsets[source] <= start < offsets[source + 1]


@given(corpus=corpora, length=st.integers(3, 9))
def test_blocks_are_as_few_as_their_mode_allows_and_stay_inside(corpus, length):
    _, offsets, document = stored(corpus)
    content = length - 2
    sentence, whole, complete = (cut(offsets, document, length, mode) for mode in ("sentence", "document", "complete"))
    assert len(sentence.starts) == sum(-(-length // content) for lengths in corpus for length in lengths)
    assert len(whole.starts) == sum(-(-sum(lengths) // content) for lengths in corpus)
    assert len(complete.starts) == -(-max(0, offsets[-1] - 1) // content)
    assert (complete.stops - complete.starts)[:-1].tolist() == [content] * max(0, len(complete.starts) - 1)
    for blocks in (sentence, whole):
        last = np.searchsorted(offsets, blocks.stops - 1, side="right") - 1
        assert np.array_equal(document[last], document[blocks.source])
        if blocks is sentence:
            assert np.array_equal(last, blocks.source)


@given(lengths=st.lists(st.integers(0, 9), max_size=6))
def test_without_a_document_column_each_row_is_one(lengths):
    values, offsets, _ = stored([[length] for length in lengths])
    sentence, document = cut(offsets, None, 6, "sentence"), cut(offsets, None, 6, "document")
    assert np.array_equal(sentence.starts, document.starts) and np.array_equal(sentence.stops, document.stops)
    assert EOS not in np.concatenate(
        [np.zeros(0, int), *(values[a:b] for a, b in zip(sentence.starts, sentence.stops, strict=True))]
    )


def test_errors():
    with pytest.raises(ConfigError, match="at least 3"):
        cut(np.array([0, 3]), None, 2, "sentence")
    with pytest.raises(ConfigError, match="sentence, document, complete"):
        cut(np.array([0, 3]), None, 9, "paragraph")
