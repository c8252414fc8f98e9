"""Rows to rectangles."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskmask.data.padding import gather, gather_aligned

BOS, EOS, PAD = 1, 2, 0


@given(sizes=st.lists(st.integers(1, 7), max_size=6), equal=st.booleans())
def test_gather_is_what_a_loop_makes(sizes, equal):
    sizes = [sizes[0]] * len(sizes) if equal and sizes else sizes
    values = np.arange(100, 200, dtype=np.uint16)
    starts = np.array([13 * row % 60 for row in range(len(sizes))], int)
    stops = starts + np.array(sizes, int)
    tokens, lengths = gather(values, starts, stops, BOS, EOS, PAD)
    scores = gather_aligned(values.astype(np.float32), starts, stops, tokens.shape[1], -1)
    width = max([size + 2 for size in sizes], default=0)
    assert tokens.shape == (len(sizes), width) and tokens.dtype == lengths.dtype == np.int64
    for row, (a, b) in enumerate(zip(starts, stops, strict=True)):
        content, rest = values[a:b].tolist(), width - (b - a) - 2
        assert tokens[row].tolist() == [BOS, *content, EOS] + [PAD] * rest
        assert scores[row].tolist() == [-1, *content, -1] + [-1] * rest
        assert lengths[row] == b - a + 2
    assert scores.dtype == np.float32


def test_aligned_values_wider_than_the_tokens_are_an_error():
    with pytest.raises(ValueError):
        gather_aligned(np.arange(9.0), np.array([0, 0]), np.array([5, 6]), 4, 0)
