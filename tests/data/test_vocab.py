"""Text to ids and back, special pieces, masks in text, words."""

import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import sentencepiece
from hypothesis import given, settings
from hypothesis import strategies as st

import taskmask.errors
from taskmask.errors import ConfigError, DataError
from taskmask.tokenizer.tokenizer import Vocabulary, cut_text, train_vocabulary

ROOT = Path(taskmask.errors.__file__).parents[1]
SPACES = ("▁", "<0x20>", "<0x09>", "<0x0A>", "<0x0B>", "<0x0C>", "<0x0D>")
TEXTS = [
    "The quick brown fox isn't lazy.",
    "我爱北京，你好！",
    "今日はカタカナ。",
    "สวัสดี วันนี้",
    "مرحبا بالعالم",
    "smile 😀👩‍👩‍👧 rare ⵣ ꙮ 𓀀",
    "Ünïcödé \u2028 zero\u200bwidth",
]


@pytest.mark.parametrize("text", TEXTS)
def test_round_trip_and_nothing_unknown(vocabulary, text):
    (ids,) = vocabulary.encode([text])
    assert ids.dtype == np.int32
    assert vocabulary.unk not in ids and not vocabulary.is_special[ids].any()
    assert vocabulary.decode(ids) == text


@pytest.mark.fault(4)
@settings(max_examples=150, deadline=None)
@given(text=st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="▁"), max_size=40))
def test_any_text_round_trips_up_to_spaces(unigram, text):
    (ids,) = unigram.encode([text])
    assert unigram.decode(ids) == " ".join(part for part in text.split(" ") if part)
    assert np.array_equal(ids, unigram.encode([text.encode()])[0])


def test_specials(vocabulary):
    assert [vocabulary.pad, vocabulary.bos, vocabulary.eos, vocabulary.unk, vocabulary.mask] == [0, 1, 2, 3, 4]
    assert vocabulary.pieces(range(5)) == ["<pad>", "<s>", "</s>", "<unk>", "<mask>"]
    assert vocabulary.special_ids.tolist() == [0, 1, 2, 3, 4]
    assert vocabulary.mask not in vocabulary.encode(["a <mask> b<mask> <s> </s>"])[0]
    assert vocabulary.decode([0, 1, *vocabulary.encode(["the dog"])[0], 2]) == "the dog"


@pytest.mark.fault(7)
def test_specials_that_a_foreign_model_lacks_come_after_its_pieces():
    import io

    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["the quick brown fox jumps over the lazy dog"] * 5),
        model_writer=model,
        vocab_size=40,
        model_type="bpe",
        minloglevel=2,
    )
    vocabulary = Vocabulary(model.getvalue())
    assert (vocabulary.unk, vocabulary.bos, vocabulary.eos) == (0, 1, 2)
    assert (vocabulary.pad, vocabulary.mask, vocabulary.size) == (40, 41, 42)
    assert vocabulary.decode(vocabulary.encode_with_masks("the <mask> dog")) == "the <mask> dog"


@pytest.mark.parametrize(
    "text", ["the <mask> dog", "<mask> dog", "un<mask>able dog", "the dog <mask>", "<mask> <mask>", "<mask>",
             "我爱<mask>天",
             "the <mask>, dog"])  # fmt: skip
def test_masks_in_text_round_trip(vocabulary, text):
    ids = vocabulary.encode_with_masks(text)
    assert (ids == vocabulary.mask).sum() == text.count("<mask>")
    assert vocabulary.decode(ids) == text


def test_no_space_is_invented_after_a_mask_inside_a_word(vocabulary):
    pieces = vocabulary.pieces(vocabulary.encode_with_masks("un<mask>able   dog <mask> fox"))
    after = pieces[pieces.index("<mask>") + 1 :]
    assert "".join(after) == "able▁dog<mask>▁fox"
    assert vocabulary.pieces(vocabulary.encode_with_masks("the dog")) == vocabulary.pieces(
        vocabulary.encode(["the dog"])[0]
    )


def test_ids_of_pieces(vocabulary):
    pieces = vocabulary.pieces(range(vocabulary.size))
    word = next(piece for piece in pieces if piece.startswith("▁d") and piece[1:] not in pieces)
    both = next(piece for piece in pieces if len(piece) > 1 and piece.startswith("▁") and piece[1:] in pieces)
    assert vocabulary.pieces(vocabulary.ids_of_pieces([word, word[1:], both])) == [word, word, both]
    assert vocabulary.pieces(vocabulary.ids_of_pieces([both[1:], "<mask>"])) == [both[1:], both, "<mask>"]
    with pytest.raises(DataError, match=rf"'{word[1:]}qx' is no piece.*did you mean"):
        vocabulary.ids_of_pieces([word[1:] + "qx"])


def test_ids_outside_the_vocabulary(vocabulary):
    for ids in ([-1], [vocabulary.size]):
        with pytest.raises(DataError, match="not in the vocabulary"):
            vocabulary.decode(ids)


def test_pickle_load_and_fingerprint(vocabulary, tmp_path):
    (tmp_path / "vocab.model").write_bytes(vocabulary.model_bytes)
    for other in (
        pickle.loads(pickle.dumps(vocabulary)),
        Vocabulary.load(tmp_path),
        Vocabulary.load(tmp_path / "vocab.model"),
    ):
        assert other.fingerprint == vocabulary.fingerprint and other.size == vocabulary.size


