"""Text files to rows: formats, documents, labels, errors with their place, parallel and bounded."""

import gzip
import json
import os
import signal
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from encode_help import Maker
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import taskmask.errors
from taskmask.data.dataset import Dataset
from taskmask.errors import DataError
from taskmask.preprocess import pipeline, readers
from taskmask.preprocess.pipeline import encode_files, sample_texts
from taskmask.preprocess.readers import find_sources

ROOT = Path(taskmask.errors.__file__).parents[1]


@pytest.fixture
def make(tmp_path, unigram):
    """make({"train.txt": content}) -> the dataset; its summary is `make.summary`."""
    return Maker(tmp_path, unigram)


def texts_of(dataset, vocabulary, split="train", column="tokens"):
    """The text of each row; "|" where it ends a document."""
    part = dataset.split(split)
    values, offsets = part.values(column), part.offsets(column)
    rows = [values[a:b] for a, b in pairwise(offsets)]
    return [vocabulary.decode(row) + "|" * int(np.sum(row == vocabulary.eos)) for row in rows]


@pytest.mark.fault(4)
def test_txt_lines(make, unigram):
    dataset = make(
        {"train.txt": "\ufeffthe dog\r\n\n  \nfox\u2028jumps\n\x00a\tb\x0bc\x7f\nlast <mask>"}, documents="line"
    )
    assert texts_of(dataset, unigram) == ["the dog|", "fox\u2028jumps|", "a b c|", "last <mask>|"]
    assert "document" not in dataset.split("train").columns
    assert unigram.mask not in dataset.split("train").values("tokens")


@pytest.mark.parametrize("chunk", [1, 2, 3, 7, 1000])
def test_txt_documents_between_blank_lines(make, unigram, monkeypatch, chunk):
    monkeypatch.setattr(readers, "CHUNK", chunk)
    dataset = make({"train1.txt": "\n\nthe dog\nfox\n\n \x00\na\n\n", "train2.txt": "\ufeffb\nc\n\nd"})
    assert texts_of(dataset, unigram) == ["the dog", "fox|", "a|", "b", "c|", "d|"]
    assert dataset.split("train").values("document").tolist() == [0, 0, 1, 2, 2, 3]
    assert make.summary["train"].documents == 4


def test_auto_needs_a_blank_line_in_a_hundred(make):
    lines = ["the dog"] * 300
    assert "document" not in make({"train.txt": "\n".join([*lines[:150], "", *lines[150:]])}).split("train").columns
    assert "document" in make({"train.txt": "\n\n".join(lines)}).split("train").columns


def test_tsv(make, unigram):
    dataset = make(
        {"train.tsv": 'id\ttext\tlabel\r\n1\tthe "dog\tpos\r\n2\t\tneg\n', "valid.tsv": "text\tlabel\nfox\tbad"}
    )
    assert texts_of(dataset, unigram) == ['the "dog|', "|"]
    assert dataset.labels == {"label": ["bad", "neg", "pos"]}
    assert dataset.split("train").values("label").tolist() == [2, 1]
    assert dataset.split("valid").values("label").tolist() == [0]
    assert make.summary["train"].labels == {"label": {"bad": 0, "neg": 1, "pos": 1}}


def test_jsonl_with_two_texts_and_labels(make, unigram):
    rows = [{"q": "the dog", "a": "fox\njumps", "n": 10, "b": True}, {"q": "", "a": "é", "n": 9, "b": False}]
    content = "\n".join(json.dumps(row) for row in rows) + "\n\n"
    dataset = make({"train.jsonl": content}, text=("q", "a"), label=("n", "b"))
    assert texts_of(dataset, unigram) == ["the dog|", "|"]
    assert texts_of(dataset, unigram, column="a") == ["fox jumps|", "é|"]
    assert dataset.labels == {"n": ["9", "10"], "b": ["false", "true"]}
    assert dataset.split("train").values("n").tolist() == [1, 0]
    assert dataset.split("train").values("b").tolist() == [1, 0]


def test_numbers(make):
    rows = [{"text": "a", "score": 3, "p": -0.25}, {"text": "b", "score": 1e-3, "p": 1e30}]
    dataset = make({"train.jsonl": "\n".join(map(json.dumps, rows))}, number=("score", "p"))
    columns = dataset.split("train").columns
    assert columns["score"].kind == "row" and columns["score"].dtype == "float32" and not dataset.labels
    assert dataset.split("train").values("score").tolist() == [3, np.float32(1e-3)]
    assert make.summary["train"].numbers == {"score": (pytest.approx(1e-3), 3), "p": (-0.25, pytest.approx(1e30))}
    content = "label\ttext\tother\n 2.5e1 \ta\tx\n-7\tb\ty\n"
    dataset = make({"train.tsv": content}, number=("label",), label=("other",))
    assert dataset.split("train").values("label").tolist() == [25, -7] and dataset.labels == {"other": ["x", "y"]}


