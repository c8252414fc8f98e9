"""Vocabularies made of a tokenizer.json: ids as in transformers, pieces, words, masks, offsets, faults."""

import json
import os
import pickle
import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("tokenizers")

from tokenizer_help import JSON_KINDS, KINDS, MAKERS, byte_level, lines, vocabulary_of, wordpiece

from taskmask.data.dataset import Column, Dataset
from taskmask.data.writer import DatasetWriter
from taskmask.errors import ConfigError, DataError
from taskmask.tokenizer.tokenizer import Vocabulary


@pytest.fixture(params=KINDS)
def any_vocabulary(request):
    return vocabulary_of(request.param)


@pytest.fixture(params=JSON_KINDS)
def json_vocabulary(request):
    return vocabulary_of(request.param)


def fast(content):
    """The tokenizer of transformers with this tokenizer.json."""
    transformers = pytest.importorskip("transformers")
    from tokenizers import Tokenizer

    return transformers.PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(content))


def changed(kind, **changes):
    """A tokenizer.json with some entries changed, as bytes."""
    return json.dumps({**json.loads(vocabulary_of(kind).model_bytes), **changes}).encode()


def test_ids_are_those_of_transformers(json_vocabulary):
    texts = [*lines(300), "a [MASK] b<mask> </s> [SEP]c"]
    theirs = fast(json_vocabulary.model_bytes.decode())(texts, add_special_tokens=False)["input_ids"]
    assert [ids.tolist() for ids in json_vocabulary.encode(texts)] == theirs
    flat, lengths = json_vocabulary.encode_flat([text.encode() for text in texts])
    assert flat.tolist() == [id for ids in theirs for id in ids] and lengths.tolist() == [len(ids) for ids in theirs]
    json_vocabulary.num_threads = 1
    assert [ids.tolist() for ids in json_vocabulary.encode(texts)] == theirs
    json_vocabulary.num_threads = -1


def test_specials_are_found_by_name_or_come_after_the_pieces():
    bert, roberta, llama = map(vocabulary_of, ("wordpiece", "bytes", "llama"))
    assert bert.pieces([bert.pad, bert.bos, bert.eos, bert.unk, bert.mask]) == [
        "[PAD]", "[CLS]", "[SEP]", "[UNK]", "[MASK]"]  # fmt: skip
    assert (roberta.bos, roberta.pad, roberta.eos, roberta.unk, roberta.mask) == (0, 1, 2, 3, 4)
    assert (llama.num_own, llama.pad, llama.mask, llama.size) == (600, 600, 601, 602)
    assert [bert.pair_separators, roberta.pair_separators, vocabulary_of("unigram_json").pair_separators] == [1, 2, 2]
    assert llama.pair_separators == vocabulary_of("bpe").pair_separators == 1
    for vocabulary in (bert, roberta, llama):
        assert vocabulary.special_ids.tolist() == sorted(
            [vocabulary.pad, vocabulary.bos, vocabulary.eos, vocabulary.unk, vocabulary.mask]
        )
    tokenizer = byte_level()
    tokenizer.add_special_tokens(["<|end|>"])
    tokenizer.add_tokens(["   ", "dog dog"])
    vocabulary = Vocabulary(tokenizer.to_str().encode())
    assert vocabulary.is_special[vocabulary.size - 3] and not vocabulary.is_special[vocabulary.size - 2 :].any()
    assert vocabulary.pieces([vocabulary.size - 2, vocabulary.size - 1]) == ["▁▁▁", "dog▁dog"]
    assert vocabulary.decode(vocabulary.encode(["a   dog dog"])[0]) == "a   dog dog"


def test_pieces_are_shown_alike(any_vocabulary):
    pieces = any_vocabulary.pieces(any_vocabulary.encode(["a unable dog"])[0])
    assert "".join(pieces).removeprefix("▁") == "a▁unable▁dog"
    assert any_vocabulary.ids_of_pieces(["▁dog"]).tolist() == any_vocabulary.encode(["a dog"])[0][-1:].tolist()
    assert any_vocabulary.ids_of_pieces(["<mask>"]).tolist() == [any_vocabulary.mask]


