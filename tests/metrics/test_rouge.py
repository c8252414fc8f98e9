"""ROUGE, against values computed by hand, a plain table, and google-research's own code where it is installed."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskmask.metrics.rouge import longest_common_subsequence, rouge, words_of

WORDS = st.lists(st.sampled_from("abcd"), max_size=12)


@pytest.mark.parametrize(
    ("guess", "reference", "scores"),
    [
        ("the cat sat", "the cat sat", (1, 1, 1)),
        ("The cat, sat!", "the CAT sat", (1, 1, 1)),
        # 3 of 3 words and of 6; 1 of 2 pairs and of 5 ("the cat"); the cat ... mat in order
        ("the cat mat", "the cat sat on the mat", (2 * 3 / 9, 2 * 1 / 7, 2 * 3 / 9)),
        # police, killed, the, gunman of 4 and 4; police-killed and the-gunman are no pairs of the other but one
        ("police kill the gunman", "police killed the gunman", (3 / 4, 1 / 3, 3 / 4)),
        ("the gunman kill police", "police killed the gunman", (3 / 4, 1 / 3, 2 / 4)),
        ("a a a", "a", (2 / 4, 0, 2 / 4)),  # a word counts as often as the other text has it
        ("state-of-the-art 3.5", "state of the art 3 5", (1, 1, 1)),
        ("one", "two", (0, 0, 0)),
        ("", "two", (0, 0, 0)),
        ("", "", (0, 0, 0)),
        ("我爱北京", "我爱北京", (0, 0, 0)),  # no letter of ASCII
    ],
)
def test_by_hand(guess, reference, scores):
    assert rouge(guess, [reference]) == pytest.approx(scores, abs=1e-12)


def test_the_best_reference_counts_for_each_score():
    assert rouge("a b c", ["c b a", "a b x y z"]) == pytest.approx((1, 2 * 1 / 6, 2 * 2 / 8), abs=1e-12)


def test_words():
    assert words_of("  It's 3.5%, naïve—or not?\n") == ["it", "s", "3", "5", "na", "ve", "or", "not"]


@given(WORDS, WORDS)
def test_the_bits_are_the_table(a, b):
    table = [[0] * (len(b) + 1) for _ in range(len(a) + 1)]
    for i, x in enumerate(a):
        for j, y in enumerate(b):
            table[i + 1][j + 1] = table[i][j] + 1 if x == y else max(table[i][j + 1], table[i + 1][j])
    assert longest_common_subsequence(a, b) == table[-1][-1]


def test_long_texts():
    numbers = random.Random(1)
    a, b = ([str(numbers.randrange(50)) for _ in range(300)] for _ in "ab")
    assert longest_common_subsequence(a, a) == 300 and longest_common_subsequence(a, b) == (
        longest_common_subsequence(b, a)
    )


@pytest.fixture(scope="module")
def scorer():
    return pytest.importorskip("rouge_score.rouge_scorer").RougeScorer(["rouge1", "rouge2", "rougeL"])


@given(st.text("ab C.-é1 ", max_size=40), st.lists(st.text("ab C.-é1 ", max_size=40), min_size=1, max_size=3))
def test_it_is_google_researchs(scorer, guess, references):
    wanted = scorer.score_multi(references, guess)
    assert rouge(guess, references) == pytest.approx([wanted[kind].fmeasure for kind in wanted], abs=1e-12)
