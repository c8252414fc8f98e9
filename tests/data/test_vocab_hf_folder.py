"""Hugging Face folders of every age."""

import json

import numpy as np
import pytest

pytest.importorskip("tokenizers")

from tokenizer_help import byte_level, lines, vocabulary_of, wordpiece

from taskmask.errors import DataError
from taskmask.tokenizer.tokenizer import Vocabulary


def write_bert(folder, **options):
    vocabulary = wordpiece().get_vocab()
    (folder / "vocab.txt").write_text("\n".join(sorted(vocabulary, key=vocabulary.get)) + "\n", encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "BertTokenizer", **options}))


def write_roberta(folder, **options):
    byte_level().model.save(str(folder))
    content = {"tokenizer_class": "RobertaTokenizer", **options}
    (folder / "tokenizer_config.json").write_text(json.dumps(content))


def of_transformers(folder, name):
    return getattr(pytest.importorskip("transformers"), name).from_pretrained(folder)


@pytest.mark.parametrize(
    "options", [{}, {"do_lower_case": False}, {"strip_accents": False}, {"tokenize_chinese_chars": False}], ids=str
)
def test_vocab_txt_is_word_piece(options, tmp_path):
    write_bert(tmp_path, **options)
    vocabulary = Vocabulary.load(tmp_path)
    theirs = of_transformers(tmp_path, "BertTokenizer")
    texts = lines(200)
    assert [ids.tolist() for ids in vocabulary.encode(texts)] == theirs(texts, add_special_tokens=False)["input_ids"]
    assert (vocabulary.pad, vocabulary.mask) == (theirs.pad_token_id, theirs.mask_token_id)
    assert vocabulary.pair_separators == 1


@pytest.mark.parametrize("options", [{}, {"add_prefix_space": True}], ids=str)
def test_vocab_json_and_merges_are_byte_level_bpe(options, tmp_path):
    write_roberta(tmp_path, **options)
    vocabulary = Vocabulary.load(tmp_path)
    theirs = of_transformers(tmp_path, "RobertaTokenizer")
    texts = lines(200)
    assert [ids.tolist() for ids in vocabulary.encode(texts)] == theirs(texts, add_special_tokens=False)["input_ids"]
    assert vocabulary.pair_separators == 2
    assert vocabulary.encode(["the <mask> dog"])[0].tolist() == vocabulary.encode_with_masks("the <mask> dog").tolist()
    if options:
        rows = [text.split() for text in texts if text.split()]
        words = theirs(rows, is_split_into_words=True, add_special_tokens=False)["input_ids"]
        assert [ids.tolist() for ids, _ in vocabulary.encode_words(rows)] == words


def test_tokenizer_json_comes_first(tmp_path):
    write_bert(tmp_path)
    (tmp_path / "tokenizer.json").write_bytes(vocabulary_of("bytes").model_bytes)
    assert Vocabulary.load(tmp_path).fingerprint == vocabulary_of("bytes").fingerprint


def test_the_made_tokenizer_is_kept_as_bytes(tmp_path):
    write_bert(tmp_path)
    first, second = Vocabulary.load(tmp_path), Vocabulary.load(tmp_path)
    assert first.model_bytes == second.model_bytes
    assert np.array_equal(Vocabulary(first.model_bytes).encode(["dog"])[0], first.encode(["dog"])[0])


@pytest.mark.parametrize("name", ["sentencepiece.bpe.model", "spiece.model", "tokenizer.model"])
def test_only_a_sentencepiece_model_is_refused(name, tmp_path):
    (tmp_path / name).write_bytes(vocabulary_of("unigram").model_bytes)
    with pytest.raises(DataError, match=r"save_pretrained"):
        Vocabulary.load(tmp_path)


