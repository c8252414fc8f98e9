"""Answers are compared as SQuAD defines it, written down once more in the plainest way."""

import re
import string
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskmask.metrics.answers import exact_match, normalise, token_f1

words = st.sampled_from(["the", "The", "a", "An", "cat", "Cat.", "cats,", "then", "-", "U.S.", "é"])
texts = st.lists(words, max_size=6).map(" ".join) | st.text(max_size=20)


def plain(text):
    text = "".join(character for character in text.lower() if character not in string.punctuation)
    return re.sub(r"(^|(?<=\W))(a|an|the)(?=\W|$)", " ", text).split()


def plain_f1(guess, answer):
    guess, answer = plain(guess), plain(answer)
    common = sum((Counter(guess) & Counter(answer)).values())
    if not guess or not answer:
        return float(guess == answer)
    if not common:
        return 0.0
    precision, recall = common / len(guess), common / len(answer)
    return 2 * precision * recall / (precision + recall)


@given(texts, st.lists(texts, min_size=1, max_size=3))
def test_as_defined(guess, accepted):
    assert normalise(guess).split() == plain(guess)
    assert exact_match(guess, accepted) == max(plain(guess) == plain(answer) for answer in accepted)
    assert token_f1(guess, accepted) == pytest.approx(max(plain_f1(guess, answer) for answer in accepted))


def test_by_hand():
    assert normalise(" The  U.S.'s\tbest-known (a) Theatre! ") == "uss bestknown theatre"
    assert exact_match("the Eiffel Tower!", ["Eiffel tower"]) == 1
    assert token_f1("in the Eiffel Tower", ["Paris", "the Eiffel tower of Paris"]) == pytest.approx(4 / 7)
    assert token_f1("cat cat", ["cat"]) == pytest.approx(2 / 3)


def test_nothing():
    assert exact_match("the", [""]) == token_f1("the", [""]) == 1
    assert exact_match("", []) == token_f1("", []) == 1
    assert exact_match("x", []) == token_f1("x", []) == token_f1("x", ["a"]) == token_f1("", ["x"]) == 0


def test_scripts_without_blanks_are_one_word():
    assert token_f1("北京", ["北京市"]) == 0 and exact_match("北京", ["北京"]) == 1
