"""Which token begins, ends, pads, masks and is unknown: what the tokenizer and its folder say, then names."""

import json
import pickle

import pytest

pytest.importorskip("tokenizers")

from tokenizer_help import byte_level, unigram_json, vocabulary_of, wordpiece
from tokenizers import Tokenizer, processors

from taskmask.data.dataset import Column, Dataset
from taskmask.data.writer import DatasetWriter
from taskmask.errors import DataError
from taskmask.hf.tokenizer_export import tokenizer_json
from taskmask.tokenizer.special_roles import with_roles, without_roles
from taskmask.tokenizer.tokenizer import Vocabulary

OWN = {"pad_token": "[p]", "cls_token": "[c]", "sep_token": "[s]", "unk_token": "[u]", "mask_token": "[m]"}


def roles(vocabulary):
    return vocabulary.pieces([vocabulary.pad, vocabulary.bos, vocabulary.eos, vocabulary.unk, vocabulary.mask])


def renamed(made, names):
    """A tokenizer in which tokens have other names, as text."""
    text = made.to_str()
    for old, new in names.items():
        text = text.replace(json.dumps(old)[1:-1], json.dumps(new)[1:-1])
    return text


NAMES = {"[PAD]": "[p]", "[CLS]": "[c]", "[SEP]": "[s]", "[UNK]": "[u]", "[MASK]": "[m]"}


def around(made, start, end, *more):
    """With these two, which are added, around a text."""
    made.add_special_tokens([*dict.fromkeys((start, end)), *more])
    specials = [(name, made.token_to_id(name)) for name in dict.fromkeys((start, end))]
    made.post_processor = processors.TemplateProcessing(
        single=f"{start} $A {end}", pair=f"{start} $A {end} $B {end}", special_tokens=specials
    )
    return Vocabulary(made.to_str().encode())


@pytest.mark.parametrize(
    ("start", "end"), [("<cls>", "<sep>"), ("<bos>", "<eos>"), ("<|x|>", "<|y|>"), ("<|x|>", "<|x|>")]
)
def test_the_template_says_the_ends(start, end):
    """Whatever else is there: this one has `<s>`, `</s>` too."""
    vocabulary = around(unigram_json(), start, end)
    assert roles(vocabulary) == ["<pad>", start, end, "<unk>", "<mask>"]
    assert vocabulary.puts_ends and vocabulary.joins_pairs == (start != end) and not vocabulary.types_pairs


def test_without_a_template_names_say_them():
    made = unigram_json()
    made.post_processor = None
    assert roles(Vocabulary(made.to_str().encode()))[1:3] == ["<s>", "</s>"]
    made.add_special_tokens(["<cls>", "<sep>"])
    vocabulary = Vocabulary(made.to_str().encode())
    assert roles(vocabulary)[1:3] == ["<cls>", "<sep>"] and not vocabulary.puts_ends


