"""ROUGE, against values computed by hand, a plain table, and google-research's own code where it is installed."""

import math
import random
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskmask.metrics.rouge import latin_words, longest_common_subsequence, rouge
from taskmask.tokenizer.word_boundaries import words_of_text

NAN = math.nan
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
        ("a a a", "a b", (2 / 5, 0, 2 / 5)),  # a word counts as often as the other text has it
        ("state-of-the-art 3.5", "state of the art 3 5", (1, 1, 1)),
        ("one", "two three", (0, 0, 0)),
        ("", "two three", (0, 0, 0)),
        ("one", "one", (1, NAN, 1)),  # a reference of one word has no pair
        ("", "", (NAN, NAN, NAN)),
        ("!", "!", (NAN, NAN, NAN)),
        ("我爱北京", "我爱北京", (NAN, NAN, NAN)),  # no letter of ASCII
        ("Straße in München", "Straße in München", (1, 1, 1)),  # stra e in m nchen
    ],
)
def test_by_hand(guess, reference, scores):
    assert rouge(guess, [reference]) == pytest.approx(scores, abs=1e-12, nan_ok=True)


def test_the_best_reference_counts_for_each_score():
    assert rouge("a b c", ["c b a", "a b x y z"]) == pytest.approx((1, 2 * 1 / 6, 2 * 2 / 8), abs=1e-12)


def test_references_without_words_beside_others():
    assert rouge("!", ["!", "a b"]) == (1, 1, 1) and rouge("?", ["!", "a b"]) == (0, 0, 0)
    assert rouge("one", ["one", "two three"]) == (1, 1, 1)
    assert rouge("one two", ["one", "two three"]) == pytest.approx((2 / 3, 0, 2 / 3))


@given(st.text(max_size=30), st.lists(st.text(max_size=30), max_size=2), st.sampled_from([latin_words, words_of_text]))
def test_a_copy_of_a_reference_never_scores_0(text, others, words_of):
    found = rouge(text, [text, *others], words_of)
    assert all(math.isnan(score) or score == 1 for score in found)
    assert math.isnan(found[0]) == (not any(map(words_of, [text, *others])))


def test_words():
    assert latin_words("  It's 3.5%, naïve—or not?\n") == ["it", "s", "3", "5", "na", "ve", "or", "not"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("  It's 3.5%, naïve—or_not?\n", ["it", "s", "3", "5", "naïve", "or", "not"]),
        ("Straße in München", ["straße", "in", "münchen"]),
        ("पूर्व प्रधानमन्त्री जापान।", ["पूर्व", "प्रधानमन्त्री", "जापान"]),  # signs of vowels belong to their letters
        ("می‌خواهم", ["می‌خواهم"]),  # a joiner stands within the word
        ("我爱GPT-4!北京", ["我", "爱", "gpt", "4", "北", "京"]),
        ("ラーメンを2杯", [*"ラーメンを", "2", "杯"]),
        ("น้ำใจ", ["น้", "ำ", "ใ", "จ"]),
        ("서울은 크다", ["서울은", "크다"]),
        ("!?…😀 ́", []),
    ],
)
def test_words_of_every_script(text, words):
    assert words_of_text(text) == words and words_of_text(unicodedata.normalize("NFD", text)) == words


@given(st.text(st.characters(codec="ascii"), max_size=40))
def test_in_ascii_both_rules_give_the_same_words(text):
    assert words_of_text(text) == latin_words(text)


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
    """Where every reference has a pair of words; what has none scores 0 there."""
    references = [f"{reference} a b" for reference in references]
    wanted = scorer.score_multi(references, guess)
    assert rouge(guess, references) == pytest.approx([wanted[kind].fmeasure for kind in wanted], abs=1e-12)
