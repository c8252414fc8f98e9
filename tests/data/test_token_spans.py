"""What the tokens of a text cover is the text, but for its spaces, with every tokenizer."""

import functools
import io
import json

import numpy as np
import pytest
import sentencepiece
from encode_help import Maker, rows_of
from hypothesis import example, given, settings
from hypothesis import strategies as st

pytest.importorskip("tokenizers")

from tokenizer_help import KINDS, LINES, vocabulary_of

from taskmask.tokenizer.tokenizer import Vocabulary

MARKED = [
    "cafe\u0301 dog",  # decomposed
    "\u1112\u1161\u11ab\u1100\u116e\u11a8 dog",  # conjoining jamo
    "\u05e9\u05b8\u05dc\u05d5\u05b9\u05dd dog",  # Hebrew points
    "\u0645\u064e\u0631\u0652\u062d\u064e\u0628\u064b\u0627",  # Arabic harakat
    "\u0939\u093f\u0928\u094d\u0926\u0940 dog",  # Devanagari vowels and virama
    "dog\ufe0f x\ufe0e",  # variation selectors
    "\U0001f469\u200d\U0001f469\u200d\U0001f467 dog",  # joiners
    "\u0301a",
    "a \u0301b",
    "\ufdfa dog",  # one character that NFKC makes several words
    "dog\u2581 the\u2581dog \u2581",
    "<mask> e\u0301 [MASK]",
]
SYMBOLS = [*"ab ,\u2581", *sorted({character for text in MARKED for character in text} - set("<>[]MASKmask"))]


@functools.cache
def vocabulary(kind):
    if kind == "uncased":
        content = json.loads(vocabulary_of("wordpiece").model_bytes)
        content["normalizer"] = {**content["normalizer"], "lowercase": True}
        return Vocabulary(json.dumps(content).encode())
    if kind == "nmt_nfkc":
        model = io.BytesIO()
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(LINES), model_writer=model, vocab_size=150, minloglevel=2, hard_vocab_limit=False
        )
        return Vocabulary(model.getvalue())
    return vocabulary_of(kind)


def check(vocab, text):
    ids, starts, ends = vocab.encode_with_offsets([text])[0]
    assert np.array_equal(ids, vocab.encode([text])[0]) and starts.dtype == ends.dtype == np.int32
    assert (np.diff(starts) >= 0).all() and (np.diff(ends) >= 0).all() and (starts <= ends).all()
    if not len(ids):
        return
    read = vocab._engine.as_read(text)
    covered = np.zeros(len(text), bool)
    for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
        covered[start:end] = True
        assert read[start:end] == read[start:end].strip()
    assert [character for character, here in zip(read, covered, strict=True) if not here and character.strip()] == []


@pytest.mark.parametrize("kind", [*KINDS, "uncased", "nmt_nfkc"])
def test_tokens_tile_the_text(kind):
    vocab = vocabulary(kind)

    @settings(max_examples=100, deadline=None)
    @example("\u200b")
    @example(" \u0301 ")
    @given(st.lists(st.sampled_from(SYMBOLS), max_size=20).map("".join))
    def tile(text):
        check(vocab, text)

    tile()
    for text in MARKED:
        check(vocab, text)


@pytest.mark.parametrize(
    ("kind", "text", "slices"),
    [
        ("uncased", "cafe\u0301 dog\ufe0f", ["cafe\u0301", "dog\ufe0f"]),
        ("uncased", "\u0301dog", ["\u0301dog"]),
        ("uncased", "the \u0301dog", ["the \u0301", "dog"]),  # it belongs to the token before it, as no token covers it
        ("unigram_json", "\u1112\u1161\u11ab\u1100\u116e\u11a8", ["\u1112\u1161\u11ab", "\u1100\u116e\u11a8"]),
        ("nmt_nfkc", "cafe\u0301 dog\u200b", ["cafe\u0301", "dog\u200b"]),
        ("bytes", "cafe\u0301", ["cafe\u0301"]),
        ("llama", "the\u2581dog", ["the", "dog"]),
        ("unigram", "the\u2581dog", ["the", "dog"]),
    ],
)
def test_words_come_back_whole(kind, text, slices):
    vocab = vocabulary(kind)
    ids, starts, ends = vocab.encode_with_offsets([text])[0]
    (words,) = vocab.word_numbers(ids[None])
    found = []
    for word in range(words.max() + 1):
        inside = np.flatnonzero((words == word) & (starts < ends))
        found += [text[starts[inside[0]] : ends[inside[-1]]]] if len(inside) else []
    assert "".join(found) == "".join(slices) and (found == slices or kind in ("unigram_json", "nmt_nfkc"))


@pytest.mark.parametrize("kind", ["uncased", "unigram_json", "nmt_nfkc", "bytes", "unigram"])
def test_answers_keep_their_marks(kind, tmp_path):
    """The tokens of an answer, as text of the context, are the answer, wherever its marks stand."""
    context, answers = "the cafe\u0301 of a dog\u0301", ["cafe\u0301", "dog\u0301"]
    records = [
        {"question": "?", "context": context, "answers": [answer], "answer_start": [context.index(answer)]}
        for answer in answers
    ]
    dataset = Maker(tmp_path, vocabulary(kind))(
        {"train.jsonl": "".join(json.dumps(record) + "\n" for record in records)}, form="answers"
    )
    spans = dataset.split("train").values("answer")
    for (first, last), starts, ends, answer in zip(
        spans, rows_of(dataset, "starts"), rows_of(dataset, "ends"), answers, strict=True
    ):
        assert context[starts[first] : ends[last]] == answer
