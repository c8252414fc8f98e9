"""The memory of encoded words gives exactly the ids of the engine, or is not used."""

import gzip
import io
from pathlib import Path

import numpy as np
import pytest
import sentencepiece
from hypothesis import example, given, settings
from hypothesis import strategies as st

from taskmask.tokenizer import tokenizer, word_cache
from taskmask.tokenizer.tokenizer import Vocabulary, train_vocabulary

TEXTS = Path(__file__).parents[3] / "shared" / "data"  # real text, where there is some
LINES = [
    "the quick brown fox jumps over the lazy dog",
    "a café; naïve Ünïcödé!",
    "我爱北京 天安门",
    "the dogs, the dog.",
] * 9


def check(vocabulary, texts):
    assert vocabulary._words is not None
    ids, lengths = vocabulary.encode_flat(texts)
    expected = vocabulary.encode(texts)
    assert lengths.tolist() == [len(array) for array in expected] and ids.dtype == np.int32
    assert np.array_equal(ids, np.concatenate([np.zeros(0, np.int32), *expected]))


MARKS = st.sampled_from(
    ["▁", " ", "  ", "\0", "\u0301", "\u200d", "\u3000", "\u00a0", "the", "dog", "<mask>", "</s>", "😀"]
)


@settings(max_examples=300, deadline=None)
@given(texts=st.lists(st.lists(MARKS | st.text(st.characters(exclude_categories=["Cs"]), max_size=9)).map("".join)))
@example(texts=["a▁", "a▁ b", " ▁", "▁", "", " ", "a  b "])
def test_any_text_has_the_ids_of_the_engine(bpe, texts):
    check(bpe, [text.encode() for text in texts])


@pytest.mark.parametrize("name", ["wiki_en/valid.txt", "thucnews_titles/test.tsv", "chnsenticorp_htl/train.tsv.gz"])
def test_real_text_has_the_ids_of_the_engine(name, monkeypatch):
    if not (TEXTS / name).exists():
        pytest.skip("the text is not here")
    with (gzip.open if name.endswith(".gz") else open)(TEXTS / name, "rb") as file:
        lines = [line.rstrip(b"\n") for line in file][:3000]
    monkeypatch.setattr(word_cache, "_MOST_IDS", 10_000)  # so that it forgets on the way
    vocabulary = Vocabulary(train_vocabulary(lines[:1000], 4000, kind="bpe", character_coverage=0.99))
    for start in range(0, len(lines), 300):
        check(vocabulary, lines[start : start + 300])


def test_each_word_is_encoded_once_and_memory_is_bounded(bpe, monkeypatch):
    encoded = []
    pieces = bpe.pieces(range(bpe.size))
    cache = word_cache.WordCache(lambda texts: encoded.extend(texts) or bpe.encode(texts), pieces)
    cache.encode([b"the dog the dog", b"the fox"])
    cache.encode([b"fox dog"])
    assert encoded == [b"the dog fox"]
    monkeypatch.setattr(word_cache, "_MOST_IDS", 2)
    cache.encode([b"dog"])
    assert list(cache) == [b"", b"dog"]


@pytest.mark.parametrize("length", range(1, 22))
def test_words_of_about_the_length_at_which_texts_are_cut(bpe, monkeypatch, length):
    monkeypatch.setattr(tokenizer, "_LONGEST_ENCODED", 20)
    monkeypatch.setattr(word_cache, "_WORDS_A_TEXT", 3)
    bpe._words._forget()
    check(bpe, [b"d" * length, b"o" * (length - 1), b"g" * length, b"a " + b"x" * (length - 2)])


def test_texts_that_are_very_long_or_hold_the_sign_of_a_space_go_to_the_engine(bpe, monkeypatch):
    monkeypatch.setattr(tokenizer, "_LONGEST_ENCODED", 10)
    check(bpe, [b"the dog the dog", "fox▁ ".encode()])
    assert b"fox" not in bpe._words


def model_of(**options):
    """A model made elsewhere."""
    model = io.BytesIO()
    options = {"vocab_size": 90, "model_type": "bpe", "character_coverage": 1.0, **options}
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(LINES), model_writer=model, minloglevel=2, hard_vocab_limit=False, **options
    )
    return Vocabulary(model.getvalue())


@pytest.mark.parametrize("options", [
    {"split_by_whitespace": False, "vocab_size": 120}, {"treat_whitespace_as_suffix": True},
    {"add_dummy_prefix": False},
    {"remove_extra_whitespaces": False}, {"normalization_rule_name": "nmt_nfkc"}, {"model_type": "unigram"},
    {"model_type": "char"}, {"model_type": "word"}, {"user_defined_symbols": ["the dog", "x y"]},
], ids=str)  # fmt: skip
def test_it_is_used_only_where_words_do_not_touch_each_other(options):
    options = {"normalization_rule_name": "identity", **options}
    vocabulary = model_of(**options)
    texts = [line.encode() for line in ["  the  dog ", *LINES[:4], "x y the dog", "ﬁ\u3000①"]]
    ids, lengths = vocabulary.encode_flat(texts)
    assert vocabulary._words is None
    assert np.array_equal(ids, np.concatenate(vocabulary.encode(texts))) and lengths.sum() == len(ids)


def test_a_foreign_bpe_model_may_be_used_too():
    vocabulary = model_of(normalization_rule_name="identity", user_defined_symbols=["<x>", "don't"])
    check(vocabulary, [b"the<x> don't <x>", "龘 龘龘 the龘".encode(), *(line.encode() for line in LINES)])
