"""A tiny vocabulary, trained once."""

import pytest

from taskmask.tokenizer.tokenizer import Vocabulary, train_vocabulary

LINES = [
    "The quick brown fox jumps over the lazy dog, unreasonably often.",
    "It's unbelievable: the dogs were jumping, the foxes were sleeping.",
    "我爱北京天安门，今天的天气很好。",
    "In 1984 the café cost 25 dollars; naïve people paid 30.",
] * 10


@pytest.fixture(scope="session")
def tiny_vocab() -> Vocabulary:
    return Vocabulary(train_vocabulary(LINES, 340, kind="bpe", character_coverage=1.0))
