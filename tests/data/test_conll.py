"""CoNLL files as they are in use: which column holds the words, which lines are comments, and what is left out."""

import numpy as np
import pytest
from encode_help import Maker, rows_of

from taskmask.errors import DataError
from taskmask.preprocess.conll import COMMENTS, NODES, find_columns, sentences_of
from taskmask.preprocess.guesses import guesses_of
from taskmask.preprocess.readers import find_sources
from taskmask.preprocess.schema import Fields

CONLL2003 = "-DOCSTART- -X- -X- O\n\nthe DT B-NP O\nfox NN I-NP B-X\n\ndog NN B-NP O\n"
NUMBERED2003 = "1 -DOCSTART- -X- O O\n\n1 the DT B-NP O\n2 fox NN I-NP B-X\n\n1 dog NN B-NP O\n"
CONLL2000 = "the DT B-NP\nfox NN I-NP\n\ndog NN B-NP\n"
CONLL2002 = "-DOCSTART- -DOCSTART- O\nthe Art O\nfox N B-X\n\ndog N O\n"
WNUT17 = "the\tO\n#fox\tB-X\n\n#\tO\ndog\tO\n"
GERMEVAL = "#\thttp://a.org/b\t[2009-10-17]\n1\tthe\tO\tO\n2\tfox\tB-X\tO\n\n#\tb\t[2010]\n1\tdog\tO\tB-Y\n"
CONLLU = """# newdoc id = a
# sent_id = 1
# text = the foxdog #
1\tthe\tthe\tDET\tDT\t_\t2\tdet\t_\t_
2-3\tfoxdog\t_\t_\t_\t_\t_\t_\t_\tSpaceAfter=No
2\tfox\tfox\tNOUN\tNN\tNumber=Sing\t0\troot\t_\t_
3\tdog\tdog\tNOUN\tNN\tNumber=Sing\t2\tflat\t_\t_
3.1\tran\trun\tVERB\tVB\t_\t_\t_\t0:root\t_
4\t#\t#\tSYM\tSYM\t_\t2\tpunct\t_\t_

#text without a blank
1\tdog\tdog\tNOUN\tNN\t_\t0\troot\t_\t_

"""
CUPT = "# global.columns = ID FORM MWE\n1\tthe\t*\n2\tfox\t1:ID\n\n# text = dog\n1\tdog\t*\n"
MULTICONER = "# id 5239d808\tdomain=en\nthe _ _ O\nfox _ _ B-X\n\n# id 77\tdomain=en\ndog _ _ O\n"
ONTONOTES = """#begin document (bc/x/00); part 000
bc/x/00 0 0 the DT * - - - Al#1 * -
bc/x/00 0 1 fox NN * go 01 1 Al#1 (X) (V*) -

bc/x/00 0 0 dog NN * - - - Al#1 * (3)

#end document
"""
ONTONOTES = ONTONOTES.replace("Al#1 * -\n", "Al#1 * * -\n")  # sentences with different numbers of columns


@pytest.fixture
def make(tmp_path, unigram):
    return Maker(tmp_path, unigram)


def read(make, unigram, content, split="train", name="train.conll", **fields):
    """The sentences of a file, as words and as tags, separated by blanks; and the lines that are left out."""
    dataset = make({name: content}, **fields)
    names = np.array(dataset.labels.get(fields.get("tags", "tags"), [""]))
    columns = [rows_of(dataset, column, split) for column in ("tokens", "word", "tags")]
    words, tags = [], []
    for tokens, word, tag in zip(*columns, strict=True):
        places = range(word.max() + 1)
        words.append(" ".join(unigram.decode(tokens[:-1][word[:-1] == place]) for place in places))
        tags.append(" ".join(names[tag[np.flatnonzero(word == place)[0]]] for place in places))
    return words, tags, {kind: times for kind, times in make.summary[split].skipped.items() if times}


@pytest.mark.parametrize("ending", ["\n", "\r\n", " \n", "\n\n"])
@pytest.mark.parametrize("content, fields, tags, skipped", [
    (CONLL2003, {}, ["O B-X", "O"], {}),
    (CONLL2003, {"tag_column": 3}, ["B-NP I-NP", "B-NP"], {}),
    (NUMBERED2003, {}, ["O B-X", "O"], {}),
    (CONLL2000, {}, ["B-NP I-NP", "B-NP"], {}),
    (CONLL2002, {}, ["O B-X", "O"], {}),
    (GERMEVAL, {}, ["O O", "B-Y"], {COMMENTS: 2}),
    (GERMEVAL, {"tag_column": 3}, ["O B-X", "O"], {COMMENTS: 2}),
    (CUPT, {}, ["* 1:ID", "*"], {COMMENTS: 2}),
    (CUPT, {"word_column": "form", "tag_column": "MWE"}, ["* 1:ID", "*"], {COMMENTS: 2}),
    (MULTICONER, {}, ["O B-X", "O"], {COMMENTS: 2}),
    (MULTICONER.replace("\t", " "), {}, ["O B-X", "O"], {COMMENTS: 2}),
    (MULTICONER.replace(" ", "\t"), {}, ["O B-X", "O"], {COMMENTS: 2}),
    (ONTONOTES, {"word_column": 4, "tag_column": 11}, ["O B-X", "O"], {COMMENTS: 2}),
    (ONTONOTES, {"word_column": 4, "tag_column": 5}, ["DT NN", "NN"], {COMMENTS: 2}),
])  # fmt: skip
def test_formats(make, unigram, content, fields, tags, skipped, ending):
    blank_lines = ending == "\n\n"  # more than one between sentences
    content = content.replace("\n\n", "\n \n\n\n") if blank_lines else content.replace("\n", ending)
    assert read(make, unigram, content, **fields) == (["the fox", "dog"], tags, skipped)