@pytest.mark.parametrize("value", ["x", "nano", "inf", "-Infinity", "1e39", "1_0", "0x1", "1,5", "٣"])
def test_what_is_no_number_in_tsv(make, value):
    with pytest.raises(DataError, match=rf"train\.tsv:3: the number 'y' is '{value}'; expected a finite number"):
        make({"train.tsv": f"text\ty\na\t1\nb\t{value}\n"}, number=("y",))


@pytest.mark.parametrize("value", ["-Infinity", "1e400", "1" + "0" * 400, "true", "[1]"])
def test_what_is_no_number_in_jsonl(make, value):
    with pytest.raises(DataError, match=r"train\.jsonl:2: the number 'y' is '.*expected a finite number"):
        make({"train.jsonl": '{"text": "a", "y": 1}\n{"text": "a", "y": ' + value + "}"}, number=("y",))


def test_numbers_are_not_taken_for_labels_nor_found_where_they_are_not(make):
    assert not make({"train.tsv": "text\tlabel\na\t0.5\n"}, number=("label",)).labels
    with pytest.raises(DataError, match=r"the label 'label' is '0\.5'.*--number"):
        make({"train.jsonl": '{"text": "a", "label": 0.5}'})
    with pytest.raises(DataError, match=r"train\.tsv:1: there is no field 'scor'.*did you mean 'score'"):
        make({"train.tsv": "text\tscore\na\t0.5\n"}, number=("scor",))
    with pytest.raises(DataError, match=r"no fields; expected the fields score; .*--number"):
        make({"train.txt": "a"}, number=("score",))
    with pytest.raises(DataError, match="the field 'score' is asked for twice"):
        make({"train.tsv": "text\tscore\na\t5\n"}, number=("score",), label=("score",))


def test_rows_without_text_stay_and_are_counted(make, unigram):
    dataset = make({"train.tsv": "text\tlabel\na\tx\n \ty\n\tx\n", "valid.tsv": "text\tlabel\na\tx\n"})
    assert texts_of(dataset, unigram) == ["a|", "|", "|"]
    assert (make.summary["train"].empty, make.summary["valid"].empty) == (2, 0)


@pytest.mark.parametrize(
    "lines, place", [*((40, place) for place in (*range(-8, 0), 30)), (150_000, -8), (150_000, -1)]
)
def test_a_damaged_gzip_file_of_any_size_is_named(lines, place, make):
    """A flipped bit of its checksum, its length or its content."""
    content = bytearray(gzip.compress(b"".join(b"the dog %d\n" % number for number in range(lines)), 1, mtime=0))
    content[place] ^= 1
    with pytest.raises(DataError, match=r"train\.txt\.gz.* (damaged|crc)"):
        make({"train.txt.gz": bytes(content)})


def test_gz_and_python_docs(make, unigram, tmp_path):
    assert texts_of(make({"train.txt.gz": gzip.compress(b"the dog\nfox")}), unigram) == ["the dog|", "fox|"]
    sources = find_sources({"train": ["python-docs:test"]})
    encode_files(sources, unigram, tmp_path / "docs")
    assert {"topics", "asyncio"} <= set(Dataset.open(tmp_path / "docs").labels["label"])


def test_a_split_without_labels_has_no_label_column(make):
    dataset = make({"train.tsv": "text\tlabel\na\tb\n", "test.tsv": "text\na\n"})
    assert "label" not in dataset.split("test").columns
    with pytest.raises(DataError, match=r"train2\.tsv.*no field 'label'.*text"):
        make({"train1.tsv": "text\tlabel\na\tb\n", "train2.tsv": "text\na\n"})