def test_damaged_folders(tmp_path):
    with pytest.raises(DataError, match=r"no vocabulary in this folder.*vocab\.txt"):
        Vocabulary.load(tmp_path)
    write_bert(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text("{")
    with pytest.raises(DataError, match="not valid JSON"):
        Vocabulary.load(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text("[]")
    with pytest.raises(DataError, match="no JSON object"):
        Vocabulary.load(tmp_path)
    (tmp_path / "tokenizer_config.json").unlink()
    (tmp_path / "vocab.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(DataError, match="not UTF-8"):
        Vocabulary.load(tmp_path)
    (tmp_path / "vocab.txt").write_text("")
    with pytest.raises(DataError):
        Vocabulary.load(tmp_path)
    (tmp_path / "vocab.txt").unlink()
    write_roberta(tmp_path)
    (tmp_path / "merges.txt").write_text("#version\nq w e\nzz zzz\n")
    with pytest.raises(DataError, match="cannot make a tokenizer"):
        Vocabulary.load(tmp_path)


def write_json(path, content):
    path.write_text(json.dumps(content), encoding="utf-8")


@pytest.mark.parametrize("name, content, message", [
    ("tokenizer_config.json", {"tokenizer_class": "BertJapaneseTokenizer"}, r"tokenizer_class is 'BertJapaneseTok"),
    ("tokenizer_config.json", {"tokenizer_class": "RobertaTokenizer"}, r"expected the tokenizer of Bert, DistilBert"),
    ("tokenizer_config.json", {"do_basic_tokenize": False}, r"do_basic_tokenize is false"),
    ("tokenizer_config.json", {"added_tokens_decoder": {"9999": {"content": "<ent>"}}}, r"the token '<ent>' is not in"),
    ("added_tokens.json", {"[MASK]": 4, "<ent>": 9999}, r"the token '<ent>' is not in"),
    ("added_tokens.json", {"[MASK]": 9999}, r"the token '\[MASK\]' is not in"),
    ("special_tokens_map.json", {"unk_token": "<what>"}, r"the token '<what>' is not in"),
    ("special_tokens_map.json", {"additional_special_tokens": ["<ent>"]}, r"the token '<ent>' is not in"),
])  # fmt: skip
def test_what_only_transformers_can_do_is_refused(name, content, message, tmp_path):
    write_bert(tmp_path)
    write_json(tmp_path / name, content)
    with pytest.raises(DataError, match=message + r".*AutoTokenizer\.from_pretrained\(.*\)\.save_pretrained\("):
        Vocabulary.load(tmp_path)


def test_the_class_may_stand_in_config_json(tmp_path):
    write_bert(tmp_path)
    (tmp_path / "tokenizer_config.json").unlink()
    write_json(tmp_path / "config.json", {"tokenizer_class": "DistilBertTokenizerFast", "dim": 8})
    assert Vocabulary.load(tmp_path).num_own == len(wordpiece().get_vocab())
    write_json(tmp_path / "config.json", {"tokenizer_class": "XLMTokenizer"})
    with pytest.raises(DataError, match="tokenizer_class is 'XLMTokenizer'"):
        Vocabulary.load(tmp_path)


@pytest.mark.parametrize("unknown", ["<unk>", {"content": "<unk>", "special": True}])
def test_names_of_specials_in_a_file_of_their_own(unknown, tmp_path):
    write_bert(tmp_path)
    path = tmp_path / "vocab.txt"
    path.write_text(path.read_text(encoding="utf-8").replace("[UNK]", "<unk>"), encoding="utf-8")
    with pytest.raises(DataError, match=r"'\[UNK\]' is not in the vocabulary.*save_pretrained"):
        Vocabulary.load(tmp_path)
    write_json(tmp_path / "special_tokens_map.json", {"unk_token": unknown})
    vocabulary = Vocabulary.load(tmp_path)
    assert vocabulary.encode(["龘"])[0].tolist() == [vocabulary.unk] and vocabulary.unk < vocabulary.num_own


@pytest.mark.parametrize("make, key, value", [
    (wordpiece, "do_lower_case", True), (wordpiece, "tokenize_chinese_chars", False),
    (wordpiece, "strip_accents", True), (byte_level, "add_prefix_space", True),
])  # fmt: skip
def test_a_config_that_contradicts_the_tokenizer_json_is_refused(make, key, value, tmp_path):
    content = json.loads(make().to_str())
    if key == "strip_accents":
        content["normalizer"]["strip_accents"] = not value
    write_json(tmp_path / "tokenizer.json", content)
    for agrees in ({key: not value}, {key: None}, {}):
        write_json(tmp_path / "tokenizer_config.json", agrees)
        Vocabulary.load(tmp_path)
    write_json(tmp_path / "tokenizer_config.json", {key: value})
    both = f"{key} is {json.dumps(value)} in tokenizer_config.json and {json.dumps(not value)} in tokenizer.json"
    with pytest.raises(DataError, match=both):
        Vocabulary.load(tmp_path)
    content["normalizer"] = {"type": "Sequence", "normalizers": [content["normalizer"] or {"type": "NFC"}]}
    write_json(tmp_path / "tokenizer.json", content)
    with pytest.raises(DataError, match=both):
        Vocabulary.load(tmp_path)
    Vocabulary.load(tmp_path / "tokenizer.json")
