"""A vocabulary written as tokenizer.json gives the same ids in transformers."""

import io
import json
import re

import numpy as np
import pytest
import sentencepiece
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizer_help import KINDS, LINES, lines, vocabulary_of

from taskmask.errors import DataError
from taskmask.hf.tokenizer_export import tokenizer_config, tokenizer_json
from taskmask.tokenizer.tokenizer import Vocabulary

transformers = pytest.importorskip("transformers")
BERT = {"model_type": "bert", "hidden_size": 8, "num_attention_heads": 2, "num_hidden_layers": 1,
        "intermediate_size": 8}  # fmt: skip


def written(vocabulary, folder):
    """What AutoTokenizer makes of it."""
    (folder / "tokenizer.json").write_text(tokenizer_json(vocabulary), encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer_config(vocabulary, 9999)))
    (folder / "config.json").write_text(json.dumps({**BERT, "vocab_size": vocabulary.size}))
    return transformers.AutoTokenizer.from_pretrained(folder)


def foreign(**options):
    """A SentencePiece model made elsewhere."""
    model = io.BytesIO()
    options = {"vocab_size": 150, "model_type": "bpe", "normalization_rule_name": "identity", **options}
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(LINES), model_writer=model, minloglevel=2, hard_vocab_limit=False, **options
    )
    return Vocabulary(model.getvalue())


@pytest.mark.parametrize("kind", KINDS)
def test_ids_are_the_same(kind, tmp_path):
    vocabulary = vocabulary_of(kind)
    theirs = written(vocabulary, tmp_path)
    assert theirs(lines(), add_special_tokens=False)["input_ids"] == [
        ids.tolist() for ids in vocabulary.encode(lines())
    ]
    assert len(theirs) == vocabulary.size and theirs.model_max_length == 9999
    assert [theirs.pad_token_id, theirs.bos_token_id, theirs.cls_token_id, theirs.eos_token_id, theirs.sep_token_id,
            theirs.unk_token_id, theirs.mask_token_id] == [
        vocabulary.pad, vocabulary.bos, vocabulary.bos, vocabulary.eos, vocabulary.eos, vocabulary.unk, vocabulary.mask
    ]  # fmt: skip
    text = "the <mask> dog, un<mask>able <mask>".replace("<mask>", theirs.mask_token)
    if kind in ("bytes", "unigram", "bpe"):
        assert theirs(text, add_special_tokens=False)["input_ids"] == vocabulary.encode_with_masks(text).tolist()


@pytest.mark.parametrize("kind", ["unigram", "bpe"])
def test_specials_decoding_and_pairs(kind, tmp_path):
    vocabulary = vocabulary_of(kind)
    theirs = written(vocabulary, tmp_path)
    one, two = (ids.tolist() for ids in vocabulary.encode(["the dog", "a fox"]))
    pair = theirs("the dog", "a fox")
    assert theirs("the dog")["input_ids"] == [vocabulary.bos, *one, vocabulary.eos]
    assert pair["input_ids"] == [vocabulary.bos, *one, vocabulary.eos, *two, vocabulary.eos]
    assert pair["token_type_ids"] == [0] * (len(one) + 2) + [1] * (len(two) + 1)
    for text in ("the dog isn't", "我爱 龘 dog", "😀"):
        assert theirs.decode(vocabulary.encode([text])[0]) == text
    read_again = Vocabulary(tokenizer_json(vocabulary).encode())
    assert read_again.pair_separators == 1 and read_again.size == vocabulary.size
    assert read_again.pieces(range(read_again.size))[:5] == vocabulary.pieces(range(5))


@pytest.mark.parametrize("options", [{"model_type": "unigram"}, {"normalization_rule_name": "nmt_nfkc"}], ids=str)
def test_foreign_models(options, tmp_path):
    vocabulary = foreign(**options)
    theirs = written(vocabulary, tmp_path)
    texts = [*LINES[:8], "ﬁne ①  Ａ\u3000the"]
    assert theirs(texts, add_special_tokens=False)["input_ids"] == [ids.tolist() for ids in vocabulary.encode(texts)]
    assert theirs.mask_token_id == vocabulary.mask == vocabulary.size - 1


@pytest.mark.parametrize("kind", ["unigram", "bpe", "nmt_nfkc"])
def test_control_characters_and_marks_of_spaces_are_spaces(kind, tmp_path):
    vocabulary = foreign(normalization_rule_name=kind) if kind == "nmt_nfkc" else vocabulary_of(kind)
    theirs = written(vocabulary, tmp_path)
    symbols = st.sampled_from([*map(chr, range(33)), "\x7f", "\x85", "\u2028", "▁", "  ", *"aé日", "the", " dog"])

    @settings(max_examples=150, deadline=None)
    @example("a \nb")
    @example("\t the\r\n\ndog \n")
    @example("▁")
    @example("▁日▁ ▁x▁")
    @given(st.lists(symbols, max_size=12).map("".join))
    def check(text):
        (ids,) = vocabulary.encode([text])
        assert theirs(text, add_special_tokens=False)["input_ids"] == ids.tolist()
        plain = re.sub("[\x00-\x1f\x7f▁]", " ", text)
        assert np.array_equal(ids, vocabulary.encode([plain])[0])
        assert np.array_equal(ids, vocabulary.encode([text.encode()])[0])
        assert np.array_equal(ids, vocabulary.encode_flat([text.encode(), b""])[0])
        assert np.array_equal(ids, vocabulary.encode_with_offsets([text])[0][0])

    check()


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"model_type": "char"}, "neither unigram nor bpe"),
        ({"treat_whitespace_as_suffix": True}, "end of words"),
        ({"add_dummy_prefix": False}, "no space before a text"),
        ({"remove_extra_whitespaces": False}, "runs of spaces"),
        ({"split_by_whitespace": False}, "spaces inside"),
        ({"user_defined_symbols": ["don't"]}, "by hand"),
    ],
    ids=str,
)
def test_what_cannot_be_said_is_refused(options, problem):
    with pytest.raises(DataError, match=problem):
        tokenizer_json(foreign(**options))


def test_lacking_specials_cannot_be_added_where_ids_have_gaps():
    model = {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
             "max_input_chars_per_word": 100, "vocab": {"[UNK]": 0, "dog": 3}}  # fmt: skip
    with pytest.raises(DataError, match="ids without tokens"):
        tokenizer_json(Vocabulary(json.dumps({"model": model}).encode()))
