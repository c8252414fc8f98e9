"""Tiny vocabularies, trained once."""

import pytest

from taskmask.tokenizer.tokenizer import Vocabulary, train_vocabulary

LINES = [
    "The quick brown fox jumps over the lazy dog, unreasonably often.",
    "A reasonable dog isn't able to jump over an unable fox (really)!",
    "It's unbelievable: the dogs were jumping, the foxes were sleeping.",
    "我爱北京天安门，今天的天气很好。",
    "今日は天気がいいですね。カタカナも読みます。",
    "สวัสดีครับ วันนี้อากาศดีมาก",
    "مرحبا بالعالم، كيف حالك اليوم؟",
    "In 1984 the café cost 25 dollars; naïve people paid 30.",
] * 10


@pytest.fixture(scope="session")
def unigram() -> Vocabulary:
    return Vocabulary(train_vocabulary(LINES, 392, character_coverage=1.0))


@pytest.fixture(scope="session")
def bpe() -> Vocabulary:
    return Vocabulary(train_vocabulary(LINES, 560, kind="bpe", character_coverage=1.0))


@pytest.fixture(params=["unigram", "bpe"])
def vocabulary(request) -> Vocabulary:
    return request.getfixturevalue(request.param)
