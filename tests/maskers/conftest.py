"""A tiny vocabulary, texts in many scripts, and rows made of them."""

import numpy as np
import pytest

from taskmask.data.batch import TokenBatch
from taskmask.data.rng import RowRng
from taskmask.maskers.base import build_masker
from taskmask.registry import MASKERS
from taskmask.tokenizer.tokenizer import Vocabulary, train_vocabulary

TEXTS = {
    "english": "The unreasonably quick brown foxes aren't jumping over the lazy, unbelievable dogs (really)!",
    "chinese": "我爱北京天安门，今天的天气很好。人民大会堂在天安门广场的西边。",
    "japanese": "今日は天気がいいですね。カタカナも読みます。東京タワーは高いです。",
    "thai": "สวัสดีครับวันนี้อากาศดีมากและเราจะไปเที่ยวกัน",
    "arabic": "مرحبا بالعالم، كيف حالك اليوم؟ الكتاب على الطاولة الكبيرة.",
    "code": "for (int i = 0; i < n_rows; ++i) { total += values[i] * weight; }",
    "emoji": "smile 😀👩‍👩‍👧 and 🚀🚀 ꙮ",
}


@pytest.fixture(scope="session")
def texts() -> dict[str, str]:
    return TEXTS


@pytest.fixture(scope="session")
def vocab() -> Vocabulary:
    lines = list(TEXTS.values()) * 10 + ["the lazy dogs jumping over the lazy foxes"] * 20
    return Vocabulary(train_vocabulary(lines, 480, "bpe", character_coverage=0.99))


@pytest.fixture(scope="session")
def make_rows(vocab):
    """Rows of lists of ids, or of texts; `extra` widens the padding."""

    def make(contents, ids=None, extra=0, **columns) -> TokenBatch:
        contents = [vocab.encode([c])[0] if isinstance(c, str) else np.asarray(c, int) for c in contents]
        lengths = np.array([len(c) + 2 for c in contents])
        tokens = np.full((len(contents), lengths.max() + extra), vocab.pad)
        for row, content in zip(tokens, contents, strict=True):
            row[: len(content) + 2] = [vocab.bos, *content, vocab.eos]
        ids = np.arange(len(contents)) if ids is None else np.asarray(ids)
        return TokenBatch(tokens, lengths, ids, vocab, columns)

    return make


@pytest.fixture(scope="session")
def copies(make_rows):
    """Many rows of the same content, each with random numbers of its own."""

    def make(content, num, **kind) -> TokenBatch:
        one = make_rows([content], **kind)
        return TokenBatch(*(np.repeat(a, num, axis=0) for a in (one.tokens, one.lengths)), np.arange(num), one.vocab)

    return make


@pytest.fixture(scope="session")
def mask():
    """Masks rows with the masker of that name and options."""

    def run(name, rows, seed=1, epoch=1, progress=0.0, **options):
        entry = MASKERS.get(name)
        masker = build_masker(name, entry.config(**{**entry.preset, **options}), rows.vocab)
        return masker(rows, RowRng(seed, epoch, rows.ids, progress))

    return run


@pytest.fixture
def registry(monkeypatch):
    """A registry of maskers that forgets what a test adds to it."""
    MASKERS.names()
    monkeypatch.setattr(MASKERS, "_entries", dict(MASKERS._entries))
    return MASKERS
