"""Whole words of every kind of tokenizer."""

import functools

import numpy as np
import pytest

pytest.importorskip("tokenizers")

from tokenizer_help import KINDS, LINES, vocabulary_of

from taskmask.tokenizer.tokenizer import Vocabulary, train_vocabulary
from taskmask.tokenizer.word_boundaries import Piece, marked_piece, piece_flags, shown, word_numbers


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
    assert words_of(vocabulary, "한국어 문장입니다") == ["한국어", "문장입니다"]


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


@functools.cache
def of_bytes(kind):
    """A vocabulary that knows English only, so all else is spelled in bytes, mostly single ones."""
    if kind == "bytes":
        from tokenizers import Tokenizer, models, pre_tokenizers, trainers

        made = Tokenizer(models.BPE())
        made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        made.train_from_iterator(LINES[:3], trainers.BpeTrainer(initial_alphabet=alphabet, show_progress=False))
        return Vocabulary(made.to_str().encode())
    return Vocabulary(train_vocabulary(LINES[:3] * 9, 300, kind))


SPACED = [
    "한국어 문장입니다", "ሰላም ለሁሉም", "საქართველო კარგი", "हिन्दी में", "தமிழ் மொழி", "বাংলা ভাষা", "ᏣᎳᎩ ᎦᏬᏂᎯᏍᏗ", "ߒߞߏ ߞߊ߲",
    "𐌲𐌿𐍄𐌹𐍃𐌺 𐍂𐌰𐌶𐌳𐌰", "𞤀𞤣𞤤𞤢𞤥 𞤆𞤵𞤤𞤢𞤪", "ꦗꦮ ꦧꦱ", "Ελληνικά γλώσσα", "שָׁלוֹם עולם", "\u1112\u1161\u11ab\u1100\u116e\u11a8 dog",
]  # fmt: skip
UNSPACED = {
    "龘鱻": ["龘", "鱻"], "漢字かな": ["漢", "字", "か", "な"],
    "か\u3099な": ["か\u3099", "な"], "สวัสดี": ["ส", "วั", "ส", "ดี"],
    "ສະບາຍ": ["ສ", "ະ", "ບ", "າ", "ຍ"], "ភាសា": ["ភា", "សា"], "မြန်": ["မြ", "န်"], "𠀀𠀁": ["𠀀", "𠀁"],
    "dog”": ["dog", "”"], "dog 😀\ufe0f😀": ["dog", "😀\ufe0f", "😀"], "👩\u200d🚀": ["👩\u200d", "🚀"],
    "dog한국": ["dog한국"], "한국dog": ["한국dog"], "dog한, 국": ["dog한", ",", "국"],
}  # fmt: skip


@pytest.mark.parametrize("kind", ["bytes", "unigram", "bpe"])
def test_words_spelled_in_bytes(kind):
    """A word of a script with blanks is one word; of others each character is one, with its marks."""
    vocabulary = of_bytes(kind)
    for text in SPACED:
        assert words_of(vocabulary, text) == text.split(" ")
        amid = [word.strip("()!") for word in words_of(vocabulary, f"the ({text})!")]
        assert [word for word in amid if word] == ["the", *text.split(" ")]
    for text, words in UNSPACED.items():
        assert words_of(vocabulary, text) == words


def test_characters_that_are_not_spelled_to_their_end():
    """At the end of a row or amid others: of lone bytes E3 to E9 start a word, of two bytes the script decides."""
    pieces = [bytes([byte]) for byte in range(256)] + [b"\xec\x9e", b"\xe6\x97", b"a"]
    flags = piece_flags([Piece(piece, False) for piece in pieces], np.zeros(len(pieces), bool))
    rows = [[97, 0xEC, 0x9E, 97], [97, 0xE6, 0x97, 97], [97, 256, 97, 97], [97, 257, 97, 97], [97, 97, 97, 0xEC]]
    rows += [[97, 97, 0xEC, 0x9E], [0x97, 0xA5, 97, 97]]  # the next row does not go on with the character
    expected = [[0, 0, 0, 0], [0, 1, 1, 1], [0, 0, 0, 0], [0, 1, 1, 1], [0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
    assert word_numbers(np.array(rows), flags).tolist() == expected


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
    made = [Piece(piece.removeprefix(b" "), piece.startswith(b" ")) for piece in pieces]
    flags = piece_flags(made, np.zeros(len(made), bool))
    assert word_numbers(np.arange(len(made))[None], flags).tolist() == [words]


def test_pieces_are_shown_as_they_are_marked():
    for name in ("▁the", "ing", "▁", "▁▁", "▁the▁dog", "<0xE4>", "<0x0A>"):
        assert shown(marked_piece(name)) == name
    assert shown(Piece(b"a\xe4\xbd", True)) == "▁a<0xE4><0xBD>" and shown(Piece("ä".encode(), False)) == "ä"