@pytest.mark.parametrize("fields, tags", [
    ({}, ["DET NOUN NOUN SYM", "NOUN"]), ({"tag_column": "xpos"}, ["DT NN NN SYM", "NN"]),
    ({"tag_column": 8}, ["det root flat punct", "root"]),
])  # fmt: skip
@pytest.mark.parametrize("name", ["train.conllu", "train.conll"])
def test_conllu(make, unigram, name, fields, tags):
    """Words are the syntactic words: ranges and empty nodes are left out."""
    expected = (["the fox dog #", "dog"], tags, {COMMENTS: 4, NODES: 2})
    assert read(make, unigram, CONLLU, name=name, **fields) == expected


def test_a_hash_may_be_a_word(make, unigram):
    assert read(make, unigram, WNUT17) == (["the #fox", "# dog"], ["O B-X", "O O"], {})
    assert read(make, unigram, "# O\nthe O\n") == (["# the"], ["O O"], {})
    assert read(make, unigram, "# O\n\n# O\n") == (["#", "#"], ["O", "O"], {})
    assert read(make, unigram, "the O\n# O\n\n# O\nfox O\n\n# made by hand\ndog O\n")[0] == ["the #", "# fox", "dog"]
    words, _, skipped = read(make, unigram, MULTICONER + "# _ _ O\n\n# id 9 domain=en\n# _ _ O\n#a _ _ O\n")
    assert words == ["the fox", "dog #", "# #a"] and skipped == {COMMENTS: 3}


def test_brackets_become_tags_of_entities(make, unigram):
    """As the column of named entities in CoNLL-2012."""
    tags = ["*", "(PER*", "*", "*)", "(LOC)", "(LOC*)", "(PER*", "*)"]
    lines = [f"a 0 the {tag}" for tag in tags]
    found = read(make, unigram, "\n".join([*lines, "", "b 0 the *", ""]), word_column=3, tag_column=4)
    assert found[1] == ["O B-PER I-PER I-PER B-LOC B-LOC B-PER I-PER", "O"]
    columns = find_columns("\n".join(lines).encode(), "file", 3, 4)
    for wrong in ("(PER* (LOC)", "*)", "(PER* x", "((PER*"):
        text = "".join(f"b 0 the {tag}\n" for tag in wrong.split())
        with pytest.raises(DataError, match=r"file:\d, the sentence before: the tag .* does not fit the brackets"):
            sentences_of(text.encode(), columns, "file", 1)
    assert read(make, unigram, "the (3\nfox 3)\n\ndog (3)\n")[1] == ["(3 3)", "(3)"]  # of coreference


def test_a_tab_in_one_line_only(make, unigram):
    expected = (["the fox", "dog"], ["O B-X", "O"], {})
    assert read(make, unigram, "the O\nfox\tB-X\n\ndog O\n") == expected
    assert read(make, unigram, "the\tO\nfox B-X\n\ndog O\n") == expected
    trailing = "the\tDT\tO\t\nfox\tNN\tB-X\n\ndog\tNN\tO\t\t\n"
    assert read(make, unigram, trailing) == expected


def test_one_line_decides_for_the_files_that_follow(make, unigram):
    files = {"train.conll": "1 the O\n2 fox B-X\n", "valid.conll": "1 dog O\n", "test.conll": "1 dog\n"}
    dataset = make(files)
    assert [unigram.decode(rows_of(dataset, "tokens", split)[0]) for split in ("train", "valid", "test")] == [
        "the fox", "dog", "dog",
    ]  # fmt: skip
    assert "tags" not in dataset.split("test").columns and make.summary["valid"].labels == {"tags": {"B-X": 0, "O": 1}}