@pytest.mark.fault(2, 3, 4)
@pytest.mark.parametrize("files, message", [
    ({"train.txt": b"good\nabc\xffd\n"}, r"train\.txt:2:4: byte 0xff is not UTF-8"),
    ({"train.txt": b"\xff"}, r"train\.txt:1:1: "),
    ({"train.txt": "abc\n\u00e9".encode()[:-1]}, r"train\.txt:2:1: "),
    ({"train.tsv": b"text\tlabel\na\tb\nx\n"}, r"train\.tsv:3: the line has 1 columns; expected 2"),
    ({"train.tsv": b"texts\tlabel\na\tb\n"}, r"train\.tsv:1: there is no field 'text'.*did you mean 'texts'"),
    ({"train.jsonl": b'{"text": "a"}\n{"text": 3}\n'}, r"train\.jsonl:2: 'text' is '3'; expected a string"),
    ({"train.jsonl": b'{"text": "a"}\n\n{"txt": "a"}\n'}, r"train\.jsonl:3: there is no field 'text'"),
    ({"train.jsonl": b'{"text": "a"}\n{"text": '}, r"train\.jsonl:2: the line is not valid JSON"),
    ({"train.jsonl": b'{"text": "a"}\n' + b"[" * 100000}, r"train\.jsonl:2: the line is not valid JSON"),
    ({"train.jsonl": b'["a"]\n'}, r"train\.jsonl:1: the line is a JSON list"),
    ({"train.jsonl": b'{"text": "\\ud800"}'}, r"train\.jsonl:1: 'text' holds half a surrogate"),
    ({"train.jsonl": b'{"text": "a", "label": 1.5}'}, r"train\.jsonl:1: the label 'label' is '1\.5'"),
    ({"train.txt.gz": gzip.compress(b"the dog\n" * 9, mtime=0)[:-9]}, r"train\.txt\.gz.* damaged"),
    ({"train.txt.gz": b"no gzip"}, r"train\.txt\.gz: not a gzipped file"),
    ({"train.txt": b" \n\x00\n"}, r"train\.txt: there is no text"),
    ({"train.tsv": b"text\n\n"}, r"split 'train' has no rows"),
    ({"train.any": b"text\n\n"}, r"train\.any is not named .*--input-format"),
])  # fmt: skip
def test_bad_text_is_named_with_its_place_and_nothing_is_written(make, tmp_path, files, message):
    with pytest.raises(DataError, match=message):
        make(files)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(files)


@pytest.mark.fault(3)
def test_bad_utf8_is_found_in_a_later_chunk(make, monkeypatch):
    monkeypatch.setattr(readers, "CHUNK", 64)
    with pytest.raises(DataError, match=r"train\.txt:501:3: "):
        make({"train.txt": b"the dog\n" * 500 + b"ab\xc3(\n" + b"fox\n" * 100}, workers=2)


@pytest.mark.fault(1)
def test_all_bad_inputs_at_once(tmp_path):
    (tmp_path / "empty.txt").touch()
    (tmp_path / "empty.txt.gz").write_bytes(gzip.compress(b""))
    paths = [str(tmp_path / name) for name in ("empty.txt", "empty.txt.gz", "missing.tsv")] + [str(tmp_path), "-", "-"]
    with pytest.raises(DataError) as error:
        find_sources({"train": paths})
    for part in (
        "empty.txt is empty",
        "empty.txt.gz is empty",
        "missing.tsv: no such file",
        "is a folder",
        "more than once",
    ):
        assert part in str(error.value)


@pytest.mark.parametrize("text, label", [
    (("text", "tokens"), None), (("text", "q", "q"), None), (("text", "q"), ("q",)), (None, ("document",)),
    (("text", "my field"), None),
])  # fmt: skip
def test_names_of_fields_that_cannot_be_columns(make, text, label):
    row = {"text": "a", "q": "e", "tokens": "b", "document": "c", "my field": "d"}
    with pytest.raises(DataError, match=r"two columns|asked for twice|cannot be the name"):
        make({"train.jsonl": json.dumps(row)}, text=text, label=label)


def test_fields_asked_of_a_txt_file(make):
    with pytest.raises(DataError, match=r"train\.txt: a txt file .* no fields"):
        make({"train.txt": "a"}, label=("label",))


@pytest.mark.fault(4, 12)
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    lines=st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\n"), max_size=30), min_size=1)
)
def test_any_number_of_workers_and_any_chunks_give_the_same_bytes(make, tmp_path, monkeypatch, lines):
    content = "\n".join(["the dog", *lines]).encode()
    results = []
    for workers, chunk in ((0, 1 << 20), (1, 50), (3, 10)):
        with monkeypatch.context() as patch:
            patch.setattr(readers, "CHUNK", chunk)
            patch.setattr(pipeline, "CHUNK", chunk)
            make({"train.txt": content}, workers=workers, documents="blank")
        results.append({path.name: path.read_bytes() for path in (tmp_path / "out").rglob("*.*") if path.is_file()})
    assert results[0] == results[1] == results[2]


@pytest.mark.fault(11)
def test_a_killed_worker_is_an_error_and_leaves_nothing(make, tmp_path, monkeypatch):
    monkeypatch.setattr(readers, "CHUNK", 64)
    monkeypatch.setattr(pipeline, "CHUNK", 64)
    parent, encode = os.getpid(), pipeline.encode_chunk

    def dies(chunk, vocabulary):
        if os.getpid() != parent and chunk.first_line > 100:
            os.kill(os.getpid(), signal.SIGKILL)
        return encode(chunk, vocabulary)

    monkeypatch.setattr(pipeline, "encode_chunk", dies)
    with pytest.raises(DataError, match="worker process was killed"):
        make({"train.txt": b"the dog\n" * 500}, workers=2)
    assert [path.name for path in tmp_path.iterdir()] == ["train.txt"]