def test_pieces_as_the_file_writes_them():
    bert, roberta = vocabulary_of("wordpiece"), vocabulary_of("bytes")
    assert np.array_equal(roberta.ids_of_pieces(["Ġdog"]), roberta.ids_of_pieces(["▁dog"]))
    (name,) = bert.pieces(bert.ids_of_pieces(["##a"]))
    assert name == "a" and bert.pieces(bert.ids_of_pieces(["a"])) == ["a", "▁a"]
    partial = roberta.encode(["龘"])[0]
    assert roberta.pieces(partial) == ["<0xE9>", "<0xBE>", "<0x98>"] and roberta.decode(partial) == "龘"


def test_text_round_trips(any_vocabulary):
    for text in ["a dog, isn't (it)?", "the Häuser!", "我爱北京", "今日は天気", "สวัสดี", "smile 😀😀 dog"]:
        (ids,) = any_vocabulary.encode([text])
        if not any_vocabulary.is_special[ids].any():
            assert any_vocabulary.decode(ids).replace(" ' ", "'") == text


@pytest.mark.parametrize(
    "text", ["the <mask> dog", "<mask> dog", "un<mask>able dog", "the dog <mask>", "<mask> <mask>", "<mask>",
             "我<mask>天", "the <mask>, dog"])  # fmt: skip
def test_masks_in_text_round_trip(any_vocabulary, text):
    ids = any_vocabulary.encode_with_masks(text)
    assert (ids == any_vocabulary.mask).sum() == text.count("<mask>")
    assert any_vocabulary.decode(ids) == text
    name = any_vocabulary.piece(any_vocabulary.mask)
    assert np.array_equal(any_vocabulary.encode_with_masks(text.replace("<mask>", name)), ids)


def test_inside_a_word_no_space_is_invented_after_a_mask(any_vocabulary):
    pieces = any_vocabulary.pieces(any_vocabulary.encode_with_masks("un<mask>able dog"))
    after = pieces[pieces.index(any_vocabulary.piece(any_vocabulary.mask)) + 1 :]
    assert "".join(after) == "able▁dog"


PLAIN = [kind for kind in KINDS if kind != "unigram_json"]  # that one normalises


@pytest.mark.parametrize("kind", PLAIN)
def test_offsets_cover_what_the_token_says(kind):
    vocabulary, texts = vocabulary_of(kind), [line for line in lines() if "\u200d" not in line]
    for text, expected, (ids, starts, ends) in zip(
        texts, vocabulary.encode(texts), vocabulary.encode_with_offsets(texts), strict=True
    ):
        assert np.array_equal(ids, expected) and ids.dtype == starts.dtype == ends.dtype == np.int32
        for piece, start, end in zip(vocabulary.pieces(ids), starts.tolist(), ends.tolist(), strict=True):
            said = text[start:end]
            assert said == piece.replace("▁", " ").strip() or "<0x" in piece or piece in ("[UNK]", "<unk>")
            assert len(said) <= 1 or "<0x" not in piece or kind == "bytes"


def test_offsets_of_bytes_and_normalised_characters(any_vocabulary):
    text = "a  龘😀 dog"
    _, starts, ends = any_vocabulary.encode_with_offsets([text])[0]
    covered = [text[start:end] for start, end in zip(starts, ends, strict=True) if start < end]
    assert list(dict.fromkeys(covered)) in (["a", "龘", "😀", "dog"], ["a", "龘", "😀", "d", "o", "g"])
    _, starts, ends = vocabulary_of("unigram_json").encode_with_offsets(["ﬁne"])[0]
    assert (starts[-3:].tolist(), ends[-3:].tolist()) == ([0, 1, 2], [1, 2, 3])