def write(folder, text, config, old=None):
    (folder / "tokenizer.json").write_text(text, encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    if old is not None:
        (folder / "special_tokens_map.json").write_text(json.dumps(old))
    return Vocabulary.load(folder)


@pytest.mark.parametrize("form", ["names", "objects", "a file of their own"])
def test_the_folder_says_the_others(form, tmp_path):
    text = renamed(wordpiece(), NAMES)
    objects = {key: {"content": name, "special": True} for key, name in OWN.items()}
    if form == "a file of their own":
        vocabulary = write(tmp_path, text, {}, objects)
    else:
        vocabulary = write(tmp_path, text, OWN if form == "names" else objects)
    assert roles(vocabulary) == ["[p]", "[c]", "[s]", "[u]", "[m]"] and vocabulary.num_own == vocabulary.size
    assert vocabulary.encode_with_masks("the <mask> dog")[1] == vocabulary.encode_with_masks("the [m] dog")[1]
    for copy in (pickle.loads(pickle.dumps(vocabulary)), Vocabulary(vocabulary.model_bytes)):
        assert roles(copy) == roles(vocabulary) and copy.fingerprint == vocabulary.fingerprint
    assert json.loads(tokenizer_json(vocabulary)) == json.loads(text)  # goes out as it came in


def test_roles_are_kept_in_a_dataset_and_others_can_read_its_file(tmp_path):
    (tmp_path / "hf").mkdir()
    vocabulary = write(tmp_path / "hf", renamed(wordpiece(), NAMES), OWN)
    with DatasetWriter(tmp_path / "out", vocabulary) as writer:
        writer.split("train", {"tokens": Column("ragged", vocabulary.token_dtype)})
    assert roles(Dataset.open(tmp_path / "out").vocabulary()) == roles(vocabulary)
    theirs = Tokenizer.from_file(str(tmp_path / "out" / "tokenizer.json"))
    assert theirs.encode("the dog", add_special_tokens=False).ids == vocabulary.encode(["the dog"])[0].tolist()


@pytest.mark.parametrize("make", [wordpiece, byte_level, unigram_json])
def test_what_needs_no_statement_is_kept_byte_for_byte(make, tmp_path):
    """So datasets that were made before still fit."""
    bert = make is wordpiece
    names = ("[PAD]", "[CLS]", "[SEP]", "[UNK]", "[MASK]") if bert else ("<pad>", "<s>", "</s>", "<unk>", "<mask>")
    vocabulary = write(tmp_path, make().to_str(), dict(zip(OWN, names, strict=True)))
    assert vocabulary.model_bytes == (tmp_path / "tokenizer.json").read_bytes() and roles(vocabulary) == list(names)


def test_a_token_has_one_role(tmp_path):
    """GPT-2 names one token for all; what begins a text is that, the others are added."""
    made = byte_level()
    made.post_processor = None
    made.add_special_tokens(["<|end|>"])
    text = renamed(made, {"<s>": "<1>", "<pad>": "<2>", "</s>": "<3>", "<unk>": "<4>", "<mask>": "<5>"})
    vocabulary = write(tmp_path, text, dict.fromkeys(("bos_token", "eos_token", "unk_token", "pad_token"), "<|end|>"))
    assert roles(vocabulary) == ["<pad>", "<|end|>", "</s>", "<unk>", "<mask>"]
    assert vocabulary.bos < vocabulary.num_own == vocabulary.size - 4


def test_a_folder_that_contradicts_its_template_is_refused(tmp_path):
    vocabulary = around(unigram_json(), "<cls>", "<sep>")
    text = vocabulary.model_bytes.decode()
    write(tmp_path, text, {"cls_token": "<cls>", "bos_token": "<s>"})
    with pytest.raises(
        DataError, match=r"sep_token is </s> in tokenizer_config.json, and tokenizer.json puts <sep> there"
    ):
        write(tmp_path, text, {"cls_token": "<cls>", "sep_token": "</s>"})


def test_names_in_files_of_before(tmp_path):
    vocabulary = wordpiece().get_vocab()
    words = [NAMES.get(word, word) for word in sorted(vocabulary, key=vocabulary.get)]
    (tmp_path / "vocab.txt").write_text("\n".join(words) + "\n", encoding="utf-8")
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "BertTokenizer", **OWN}))
    assert roles(Vocabulary.load(tmp_path)) == ["[p]", "[c]", "[s]", "[u]", "[m]"]
    assert Vocabulary.load(tmp_path).puts_ends


def test_ends_in_files_of_before(tmp_path):
    made = byte_level()
    made.model.save(str(tmp_path))
    text = (tmp_path / "vocab.json").read_text(encoding="utf-8")
    (tmp_path / "vocab.json").write_text(
        text.replace('"<pad>"', '"<cls>"').replace('"<unk>"', '"<sep>"'), encoding="utf-8"
    )
    config = {"tokenizer_class": "RobertaTokenizer", "cls_token": "<cls>", "sep_token": "<sep>"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    vocabulary = Vocabulary.load(tmp_path)
    assert roles(vocabulary)[1:3] == ["<cls>", "<sep>"] and vocabulary.pair_separators == 2 and vocabulary.joins_pairs


def test_a_token_that_was_no_added_one_becomes_special():
    content = vocabulary_of("wordpiece").model_bytes
    vocabulary = Vocabulary(content)
    (word,) = vocabulary.ids_of_pieces(["▁dog"])
    stated = Vocabulary(with_roles(content, {"<mask>": "dog"}, vocabulary._engine.ids))
    assert stated.mask == word and stated.is_special[word] and not vocabulary.is_special[word]
    assert without_roles(content) == content