def test_too_many_labels(make, monkeypatch):
    monkeypatch.setattr(pipeline, "MOST_LABELS", 3)
    with pytest.raises(DataError, match="more than 3 different"):
        make({"train.tsv": "text\tlabel\n" + "".join(f"a\t{n}\n" for n in range(4))})


def test_the_sample_is_bounded_fair_and_the_same_for_any_chunks(tmp_path, monkeypatch):
    (tmp_path / "a.txt").write_text("".join(f"line number {n:06d}\n" for n in range(5000)))
    (source,) = find_sources({"t": [str(tmp_path / "a.txt")]})["t"]
    sample = sample_texts([source], 18_000)
    assert 0.7 * 18_000 < sum(map(len, sample)) <= 18_000
    numbers = [int(line.split()[-1]) for line in sample]
    assert numbers == sorted(numbers) and 2200 < np.mean(numbers) < 2800
    monkeypatch.setattr(readers, "CHUNK", 100)
    assert sample_texts([source], 18_000) == sample
    assert len(sample_texts([source], 10**9)) == 5000


def test_standard_input_is_spooled_and_read_twice(tmp_path, unigram):
    code = (
        "import os\n"
        "from taskmask.preprocess.readers import find_sources\n"
        "s = find_sources({'train': ['-']})['train'][0]\n"
        "print([b''.join(c.text for c in s.chunks()) for _ in range(2)], s.size, os.listdir(os.environ['TMPDIR']))"
    )
    environment = {**os.environ, "TMPDIR": str(tmp_path), "PYTHONPATH": str(ROOT)}
    options = {"input": b"the dog\nfox\n", "env": environment, "capture_output": True, "check": True}
    out = subprocess.run([sys.executable, "-c", code], **options)
    assert out.stdout.decode().strip() == repr([b"the dog\nfox\n"] * 2) + " 12 []"  # so nothing can be left


@pytest.mark.fault(5)
@pytest.mark.parametrize("work", [
    "encode_files(sources, Vocabulary.load('.'), 'out', workers=0, overwrite=True)",
    "encode_files(sources, Vocabulary.load('.'), 'out', workers=2, overwrite=True)",
    "sample_texts(sources['train'], 10**6)",
], ids=["encode", "encode with two workers", "sample"])  # fmt: skip
def test_memory_does_not_grow_with_the_input(tmp_path, unigram, work):
    """With 20 MB more text its peak, and that of its workers, is about what it was."""
    (tmp_path / "vocab.model").write_bytes(unigram.model_bytes)
    code = f"""
import resource
from taskmask.preprocess.pipeline import encode_files, sample_texts
from taskmask.preprocess.readers import find_sources
from taskmask.tokenizer.tokenizer import Vocabulary
for megabytes in (8, 28):
    with open("big.txt", "w") as file:
        for _ in range(megabytes):
            file.write("the dog jumps over the fox \\n" * 37000)
    sources = find_sources({{"train": ["big.txt"]}})
    {work}
    print(*(resource.getrusage(who).ru_maxrss // 1024 for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)))
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    out = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, check=True)
    itself, workers, itself_later, workers_later = map(int, out.stdout.split())
    assert itself_later - itself < 15 and workers_later - workers < 15, out.stdout
    assert (workers > 0) == ("workers=2" in work)


def test_a_field_that_is_named_twice(make):
    with pytest.raises(DataError, match=r"train\.tsv:1: there are two fields 'label'"):
        make({"train.tsv": "text\tlabel\tlabel\na\tb\tc\n"})
    assert make({"train.tsv": "text\tid\tid\na\tb\tc\n"}).split("train").rows == 1  # of no interest
    for content in ("text\na\n", "text\tscore\na\t1\n"):
        with pytest.raises(DataError, match=r"train\.tsv:1: the field 'text' is asked for twice"):
            make({"train.tsv": content}, text=("text", "text"))


def test_numbers_of_no_rows(make):
    with pytest.raises(DataError, match=r"split 'train' has no rows"):
        make({"train.tsv": "text\tscore\n"}, number=("score",))


def test_a_number_in_quotes(make):
    with pytest.raises(DataError, match=r"'score' is the string '3\.5'; expected a JSON number, .* without quotes"):
        make({"train.jsonl": '{"text": "a", "score": "3.5"}'}, number=("score",))