def test_unigram_with_bytes_shares_out_the_unknown_characters():
    from tokenizers import Tokenizer, models, pre_tokenizers

    bytes_ = [(f"<0x{byte:02X}>", 0.0) for byte in range(256)]
    pieces = [("<unk>", 0.0), *bytes_, ("▁", -2.0), ("▁a", -1.0), ("a", -1.0)]
    tokenizer = Tokenizer(models.Unigram(pieces, 0, True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    _, starts, ends = Vocabulary(tokenizer.to_str().encode()).encode_with_offsets(["a 😀é a"])[0]
    assert (starts.tolist(), ends.tolist()) == ([0, 1, 2, 2, 2, 2, 3, 3, 5], [1, 1, 3, 3, 3, 3, 4, 4, 6])


def test_very_long_texts(any_vocabulary, monkeypatch):
    monkeypatch.setattr("taskmask.tokenizer.tokenizer._LONGEST_ENCODED", 40)
    text = "the dog " * 30 + "dog"
    ids, starts, ends = any_vocabulary.encode_with_offsets([text, "dog"])[0]
    assert np.array_equal(ids, any_vocabulary.encode([text])[0])
    assert text[starts[-1] : ends[-1]] == "dog" and ends[-1] == len(text)


def test_words_that_are_given(json_vocabulary):
    rows = [text.split() for text in lines(200) if text.split()]
    content = json.loads(json_vocabulary.model_bytes)
    if content["pre_tokenizer"]["type"] == "ByteLevel":
        content["pre_tokenizer"]["add_prefix_space"] = True
    theirs = fast(json.dumps(content))(rows, is_split_into_words=True, add_special_tokens=False)
    for at, (ids, words) in enumerate(json_vocabulary.encode_words(rows)):
        present = np.isin(words, theirs.word_ids(at))
        assert ids[present].tolist() == theirs["input_ids"][at]
        assert words[present].tolist() == theirs.word_ids(at)
        assert (ids[~present] == json_vocabulary.unk).all()


def test_words_that_are_given_may_be_anything(any_vocabulary):
    rows = [["dog", "", "the dog", "dog"], [], ["dog"]]
    first, empty, last = any_vocabulary.encode_words(rows)
    (dog,) = any_vocabulary.ids_of_pieces(["▁dog"])
    assert first[0][0] == first[0][-1] == last[0][0] == dog and first[0][1] == any_vocabulary.unk
    assert first[1].tolist() == sorted(first[1]) and set(first[1].tolist()) == {0, 1, 2, 3}
    assert len(empty[0]) == len(empty[1]) == 0 and first[0].dtype == first[1].dtype == np.int32
    assert any_vocabulary.encode_words([]) == []


def test_words_given_to_byte_level_bpe_that_splits_first():
    """As in Llama 3: a Split comes before the bytes."""
    from tokenizers import Regex, pre_tokenizers

    tokenizer = byte_level()
    plain = Vocabulary(tokenizer.to_str().encode())
    split = pre_tokenizers.Split(Regex(r" ?\p{L}+| ?[^\s\p{L}]+|\s+"), "isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    vocabulary = Vocabulary(tokenizer.to_str().encode())
    ids, words = vocabulary.encode_words([["the", "dog", "<mask>"]])[0]
    assert ids.tolist() == plain.encode_words([["the", "dog", "<mask>"]])[0][0].tolist() and words[-1] == 2


def test_spaces_written_by_the_normalizer():
    """As in Llama 2: no pre-tokenizer."""
    steps = [{"type": "Prepend", "prepend": "▁"}, {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]
    changes = {"normalizer": {"type": "Sequence", "normalizers": steps}, "pre_tokenizer": None}
    vocabulary = Vocabulary(changed("llama", **changes))
    ids, starts, ends = vocabulary.encode_with_offsets(["the  dog"])[0]
    assert vocabulary.pieces(ids) == ["▁the", "▁", "▁dog"]
    assert (starts[[0, 2]].tolist(), ends[[0, 2]].tolist()) == ([0, 5], [3, 8]) and starts[1] == ends[1]
    assert vocabulary.pieces(vocabulary.encode_words([["the", "dog"]])[0][0]) == ["▁the", "▁dog"]
    assert "".join(vocabulary.pieces(vocabulary.encode_with_masks("un<mask>able"))) == "▁un<mask>able"


def test_runs_of_spaces_and_other_names_of_specials():
    """As in ModernBERT."""
    from tokenizers import AddedToken

    tokenizer = byte_level()
    tokenizer.add_special_tokens([AddedToken("[MASK]", lstrip=True), "[CLS]", "[SEP]", "[PAD]", "[UNK]"])
    tokenizer.add_tokens([" " * number for number in range(2, 9)])
    vocabulary = Vocabulary(tokenizer.to_str().encode())
    assert vocabulary.pieces([vocabulary.bos, vocabulary.mask, vocabulary.pad]) == ["[CLS]", "[MASK]", "[PAD]"]
    text = "def f():    return x"
    (ids,) = vocabulary.encode([text])
    assert vocabulary.decode(ids) == text and "▁▁▁▁" in vocabulary.pieces(ids)


def test_texts_are_read_in_several_processes(tmp_path, capfd):
    from taskmask.preprocess.pipeline import encode_files
    from taskmask.preprocess.readers import find_sources

    (tmp_path / "train.txt").write_text("\n".join(line for line in lines(300) if line.strip()), encoding="utf-8")
    vocabulary = vocabulary_of("bytes")
    made = []
    for workers in (1, 2):
        out = tmp_path / f"out{workers}"
        encode_files(find_sources({"train": [str(tmp_path / "train.txt")]}), vocabulary, out, workers=workers)
        made.append(Dataset.open(out))
    assert made[0].fingerprint == made[1].fingerprint and capfd.readouterr().err == ""


def test_truncation_and_padding_are_switched_off():
    tokenizer = wordpiece()
    tokenizer.enable_truncation(3)
    tokenizer.enable_padding(length=50)
    text = "the dog the dog the dog"
    (ids,) = Vocabulary(tokenizer.to_str().encode()).encode([text])
    assert np.array_equal(ids, vocabulary_of("wordpiece").encode([text])[0]) and len(ids) > 5


def test_pickles_and_fingerprint(json_vocabulary, tmp_path):
    (tmp_path / "tokenizer.json").write_bytes(json_vocabulary.model_bytes)
    for other in (pickle.loads(pickle.dumps(json_vocabulary)), Vocabulary.load(tmp_path)):
        assert other.fingerprint == json_vocabulary.fingerprint and other.size == json_vocabulary.size
        assert other.file_name == "tokenizer.json"


def test_a_dataset_keeps_it(json_vocabulary, tmp_path):
    with DatasetWriter(tmp_path / "out", json_vocabulary) as writer:
        split = writer.split("train", {"tokens": Column("ragged", json_vocabulary.token_dtype)})
        flat, lengths = json_vocabulary.encode_flat([b"the dog", b"a fox"])
        split.append({"tokens": (flat.astype(json_vocabulary.token_dtype), lengths)})
    dataset = Dataset.open(tmp_path / "out")
    assert dataset.vocabulary_file == "tokenizer.json" and not (tmp_path / "out" / "vocab.model").exists()
    assert dataset.vocabulary().fingerprint == json_vocabulary.fingerprint
    assert Vocabulary.load(tmp_path / "out").fingerprint == json_vocabulary.fingerprint
    dataset.verify()


WORDPIECE = {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
             "max_input_chars_per_word": 100}  # fmt: skip
DAMAGED = {
    "no tokenizer": b"{}",
    "cut off": b'{"version": "1.0", "model": {"type": "BPE", "voc',
    "no UTF-8": b'{"version": "\xff"}',
    "deep": b'{"model":' * 100_000,
    "no tokens": json.dumps({"model": {"type": "WordLevel", "vocab": {}, "unk_token": "[UNK]"}}).encode(),
    "same id 1": json.dumps({"model": {**WORDPIECE, "vocab": {"[UNK]": 0, "a": 1, "b": 1}}}).encode(),
    "largest id": json.dumps({"model": {**WORDPIECE, "vocab": {"[UNK]": 0, "a": 4294967295}}}).encode(),
    "Missing": json.dumps({"model": {**WORDPIECE, "vocab": {"a": 0}}}).encode(),
    "do not tell where words start": json.dumps({"model": {"type": "BPE", "vocab": {"a": 0}, "merges": []}}).encode(),
    "BPE tokenizer whose pieces": changed("bytes", model={**json.loads(vocabulary_of("bytes").model_bytes)["model"],
                                                          "end_of_word_suffix": "</w>"}),
    "panics": json.dumps({"model": {**WORDPIECE, "vocab": {"[UNK]": 0}},
                          "normalizer": {"type": "Precompiled", "precompiled_charsmap": "AAAA"}}).encode(),
}  # fmt: skip


@pytest.mark.parametrize("name", DAMAGED)
def test_damaged_files(name, tmp_path):
    path = tmp_path / "tokenizer.json"
    path.write_bytes(DAMAGED[name])
    with pytest.raises(DataError, match=r"tokenizer\.json") as error:
        Vocabulary.load(path)
    if name not in ("no tokenizer", "cut off", "no UTF-8", "deep", "panics"):
        assert name in str(error.value)
    assert "\n" not in str(error.value)


def test_ids_with_gaps():
    content = {"model": {**WORDPIECE, "vocab": {"[UNK]": 0, "dog": 3, "##s": 5}}}
    vocabulary = Vocabulary(json.dumps(content).encode())
    assert vocabulary.num_own == 6 and vocabulary.is_special[:6].tolist() == [True, True, True, False, True, False]
    assert vocabulary.pieces(vocabulary.encode(["dogs"])[0]) == ["▁dog", "s"]
    assert vocabulary.piece(4) == "<no token 4>" and vocabulary.pad == 6


def test_without_the_package(monkeypatch):
    content = vocabulary_of("wordpiece").model_bytes
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(ConfigError, match=r"pip install taskmask\[hf\]"):
        Vocabulary(content)


def test_the_core_does_not_import_it(unigram, tmp_path):
    (tmp_path / "vocab.model").write_bytes(unigram.model_bytes)
    code = (
        "import sys; from taskmask.tokenizer.tokenizer import Vocabulary; import taskmask.hf.tokenizer_export as t; "
        f"t.tokenizer_json(Vocabulary.load({str(tmp_path)!r})); print('tokenizers' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


def test_forked_processes_can_encode(tmp_path):
    """After the threads of the package were used: no warning, no deadlock."""
    (tmp_path / "tokenizer.json").write_bytes(MAKERS["bytes"]().to_str().encode())
    code = (
        "import os, sys; from taskmask.tokenizer.tokenizer import Vocabulary\n"
        f"v = Vocabulary.load({str(tmp_path)!r}); texts = ['the dog'] * 1000; v.encode(texts)\n"
        "pid = os.fork()\n"
        "if pid == 0: os._exit(len(v.encode(texts)) != 1000)\n"
        "print(os.waitpid(pid, 0)[1], len(v.encode(texts)), os.environ.get('TOKENIZERS_PARALLELISM'))"
    )
    environment = {key: value for key, value in os.environ.items() if key != "TOKENIZERS_PARALLELISM"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60, env=environment
    )
    assert done.stdout == "0 1000 None\n" and done.stderr == ""


def test_a_space_that_is_put_after_a_mask_covers_nothing():
    content = json.loads(vocabulary_of("bytes").model_bytes)
    content["pre_tokenizer"]["add_prefix_space"] = content["post_processor"]["add_prefix_space"] = True
    merge = {"merges": [*content["model"]["merges"], ["Ġ", "y"]]}
    content["model"] |= merge | {"vocab": content["model"]["vocab"] | {"Ġy": len(content["model"]["vocab"])}}
    for token in content["added_tokens"]:
        token["id"] = content["model"]["vocab"][token["content"]]
    vocabulary = Vocabulary(json.dumps(content).encode())
    text = "x <mask>y <mask>z  y"
    ids, starts, ends = vocabulary.encode_with_offsets([text])[0]
    pieces = dict(zip(vocabulary.pieces(ids), zip(starts.tolist(), ends.tolist(), strict=True), strict=True))
    assert pieces["z"] == (16, 17) and "▁y" in pieces
    covered = "".join(text[start:end] for start, end in zip(starts, ends, strict=True))
    assert covered == text.replace(" ", "")
    texts = [line.replace(" ", "<mask>", 2).replace("a", "a <mask>", 1) + " <s>x" for line in lines(300)]
    for _, starts, ends in vocabulary.encode_with_offsets(texts):
        assert (np.diff(starts) >= 0).all() and (np.diff(ends) >= 0).all() and (starts <= ends).all()
