"""Whole words of every kind of tokenizer."""

import numpy as np
import pytest

pytest.importorskip("tokenizers")

from tokenizer_help import KINDS, vocabulary_of

from taskmask.data.words import Piece, marked_piece, piece_flags, shown


@pytest.fixture(params=KINDS)
def vocabulary(request):
    return vocabulary_of(request.param)


def words_of(vocabulary, text):
    """The words as text, by the word numbers."""
    ids = np.concatenate(([vocabulary.bos], vocabulary.encode([text])[0], [vocabulary.eos, vocabulary.pad]))
    (numbers,) = vocabulary.word_numbers(ids[None])
    assert ((numbers == -1) == vocabulary.is_special[ids]).all()
    return [vocabulary.decode(ids[numbers == word]) for word in range(numbers.max() + 1)]


def test_words_of_spaced_scripts(vocabulary):
    assert words_of(vocabulary, "The unable dog") == ["The", "unable", "dog"]
    assert words_of(vocabulary, "Die schönen Häuser") == ["Die", "schönen", "Häuser"]
    assert words_of(vocabulary, "مرحبا بالعالم") == ["مرحبا", "بالعالم"]
    korean = words_of(vocabulary, "한국어 문장입니다")
    has_bytes = any("<0x" in piece for piece in vocabulary.pieces(vocabulary.encode(["한국어 문장입니다"])[0]))
    assert korean == ["한국어", "문장입니다"] or has_bytes  # a lone lead byte does not tell Hangul from Han


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "llama"])  # that one may join `(r`
def test_punctuation_is_a_word(kind):
    words = words_of(vocabulary_of(kind), "The dog, unable (really)!")
    assert words == ["The", "dog", ",", "unable", "(", "really", ")", "!"] or words[-1] == ")!"


def test_apostrophes_stay_where_the_tokenizer_has_them(vocabulary):
    assert "".join(words_of(vocabulary, "isn't")) == "isn't"


def test_pieces_of_unspaced_scripts_are_words(vocabulary):
    for text in ("我爱北京", "今日は", "天气很好"):
        words = words_of(vocabulary, text)
        known = [id for id in vocabulary.encode([text])[0].tolist() if vocabulary.piece(id) != "▁"]
        assert "".join(words) == text
        if not any("<0x" in vocabulary.piece(id) for id in known):
            assert len(words) == len(known)
    assert "".join(words_of(vocabulary, "สวัสดีครับ")) == "สวัสดีครับ" and len(words_of(vocabulary, "สวัสดีครับมาก")) > 1
    assert words_of(vocabulary, "我爱 dog")[-1] == "dog"


def test_emoji_are_words(vocabulary):
    words = words_of(vocabulary, "smile 😀 dog")
    assert [word for word in words if word] == ["smile", "😀", "dog"]


@pytest.mark.parametrize("kind", ["bytes", "llama"])
def test_code(kind):
    words = words_of(vocabulary_of(kind), "def f(x):\n    return x")
    assert [word.strip() for word in words][-2:] == ["return", "x"]
    assert "".join(words).replace(" ", "") == "deff(x):\nreturnx"


def test_characters_cut_into_bytes_stay_whole():
    vocabulary = vocabulary_of("bytes")
    assert words_of(vocabulary, "龘鱻 dog") == ["龘", "鱻", "dog"]
    assert words_of(vocabulary, "doħg") == ["doħg"]  # a two-byte letter stays inside the word


@pytest.mark.parametrize(
    ("pieces", "words"),
    [
        ([b"\xe0\xa4", b"\x95\xe0\xa4", b"\x96"], [0, 0, 0]),  # Devanagari
        ([b"\xe0\xb8", b"\x81\xe0\xb8", b"\x82"], [0, 0, 0]),  # Thai, but the second begins inside a character
        ([b"\xe0\xb8", b"\x81", b"\xe0\xb8", b"\x82"], [0, 0, 1, 1]),
        ([b"a", b"\xf0\x9f", b"\x98\x80", b"b"], [0, 1, 1, 1]),
        ([b"a", b";\n", b"b", b"\n", b" c"], [0, 1, 2, 3, 3]),
        ([b"a", b"\xc3", b"\xa4", b","], [0, 0, 0, 1]),
    ],
    ids=str,
)
def test_words_of_bytes(pieces, words):
    from taskmask.data.words import word_numbers

    made = [Piece(piece.removeprefix(b" "), piece.startswith(b" ")) for piece in pieces]
    flags = piece_flags(made, np.zeros(len(made), bool))
    assert word_numbers(np.arange(len(made))[None], flags).tolist() == [words]


def test_pieces_are_shown_as_they_are_marked():
    for name in ("▁the", "ing", "▁", "▁▁", "▁the▁dog", "<0xE4>", "<0x0A>"):
        assert shown(marked_piece(name)) == name
    assert shown(Piece(b"a\xe4\xbd", True)) == "▁a<0xE4><0xBD>" and shown(Piece("ä".encode(), False)) == "ä"