@pytest.mark.fault(6)
def test_damaged_models(vocabulary, tmp_path):
    model = vocabulary.model_bytes
    for damaged in (b"", b"x", model[:100], model[:-3], bytes(range(256)) * 20):
        path = tmp_path / "m.model"
        path.write_bytes(damaged)
        with pytest.raises(DataError, match=r"m\.model.*no SentencePiece model"):
            Vocabulary.load(path)
    with pytest.raises(DataError, match="No such file"):
        Vocabulary.load(tmp_path / "none.model")


def test_training_is_deterministic_and_says_what_size_fits():
    lines = ["the quick brown fox", "hello world"] * 5
    assert train_vocabulary(lines, 280) == train_vocabulary(iter(lines), 280)
    with pytest.raises(DataError, match=r"too large.*at most (\d+)") as error:
        train_vocabulary(lines, 8000)
    largest = int(str(error.value).split("at most ")[1].split(";")[0])
    assert Vocabulary(train_vocabulary(lines, largest)).size == largest
    with pytest.raises(DataError, match=r"too small.*at least"):
        train_vocabulary(lines, 100)
    with pytest.raises(DataError, match="no text"):
        train_vocabulary([], 300)
    with pytest.raises(ConfigError):
        train_vocabulary(lines, 290, kind="wordpiece")


def test_training_takes_long_lines_into_account():
    vocabulary = Vocabulary(train_vocabulary(["zebra " * 5000, "the"], 268))
    assert len(vocabulary.encode(["zebra"])[0]) <= 2


@given(text=st.text(max_size=60), limit=st.integers(4, 20))
def test_cut_text(text, limit):
    parts = list(cut_text(text.encode(errors="replace"), limit))
    assert b"".join(parts) == text.encode(errors="replace")
    assert all(len(part) <= limit and part.decode() is not None for part in parts)


@pytest.mark.fault(5)
def test_a_very_long_text_is_encoded_as_its_words(unigram):
    (one,) = unigram.encode(["the dog"])
    assert np.array_equal(unigram.encode(["the dog " * 40_000])[0], np.tile(one, 40_000))


def words_of(vocabulary, text):
    """The words as text, by the word numbers."""
    ids = np.concatenate(([vocabulary.bos], vocabulary.encode([text])[0], [vocabulary.eos, vocabulary.pad]))
    (numbers,) = vocabulary.word_numbers(ids[None])
    assert numbers[0] == numbers[-1] == numbers[-2] == -1
    return [vocabulary.decode(ids[numbers == word]) for word in range(numbers.max() + 1)]


def test_words_of_english(vocabulary):
    assert words_of(vocabulary, "The unable dog, isn't (it) 1984!") == [
        "The", "unable", "dog", ",", "isn", "'", "t", "(", "it", ")", "1984", "!"]  # fmt: skip
    assert words_of(vocabulary, "مرحبا بالعالم") == ["مرحبا", "بالعالم"]


def test_words_of_unspaced_scripts_are_pieces(vocabulary):
    for text in ("我爱北京", "今日は", "สวัสดี"):
        words = words_of(vocabulary, text)
        pieces = [piece.strip("▁") for piece in vocabulary.pieces(vocabulary.encode([text])[0]) if piece != "▁"]
        assert "".join(words) == text
        assert len(words) == sum(
            1 for piece in pieces if not ("\u0e31" <= piece[0] <= "\u0e4e" and piece[0] not in "าเแโใไ")
        )
    assert words_of(vocabulary, "我爱fox北京dog")[-1] == "dog"


def test_words_of_byte_pieces(vocabulary):
    assert words_of(vocabulary, "龘鱻") == ["龘", "鱻"]
    assert words_of(vocabulary, "dog 😀😀") == ["dog", "😀", "😀"]
    assert words_of(vocabulary, "doħg") == ["doħg"]  # a two-byte letter stays inside the word


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_word_numbers_follow_the_rule(unigram, data):
    shape = data.draw(st.tuples(st.integers(1, 3), st.integers(1, 12)))
    ids = st.integers(0, unigram.size - 1)
    tokens = np.array(data.draw(st.lists(ids, min_size=shape[0] * shape[1], max_size=shape[0] * shape[1]))).reshape(
        shape
    )
    numbers = unigram.word_numbers(tokens)
    assert numbers.shape == shape and numbers.dtype == np.int32
    for row, words in zip(tokens, numbers, strict=True):
        assert ((words == -1) == unigram.is_special[row]).all()
        rest = words[words >= 0]
        assert not rest.size or (rest[0] == 0 and set(np.diff(rest)) <= {0, 1})
        for before, here, word_before, word in zip(row, row[1:], words, words[1:], strict=False):
            if word < 0 or unigram.piece(before) in SPACES:
                continue
            if unigram.starts_word[here] or word_before < 0:
                assert word != word_before
            elif not unigram.ends_word[before]:
                assert word == word_before


def test_importing_needs_no_torch_and_no_sentencepiece():
    code = (
        "import sys, taskmask.tokenizer.tokenizer, taskmask.data.writer, taskmask.preprocess.pipeline; "
        "print({'torch', 'sentencepiece', 'tqdm'} & set(sys.modules))"
    )
    out = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "set()"