@pytest.mark.parametrize("rows, expected", [
    ("1 the O\n2 fox O", True), ("0 the O\n1 fox O", True), ("1 a O\n\n1 the O\n2 fox O\n\n", True),
    ("1 the O\n2 fox O\n\n3 dog O\n4 dog O", True), ("1 the\n2 fox", True),
    ("1 CD O", False), ("2 CD O\n3 CD O", False), ("1 CD O\n2 CD O\n\nx NN O", False), ("1 O\n1 O", False),
    ("a 1 O\nb 2 O", False),
])  # fmt: skip
def test_column_1_counts_the_words_or_not(rows, expected):
    found = find_columns(rows.encode(), "file")
    assert found.counts == expected and found.word == 1 + expected
    assert find_columns(rows.encode(), "file", word=1).word == 1 and not find_columns(rows.encode(), "file", 1).counts


COUNTED = "1 the O\n2 fox O\n\n" * 9000


@pytest.mark.parametrize("content, fields, message", [
    (ONTONOTES, {}, r":2: column 1 holds one value in each sentence; expected words; .*--word-column.* 4 'the', 5 'DT"),
    ("1 the O\n3 fox O\n", {}, r":1: column 1 holds numbers; .*; the line has 1 '1', 2 'the', 3 'O'"),
    (COUNTED[:400] + "x dog O", {}, r":1: column 1 holds numbers; "),
    (COUNTED + "x dog O", {}, r":27001: column 1 is 'x'; expected the number of the word in its sentence"),
    (CONLL2003, {"word_column": 5}, r":3: the line has 4 columns, split at blanks; expected at least 5, for --word"),
    (CONLL2003, {"tag_column": "NER"}, r":3: the columns have no names, so there is no 'NER'; expected a number"),
    (CONLLU, {"tag_column": "UPS"}, r":4: there is no column 'UPS'; expected one of ID, FORM, .*MISC; did you mean"),
    (CONLLU, {"tag_column": 2}, ":4: .*expected the tag in column 2, the word in another"),
    (ONTONOTES, {"word_column": 4}, r":5: the line has 12 columns.*expected 13, as in the first line, split at blanks"),
    ("1-1\tthe\tO\n1-2\tfox\tB-X\n", {}, r":1: column 1 holds numbers; .*; the line has 1 '1-1', 2 'the', 3 'O'"),
    ("#Text=the fox\n1-1\t0-3\tthe\tO\n1-2\t4-7\tfox\tB-X\n", {}, r":2: column 1 holds numbers; .* 1 '1-1', 2 '0-3'"),
    ("T1 the O\nT2 fox B-X\n", {}, r":1: column 1 holds numbers"),
    ("1. the O\n2. fox B-X\n", {}, r":1: column 1 holds numbers"),
    ("1 the O\n\n1 fox B-X\n", {}, r":1: column 1 holds numbers"),
    ("1\tthe\n2\tfox\n", {}, ":1: the line has 2 columns, the first of which counts the words, split at tabs; expec"),
    ("the O\n# a comment here\nfox O\n", {}, r":2: the line has 4 columns.*; move comments before the first word"),
    ("a b O\nc d O\n\ne d O x\nf O\n", {"tag_column": 2}, r":4: the line has 4 columns"),
    ("a b O\nc d O\n\n" * 9000 + "f O\n", {"tag_column": 3}, r":27001: the line has 2 columns"),
])  # fmt: skip
def test_what_cannot_be_read(make, tmp_path, content, fields, message):
    with pytest.raises(DataError, match=r"train\.conll" + message):
        make({"train.conll": content}, **fields)
    assert [path.name for path in tmp_path.iterdir()] == ["train.conll"]


def test_what_was_found_is_a_guess(tmp_path):
    for content, expected in (
        (CONLL2000, [("columns", "3, split at blanks"), ("words", "column 1"), ("tags", "column 3")]),
        (CONLLU, [("columns", "10, split at tabs"), ("words", "column 2 (FORM); column 1 counts them"),
                  ("tags", "column 4 (UPOS)")]),
    ):  # fmt: skip
        (tmp_path / "a.conll").write_text(content)
        guesses = guesses_of(find_sources({"train": [str(tmp_path / "a.conll")]}), Fields())
        assert [guess[:2] for guess in guesses[1:]] == expected


def test_a_file_that_has_fewer_columns_than_the_first_does_not_get_other_tags(make):
    """Its last column may be that of the parts of speech: of a hidden test split, say."""
    files = {"train.conll": "Ada NNP B-PER\nmet VB O\n", "test.conll": "Bo NNP\nran VB\n"}
    with pytest.raises(DataError, match=r"2 columns.* the last holds 'NNP',.* expected 3 .*give --tag-column 3"):
        make(files)
    dataset = make(files, tag_column=3)
    assert dataset.labels == {"tags": ["B-PER", "O"]} and "tags" not in dataset.split("test").columns
    numbered = {"train.conll": "1 Ada B-PER\n2 met O\n", "test.conll": "Bo B-PER\nran O\n"}
    assert "tags" in make(numbered).split("test").columns  # as near to its word as before
    fewer = {"train.conll": files["train.conll"], "test.conll": numbered["test.conll"]}
    assert make(fewer).labels == dataset.labels  # the same tags
