"""Tagged sentences to rows: lists in jsonl, CoNLL's columns, and every way in which they can be wrong."""

import gzip
import json

import numpy as np
import pytest
from encode_help import Maker, content_of, rows_of
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from taskmask.errors import ConfigError, DataError
from taskmask.preprocess import pipeline, readers
from taskmask.preprocess.pipeline import sample_texts
from taskmask.preprocess.readers import find_sources
from taskmask.preprocess.schema import Fields

SENTENCES = [
    (["The", "unreasonable", "dog"], ["B-X", "I-X", "O"]),
    (["北京"], ["B-LOC"]),
    (["U.N.", "fox"], ["O", "O"]),
]
words = st.text(st.characters(exclude_categories=["Cs", "Cc", "Z"]), min_size=1, max_size=8)
sentences = st.lists(
    st.lists(st.tuples(words, st.sampled_from(["O", "B-X", "I-X"])), min_size=1, max_size=6), min_size=1
)


@pytest.fixture
def make(tmp_path, unigram):
    return Maker(tmp_path, unigram)


def as_jsonl(sentences, words="words", tags="tags"):
    return "".join(json.dumps({words: list(row), tags: list(given)}) + "\n" for row, given in sentences)


def as_conll(sentences, middle="\tNN\t"):
    return "\n\n".join("\n".join(f"{word}{middle}{tag}" for word, tag in zip(*row, strict=True)) for row in sentences)


def words_and_tags(dataset, vocabulary, split="train", tags="tags"):
    """The sentences as they can be read from the dataset, and checks of all that must hold in it."""
    found = []
    names = np.array(dataset.labels[tags])
    columns = [rows_of(dataset, column, split) for column in ("tokens", "word", tags)]
    for tokens, word, tag in zip(*columns, strict=True):
        assert (tokens[-1], word[-1], tag[-1]) == (vocabulary.eos, -1, -1) and (np.diff(word[:-1]) >= 0).all()
        pieces = [tokens[:-1][word[:-1] == number] for number in range(word.max() + 1)]
        firsts = [np.flatnonzero(word == number)[0] for number in range(word.max() + 1)]
        assert (tag == np.append(tag[firsts], -1)[word]).all()
        found.append(([vocabulary.decode(piece) for piece in pieces], names[tag[firsts]].tolist()))
    return found


@pytest.mark.parametrize("name, content", [
    ("train.jsonl", as_jsonl(SENTENCES)),
    ("train.conll", as_conll(SENTENCES)),
    ("train.iob2", as_conll(SENTENCES, " ") + "\n\n\n"),
    ("train.bio", "\ufeff-DOCSTART- -X- O\r\n\r\n" + as_conll(SENTENCES, "  x ").replace("\n", "\r\n")),
    ("train.iob.gz",
     gzip.compress(as_conll(SENTENCES, "\tx\t ").replace("\n\n", "\n \t\n-DOCSTART-\n").encode(), mtime=0)),
])  # fmt: skip
def test_forms_of_the_same_sentences(make, unigram, name, content):
    dataset = make({name: content})
    assert words_and_tags(dataset, unigram) == SENTENCES
    assert dataset.labels == {"tags": ["B-LOC", "B-X", "I-X", "O"]}
    assert set(dataset.split("train").columns) == {"tokens", "word", "tags"}
    assert make.summary["train"].labels == {"tags": {"B-LOC": 1, "B-X": 1, "I-X": 1, "O": 3}}
    assert make.summary["train"].rows == 3 and make.summary["train"].empty == 0
    dataset.verify()


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=sentences, vocabulary_kind=st.sampled_from(["unigram", "bpe"]))
def test_any_words_come_back_with_their_tags(tmp_path, unigram, bpe, rows, vocabulary_kind):
    vocabulary = unigram if vocabulary_kind == "unigram" else bpe
    rows = [tuple(map(list, zip(*row, strict=True))) for row in rows]
    found = words_and_tags(Maker(tmp_path, vocabulary)({"train.jsonl": as_jsonl(rows)}), vocabulary)
    assert [tags for _, tags in found] == [tags for _, tags in rows]
    for (wrote, _), (read, _) in zip(rows, found, strict=True):
        assert read == [word.replace("▁", " ").strip() for word in wrote]


