"""Whole-word masking: a word all or none, every token alike, and no sentence is a word."""

import numpy as np
import pytest

LANGUAGES = ["english", "chinese", "japanese", "thai", "arabic", "code", "emoji"]


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_word_is_masked_whole_or_not_at_all(mask, copies, texts, language):
    rows = copies(texts[language], 200)
    found = mask("whole_word", rows, ratio=0.3)[0]
    words = rows.words[0]
    assert found.any()
    for word in range(words.max() + 1):
        inside = found[:, words == word]
        assert (inside.all(axis=1) == inside.any(axis=1)).all()


@pytest.mark.parametrize("language", ["chinese", "japanese", "thai"])
def test_no_sentence_is_a_word(mask, copies, texts, language):
    rows = copies(texts[language], 500)
    words, num = rows.words[0], int(rows.maskable[0].sum())
    longest = np.bincount(words[words >= 0]).max()
    assert words.max() + 1 >= num / 3  # a character that became bytes has three or so
    found = mask("whole_word", rows, ratio=0.15)[0].sum(axis=1)
    assert found.max() < np.ceil(0.15 * num) + longest < 0.5 * num


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("ratio", [0.15, 0.8])
def test_every_token_is_as_likely_whatever_the_length_of_its_word(mask, copies, texts, language, ratio):
    num = 10_000
    rows = copies(texts[language], num)
    found = mask("whole_word", rows, ratio=ratio)[0]
    shares = found[:, rows.maskable[0]].mean(axis=0)
    assert np.abs(shares - ratio).max() < 5 * np.sqrt(ratio * (1 - ratio) / num)
    totals = found.sum(axis=1)
    assert abs(totals.mean() - ratio * len(shares)) < 5 * totals.std() / np.sqrt(num)


def test_a_row_of_one_word_is_masked_at_the_ratio(mask, copies):
    num, ratio = 20_000, 0.15
    rows = copies("unbelievable", num)
    assert rows.words.max() == 0
    found = mask("whole_word", rows, ratio=ratio)[0]
    assert abs(found[:, 1].mean() - ratio) < 5 * np.sqrt(ratio * (1 - ratio) / num)
