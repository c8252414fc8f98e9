"""Tables with quoted fields: csv, and tsv as pandas and spreadsheets write it."""

import csv
import gzip
import io

import pytest
from encode_help import Maker, content_of, rows_of
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from taskmask.errors import ConfigError, DataError
from taskmask.preprocess import pipeline, readers, tables
from taskmask.preprocess.guesses import guesses_of
from taskmask.preprocess.readers import find_sources
from taskmask.preprocess.schema import Fields

TEXTS = ["a, b", 'He said "no" twice', "two\nlines", "", '"', "c\td"]
ROWS = list(zip(TEXTS, ["pos", "neg", "pos", "neg", "neg", "pos"], strict=True))
SEEN = [text.replace("\n", " ").replace("\t", " ") for text in TEXTS]  # control characters are spaces in a dataset
ANY = Fields()


@pytest.fixture
def make(tmp_path, unigram):
    return Maker(tmp_path, unigram)


def written(rows, delimiter=",", header=("text", "label"), **how):
    """The table as Python's csv module writes it, which is also how pandas does."""
    out = io.StringIO()
    csv.writer(out, delimiter=delimiter, **{"lineterminator": "\n", **how}).writerows([header, *rows])
    return out.getvalue()


def texts_of(dataset, vocabulary, split="train"):
    return [vocabulary.decode(row) for row in rows_of(dataset, "tokens", split)]


@pytest.mark.parametrize("name, how, fields", [
    ("train.csv", {}, {}),
    ("train.csv", {"quoting": csv.QUOTE_ALL, "lineterminator": "\r\n"}, {}),
    ("train.csv", {"delimiter": ";"}, {"delimiter": ";"}),
    ("train.tsv", {"delimiter": "\t"}, {"quoted": True}),
    ("train.tsv", {"delimiter": "\t", "quoting": csv.QUOTE_ALL}, {"quoted": True}),
])  # fmt: skip
def test_quoted_fields(make, unigram, name, how, fields):
    for content in (written(ROWS, **how), "\ufeff\n" + written(ROWS, **how).rstrip("\r\n")):
        dataset = make({name: content}, **fields)
        assert texts_of(dataset, unigram) == SEEN
        assert dataset.labels == {"label": ["neg", "pos"]}
        assert dataset.split("train").values("label").tolist() == [1, 0, 1, 0, 0, 1]


def test_gz_and_a_header_of_several_lines(make, unigram):
    content = written([("7", "the dog", "x")], header=("", "text", "label\nof two lines"))
    dataset = make({"train.csv.gz": gzip.compress(content.encode(), mtime=0)})
    assert texts_of(dataset, unigram) == ["the dog"] and not dataset.labels


def test_marks_in_a_plain_tsv_are_text(make, unigram):
    content = 'text\tlabel\nHe said "no.\tneg\n"Yes, it is\tpos\n"plain"\tpos\n'
    assert texts_of(make({"train.tsv": content}), unigram) == ['He said "no.', '"Yes, it is', '"plain"']


def test_marks_within_a_csv_field_that_begins_otherwise_are_text(make, unigram):
    content = 'text,label\n5" wide,pos\na "b" c,neg\n"d, e",pos\n'
    assert texts_of(make({"train.csv": content}), unigram) == ['5" wide', 'a "b" c', "d, e"]


cells = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\0"), max_size=12)
cells |= st.text('",\n\ta', max_size=6)


@pytest.mark.fault(12)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(st.tuples(cells, st.sampled_from(["x", "y, z"])), min_size=1, max_size=12), all=st.booleans())
def test_any_table_comes_back_whatever_the_chunks(make, tmp_path, unigram, monkeypatch, rows, all):
    content = written(rows, quoting=csv.QUOTE_ALL if all else csv.QUOTE_MINIMAL)
    (tmp_path / "train.csv").write_bytes(content.encode())
    found = []
    for chunk in (1 << 20, 7):
        with monkeypatch.context() as patch:
            patch.setattr(readers, "CHUNK", chunk)
            (source,) = find_sources({"train": [str(tmp_path / "train.csv")]})["train"]
            found.append([
                fields
                for part in source.chunks()
                for _, fields in tables.rows_of(part.text, source.layout, part.first_line)
            ])  # fmt: skip
    assert found[0] == found[1]
    table = bytes.maketrans(bytes([*range(32), 127]), b" " * 33)
    assert found[0] == [[cell.encode().translate(table) for cell in row] for row in rows]


@pytest.mark.fault(12)
def test_any_number_of_workers_gives_the_same_bytes(make, tmp_path, monkeypatch):
    results = []
    for workers, chunk in ((0, 1 << 20), (1, 30), (3, 8)):
        monkeypatch.setattr(readers, "CHUNK", chunk)
        monkeypatch.setattr(pipeline, "CHUNK", chunk)
        make({"train.csv": written(ROWS * 5)}, workers=workers)
        results.append(content_of(tmp_path / "out"))
    assert results[0] == results[1] == results[2]