def test_other_names_other_columns_and_labels_beside_them(make, unigram):
    row = {"tokens": ["the", "dog"], "ner_tags": [0, 3], "intent": "ask", "score": 2.5, "text": "unused"}
    dataset = make(
        {"train.jsonl": json.dumps(row)}, words="tokens", tags="ner_tags", label=("intent",), number=("score",)
    )
    assert words_and_tags(dataset, unigram, tags="ner_tags") == [(["the", "dog"], ["0", "3"])]
    assert dataset.labels == {"ner_tags": ["0", "3"], "intent": ["ask"]}
    assert dataset.split("train").values("score").tolist() == [2.5]
    dataset = make({"train.conll": "the DT B-NP O\ndog NN I-NP O\n"}, tag_column=3, tags="chunk")
    assert words_and_tags(dataset, unigram, tags="chunk") == [(["the", "dog"], ["B-NP", "I-NP"])]


def test_a_label_per_row_is_taken_as_ever(make):
    dataset = make({"train.jsonl": json.dumps({"words": ["the"], "tags": ["O"], "label": "greet"})})
    assert dataset.labels == {"tags": ["O"], "label": ["greet"]}


def test_text_is_preferred_and_both_formats_go_together(make, unigram):
    assert (
        "word"
        not in make({"train.jsonl": '{"text": "the dog", "words": ["the"], "tags": ["O"]}'}).split("train").columns
    )
    files = {"train1.jsonl": as_jsonl(SENTENCES[:1]), "train2.conll": as_conll(SENTENCES[1:]), "valid.bio": "fox N Z"}
    dataset = make(files)
    assert words_and_tags(dataset, unigram) == SENTENCES
    assert words_and_tags(dataset, unigram, "valid") == [(["fox"], ["Z"])]
    assert dataset.labels["tags"] == ["B-LOC", "B-X", "I-X", "O", "Z"]


def test_a_split_without_tags_is_for_prediction(make, unigram):
    train = as_jsonl(SENTENCES)
    for name, content in (("test.jsonl", '{"words": ["the", "fox"]}'), ("test.conll", "the\nfox\n")):
        part = make({"train.jsonl": train, name: content}).split("test")
        assert set(part.columns) == {"tokens", "word"} and part.values("word").tolist()[-1] == -1
        assert unigram.decode(part.values("tokens")) == "the fox"
    with pytest.raises(DataError, match=r"train\.jsonl:1: there is no field 'tags'.*--tags"):
        make({"train.jsonl": '{"words": ["the"], "ner": ["O"]}'})
    with pytest.raises(DataError, match=r"train\.conll:1: the line has 1 columns, .*; expected a word and its tag"):
        make({"train.conll": "the\n"})


def test_a_word_of_no_token_keeps_its_tag(make, unigram):
    dataset = make({"train.jsonl": as_jsonl([(["a", "▁", "dog"], ["X", "Y", "Z"])])})
    (tokens,), (tags,) = rows_of(dataset, "tokens"), rows_of(dataset, "tags")
    assert len(tokens) >= 4 and set(tags.tolist()) == {0, 1, 2, -1}


@pytest.mark.parametrize("chunk", [1, 2, 5, 13, 40, 1 << 20])
def test_a_sentence_is_never_cut_by_a_chunk(make, unigram, monkeypatch, chunk):
    monkeypatch.setattr(readers, "CHUNK", chunk)
    content = "\n \n" + as_conll(SENTENCES * 3, " ").replace("\n\n", "\n\x00\n\r\n\n", 1) + "\n\n\n-DOCSTART- x\n\n"
    assert words_and_tags(make({"train.conll": content}), unigram) == SENTENCES * 3


@pytest.mark.fault(12)
@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=sentences)
def test_any_number_of_workers_and_any_chunks_give_the_same_bytes(make, tmp_path, monkeypatch, rows):
    rows = [tuple(zip(*row, strict=True)) for row in rows]
    results = []
    for workers, chunk, name in ((0, 1 << 20, "train.conll"), (3, 10, "train.conll"), (0, 50, "train.jsonl")):
        content = as_conll(rows) if name == "train.conll" else as_jsonl(rows)
        with monkeypatch.context() as patch:
            patch.setattr(readers, "CHUNK", chunk)
            patch.setattr(pipeline, "CHUNK", chunk)
            make({name: content}, workers=workers)
        results.append(content_of(tmp_path / "out"))
    assert results[0] == results[1] == results[2]


def line(**row):
    return json.dumps({"words": ["a"], "tags": ["O"]}) + "\n" + json.dumps(row)