@pytest.mark.parametrize("chunk", [5, 1 << 20])
@pytest.mark.parametrize("content, message", [
    ('text,label\na,b\n"two\nlines",x\nc\n', r":5: the row that begins here has 1 columns; expected 2, .*marks around"),
    ('text,label\n"a\nb",x\n\nc, d,x\n', r":5: the row that begins here has 3 columns"),
    ('text,label\n"a\nb",x\n"open,x\nc,x\n', r":4: a field of the row .* is not closed before the file ends"),
    ('text,label\nc,x\n"He said "no"",x\nd,y\n', r":3: a field of the row .* goes on after the closing one; .*double"),
    ('text,label\n"a\nb",x\n"\xff",y\n', r":4:2: byte 0xff is not UTF-8"),
    ('"text,label\na,x\n', r":1: a field of the row .* is not closed"),
    ("text;label\na;x\n", r":1: there is no field 'text'; expected one of text;label; give --delimiter ';'"),
    ("text\tlabel\na\tx\n", r":1: there is no field 'text'; .*; give --delimiter tab"),
    ("text,label,label\na,x,y\n", r":1: there are two fields 'label'"),
    (",label\na,x\n", r":1: there is no field 'text'; expected one of , label"),
])  # fmt: skip
def test_bad_tables(make, tmp_path, monkeypatch, content, message, chunk):
    monkeypatch.setattr(readers, "CHUNK", chunk)
    with pytest.raises(DataError, match=r"train\.csv" + message):
        make({"train.csv": content.encode("latin-1")})
    assert [path.name for path in tmp_path.iterdir()] == ["train.csv"]


def test_a_mark_that_is_never_closed_does_not_fill_the_memory(make, monkeypatch):
    monkeypatch.setattr(readers, "CHUNK", 100)
    monkeypatch.setattr(tables, "LONGEST_ROW", 1000)
    held = []
    end_of = tables._end_of_last_row
    monkeypatch.setattr(tables, "_end_of_last_row", lambda text, mark: (held.append(len(text)), end_of(text, mark))[1])
    with pytest.raises(DataError, match=r"train\.csv:2: .* is not closed"):
        make({"train.csv": 'text,label\n"open,x\n' + "the dog,x\n" * 500})
    assert max(held) < 1500


def test_tables_that_look_quoted_are_doubted(tmp_path):
    def doubt(*rows):
        (tmp_path / "train.tsv").write_text("\n".join(["text\tlabel", *rows]))
        return find_sources({"train": [str(tmp_path / "train.tsv")]})["train"][0].doubt

    assert doubt('"He said ""no"" twice"\tneg', "plain words\tpos").startswith(
        "fields in quotation marks with doubled ones inside: 1, the first in"
    )
    assert "the first in line 3" in doubt("plain\tpos", '"""Yes"" it is"\tpos')
    assert doubt('"a"\tx', '"b"\ty', "c\tz").startswith("fields in quotation marks: 2, the first in")
    assert not doubt('He said "no.\tneg', '"Yes, it is\tpos', "plain\tpos")
    assert not doubt('"a"\tx', "b\ty", "c\tz") and not doubt('""\tx', '""\ty') and not doubt("a\tx")
    assert not doubt('"""odd\tx', '"He said ""no"""\tneg', '"Yes\tx')  # marks stand as they like


def test_a_line_break_in_a_plain_tsv_is_named_with_the_way_out(make):
    with pytest.raises(DataError, match=r"train\.tsv:2: the line has 1 columns; .*; give --quoted if quotation marks"):
        make({"train.tsv": 'text\tlabel\n"two\nlines"\tpos\n'})
    with pytest.raises(DataError, match=r"train\.tsv:1: there is no field 'text'.*; give --quoted, since the header"):
        make({"train.tsv": '"text"\t"label"\n"a"\t"b"\n'})


def test_options_of_other_formats(make):
    for content, fields, message in (
        ({"train.jsonl": "{}"}, {"quoted": True}, "--quoted: goes with tables"),
        ({"train.tsv": "text\na\n"}, {"delimiter": ";"}, "--delimiter: goes with csv files"),
    ):
        with pytest.raises(ConfigError, match=message):
            make(content, **fields)
    with pytest.raises(ConfigError, match=r"--on-bad-utf8 skip, .*train\.csv: would tear the row"):
        make({"train.csv": b"text\na\n\xff\n"}, on_bad_utf8="skip")
    assert make({"train.csv": b'text\n"a\xff"\n'}, on_bad_utf8="replace").split("train").rows == 1


def guessed(tmp_path, files, fields=ANY, **options):
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    sources = find_sources({name.split(".")[0]: [str(tmp_path / name)] for name in files}, fields, **options)
    return [tuple(guess) for guess in guesses_of(sources, fields, **options)]


def test_guesses(tmp_path):
    assert guessed(tmp_path, {"train.csv": "text,label\na,b\n", "test.tsv": "text\na\n"}) == [
        ("format", "csv (test: tsv)", "--input-format"),
        ("delimiter", "a comma in csv", "--delimiter"),
        ("quotes", "quotation marks in tsv are text", "--quoted"),
        ("text", "field text", "--text"),
        ("label", "field label (test: none)", "--label"),
    ]
    assert guessed(tmp_path, {"train.txt": "a\n\nb\n"}) == [
        ("format", "txt", "--input-format"),
        ("documents", "blank lines separate them", "--documents"),
    ]
    assert guessed(tmp_path, {"train.conll": "a x O\n"}) == [
        ("format", "conll", "--input-format"),
        ("columns", "3, split at blanks", ""),
        ("words", "column 1", "--word-column"),
        ("tags", "column 3", "--tag-column"),
    ]
    assert guessed(tmp_path, {"train.jsonl": '{"words": ["a"], "tags": ["O"]}'})[1:] == [
        ("words", "field words", "--words"),
        ("tags", "field tags", "--tags"),
    ]


def test_nothing_is_guessed_that_was_asked_for(tmp_path):
    fields = Fields(text=("text",), label=("label",), delimiter=",")
    assert guessed(tmp_path, {"train.csv": "text,label\na,b\n"}, fields, input_format="csv") == []
    assert guessed(tmp_path, {"train.txt": "a\n"}, input_format="txt", documents="line") == []
    assert guesses_of(find_sources({"train": ["python-docs:test"]}), Fields()) == []