@pytest.mark.parametrize("content, message", [
    (line(words=["a", "b"], tags=["O"]), r":2: there are 2 words in 'words' and 1 tags in 'tags'; expected a tag"),
    (line(words=["a", ""], tags=["O", "O"]), r":2: word 2 of 'words' is ''; expected a string with a character"),
    (line(words=["\u0007 "], tags=["O"]), r":2: word 1 of 'words' is '\\x07 '"),
    (line(words=["a", 3], tags=["O", "O"]), r":2: word 2 of 'words' is '3'"),
    (line(words=["a", None], tags=["O", "O"]), r":2: word 2 of 'words' is 'None'"),
    (line(words=["\ud800"], tags=["O"]), r":2: 'words' holds half a surrogate"),
    (line(words=[], tags=[]), r":2: 'words' is '\[\]'; expected a list with at least one"),
    (line(words="a b", tags=["O", "O"]), r":2: 'words' is 'a b'; expected a list"),
    (line(words=["a"], tags="O"), r":2: 'tags' is 'O'; expected a list"),
    (line(words=["a"], tags=[0.5]), r":2: the label 'tags' is '0\.5'; expected a string, [^;]*$"),
    (line(words=["a"]), r":2: there is no field 'tags'"),
    (line(text="a"), r":2: there is no field 'words'"),
])  # fmt: skip
def test_bad_records(make, tmp_path, content, message):
    with pytest.raises(DataError, match=r"train\.jsonl" + message):
        make({"train.jsonl": content})
    assert [path.name for path in tmp_path.iterdir()] == ["train.jsonl"]


@pytest.mark.parametrize("content, message", [
    (b"a O\n\nb\n", r":3: the line has 1 columns: 'b'; expected 2, as in the first line, split at blanks"),
    (b"a\tO\nb c\n", r":2: the line has 1 columns: 'b c'; expected 2, as in the first line, split at tabs"),
    (b"a O\nb c O\n", r":2: the line has 3 columns"),
    (b"a\tO\n\tO\n", r":2: the word is empty"),
    (b"a O\n\n\xff O\n", r":3:1: byte 0xff is not UTF-8"),
    (b"-DOCSTART-\n\n", r": there is no word; expected lines of a word and its tag"),
])  # fmt: skip
def test_bad_lines(make, tmp_path, content, message):
    with pytest.raises(DataError, match=r"train\.conll" + message):
        make({"train.conll": content})
    assert [path.name for path in tmp_path.iterdir()] == ["train.conll"]


def test_columns_and_options_that_do_not_go_together(make):
    for files, fields, message in (
        (
            {"train.conll": "a b O"},
            {"tag_column": 4},
            r":1: the line has 3 columns.*at least 4, for --tag-column 4",
        ),
        ({"train.conll": "a b O"}, {"tag_column": 1}, r"expected the tag in column 1"),
        ({"train.conll": "a O"}, {"text": ("text",)}, r"train\.conll: a file of format conll has no texts"),
        ({"train.conll": "a O"}, {"label": ("x",)}, r"expected no --label"),
        ({"train.txt": "a O"}, {"tags": "x"}, r"train\.txt: a file of format txt has no words with tags"),
        (
            {"train.conll": "a O", "valid.tsv": "text\na"},
            {},
            r"valid\.tsv: a file of format tsv has no words with tags",
        ),
        ({"train.txt": "a O", "valid.conll": "a O"}, {}, r"valid\.conll: a file of format conll has no texts"),
        ({"train.jsonl": as_jsonl(SENTENCES, tags="word")}, {"tags": "word"}, "two columns would be named 'word'"),
    ):
        with pytest.raises(DataError, match=message):
            make(files, **fields)


def test_bad_utf8_may_be_replaced_but_not_tear_a_sentence(make, unigram):
    content = {"train.conll": b"the O\nd\xffg O\n\nfox X\n"}
    assert words_and_tags(make(content, on_bad_utf8="replace"), unigram)[0] == (["the", "d\ufffdg"], ["O", "O"])
    with pytest.raises(ConfigError, match=r"--on-bad-utf8 skip, .*train\.conll: would tear the sentence"):
        make(content, on_bad_utf8="skip")


def test_a_file_without_blank_lines_does_not_fill_the_memory(make, monkeypatch):
    monkeypatch.setattr(readers, "CHUNK", 100)
    monkeypatch.setattr(readers, "LONGEST_SENTENCE", 1000)
    with pytest.raises(DataError, match=r"train\.conll: there are .* without a blank line"):
        make({"train.conll": "the O\n" * 300})


def test_too_many_tags(make, monkeypatch):
    monkeypatch.setattr(pipeline, "MOST_LABELS", 3)
    with pytest.raises(DataError, match=r"'tags' has more than 3 different values.*--tags"):
        make({"train.conll": "a 1\nb 2\nc 3\nd 4\n"})


def test_the_sample_is_the_words(tmp_path):
    (tmp_path / "train.conll").write_text(as_conll(SENTENCES))
    sources = find_sources({"train": [str(tmp_path / "train.conll")]}, Fields())
    assert sample_texts(sources["train"], 10**6) == [" ".join(row).encode() for row, _ in SENTENCES]
