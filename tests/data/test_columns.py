"""The binarized dataset: written and read back, damaged, replaced, extended."""

import json
import os
import pickle
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from taskmask.data.add_column import add_column
from taskmask.data.dataset import Column, Dataset, checksum_of
from taskmask.data.writer import DatasetWriter
from taskmask.errors import DataError

COLUMNS = {
    "tokens": Column("ragged", "uint16"),
    "answer": Column("ragged", "int32"),
    "score": Column("aligned", "float32", of="tokens"),
    "label": Column("row", "int32"),
    "logits": Column("row", "float16", width=2),
}


def rows_of(lengths):
    """A chunk of rows with these numbers of tokens."""
    tokens = np.arange(sum(lengths)) % 300
    return {
        "tokens": (tokens, np.array(lengths, int)),
        "answer": (-tokens[: len(lengths)], np.ones(len(lengths), int)) if sum(lengths) >= len(lengths)
        else (np.zeros(len(lengths), int), np.ones(len(lengths), int)),
        "score": tokens / 4,
        "label": np.arange(len(lengths)) % 2,
        "logits": np.ones((len(lengths), 2)),
    }  # fmt: skip


@pytest.fixture
def dataset(tmp_path, unigram):
    with DatasetWriter(tmp_path / "data", unigram) as writer:
        for split in ("train", "valid"):
            writer.split(split, COLUMNS).append(rows_of([3, 1, 4]))
        writer.labels["label"] = ["neg", "pos"]
    return tmp_path / "data"


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(chunks=st.lists(st.lists(st.integers(0, 9), max_size=6), max_size=4))
def test_what_is_written_is_read(tmp_path, unigram, chunks):
    with DatasetWriter(tmp_path / "d", unigram, overwrite=True) as writer:
        split = writer.split("train", COLUMNS)
        for lengths in chunks:
            split.append(rows_of(lengths))
    written = [rows_of(lengths) for lengths in chunks]
    read = pickle.loads(pickle.dumps(Dataset.open(tmp_path / "d"))).split("train")
    assert read.rows == sum(map(len, chunks)) and read.num_tokens == sum(map(sum, chunks))
    for name in ("tokens", "answer"):
        lengths = np.concatenate([[], *(rows[name][1] for rows in written)])
        assert np.array_equal(np.diff(read.offsets(name)), lengths)
        assert np.array_equal(read.values(name), np.concatenate([[], *(rows[name][0] for rows in written)]))
    assert np.array_equal(read.offsets("score"), read.offsets("tokens"))
    for name in ("score", "label", "logits"):
        expected = np.concatenate([np.zeros((0, 2) if name == "logits" else 0), *(rows[name] for rows in written)])
        assert np.array_equal(read.values(name), expected) and read.values(name).shape == expected.shape
    Dataset.open(tmp_path / "d").verify()


def test_attributes(dataset, unigram):
    opened = Dataset.open(dataset)
    assert opened.labels == {"label": ["neg", "pos"]}
    assert opened.vocabulary().fingerprint == unigram.fingerprint
    assert opened.split("train").columns["logits"].width == 2
    assert opened.verify() == {"files": 14, "bytes": sum(f.stat().st_size for f in dataset.glob("*/*"))}
    with pytest.raises(DataError, match=r"no split 'trian'.*train, valid.*did you mean 'train'"):
        opened.split("trian")
    with pytest.raises(DataError, match=r"no column 'labl'.*label"):
        opened.split("train").values("labl")
    with pytest.raises(DataError, match="no offsets"):
        opened.split("train").offsets("label")


def test_opening_maps_nothing(dataset, monkeypatch):
    monkeypatch.setattr(np, "memmap", None)
    Dataset.open(dataset).split("train")


@pytest.mark.fault(13)
def test_every_flipped_or_missing_header_byte_is_found_or_harmless(dataset):
    header = dataset / "dataset.json"
    good = header.read_bytes()
    meaning = json.loads(good)
    rng = np.random.default_rng(0)
    damaged = [good[:at] + bytes([good[at] ^ (1 << int(rng.integers(8)))]) + good[at + 1 :] for at in range(len(good))]
    damaged += [good[:at] for at in range(0, len(good), 7)]
    found = 0
    for content in damaged:
        header.write_bytes(content)
        try:
            Dataset.open(dataset)
        except DataError:
            found += 1
        else:
            assert json.loads(content) == meaning
    assert found > len(good) // 2


def change_header(dataset, change):
    """Changes dataset.json and makes its checksum right again, as an attacker would."""
    header = json.loads((dataset / "dataset.json").read_bytes())
    change(header, header["splits"]["train"]["columns"])
    header["checksum"] = checksum_of(header)
    (dataset / "dataset.json").write_text(json.dumps(header))


@pytest.mark.fault(13)
@pytest.mark.parametrize("change", [
    lambda h, c: c["tokens"].update(dtype="object"),
    lambda h, c: c["tokens"].update(dtype="uint8"),
    lambda h, c: c["tokens"].update(kind="sparse"),
    lambda h, c: c["tokens"]["files"].pop("offsets"),
    lambda h, c: c["score"].update(of="label"),
    lambda h, c: c["score"].update(of="nothing"),
    lambda h, c: c["label"].update(width=1 << 61),
    lambda h, c: c["label"].update(width=-1),
    lambda h, c: c.update({"../x": c["label"]}),
    lambda h, c: c.pop("tokens"),
    lambda h, c: h["splits"]["train"].update(rows=1 << 62),
    lambda h, c: h["splits"]["train"].update(rows=2),
    lambda h, c: h["splits"]["train"].update(rows=True),
    lambda h, c: h["splits"]["train"].update(tokens=9),
    lambda h, c: h.update(splits=[]),
    lambda h, c: h.update(labels=None),
    lambda h, c: h.update(version=2),
    lambda h, c: h.update(format="other"),
    lambda h, c: h.pop("vocabulary"),
    lambda h, c: c["label"].update(files=[]),
    lambda h, c: c["label"]["files"]["values"].update(bytes=1e3),
])  # fmt: skip
def test_lying_headers(dataset, change):
    change_header(dataset, change)
    with pytest.raises(DataError):
        Dataset.open(dataset)


HOSTILE = [
    None, True, -1, 0, 5, 1 << 31, 1 << 61, 1 << 63, 10**400, 1.5, -0.0, 1e308, float("nan"), float("inf"), "",
    "tokens", "x" * 5000, "../..", "/dev/zero", "\0", "\x1b[31m\ud800", "object", "9", [], [1], [[[]]] * 99, {},
    {"a": {}}, {"path": "/etc/passwd"},
]  # fmt: skip


def places(tree):
    """Every dict or list inside a header, with every key in it."""
    for key, value in list(tree.items() if isinstance(tree, dict) else enumerate(tree)):
        yield tree, key
        if isinstance(value, dict | list):
            yield from places(value)


def peak():
    return int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1]) // 1024


@pytest.mark.fault(13)
@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="memory is measured as Linux tells it")
def test_every_value_replaced_by_hostile_ones_dropped_or_joined_by_others(dataset):
    """With the checksum made right again: refused, or of no consequence, and nothing large is allocated."""
    file = dataset / "dataset.json"
    header = json.loads(file.read_bytes())
    before, refused, harmless = peak(), 0, 0

    def check():
        nonlocal refused, harmless
        file.write_text(json.dumps({**header, "checksum": checksum_of(header)}))
        try:
            Dataset.open(dataset).verify()
            harmless += 1
        except DataError as error:
            refused += 1
            assert error.exit_code == 3 and len(str(error)) < 12_000

    for number, (inner, key) in enumerate(list(places(header))):
        kept = inner[key]
        for value in HOSTILE[number % 3 :: 3]:
            inner[key] = value
            check()
        if isinstance(inner, dict):
            del inner[key]
            check()
            inner["strange"] = kept
            check()
            del inner["strange"]
        inner[key] = kept
    assert refused > 1000 and harmless > 10 and peak() - before < 200


@pytest.mark.fault(22)
@pytest.mark.parametrize("path", ["../outside.bin", "/etc/passwd", "train/../../outside.bin", "train/link.bin"])
def test_no_path_leaves_the_folder(dataset, path):
    size = os.path.getsize(dataset / "train/label.bin")
    (dataset.parent / "outside.bin").write_bytes(bytes(size))
    (dataset / "train/link.bin").symlink_to(dataset.parent / "outside.bin")
    change_header(dataset, lambda h, c: c["label"]["files"]["values"].update(path=path))
    with pytest.raises(DataError, match="leaves the dataset"):
        Dataset.open(dataset)


@pytest.mark.fault(14)
@pytest.mark.parametrize("name", ["tokens.bin", "tokens.offsets.bin", "label.bin"])
def test_files_of_another_size_or_missing(dataset, name):
    path = dataset / "train" / name
    content = path.read_bytes()
    for damaged in (content[:-1], content + b"x", b""):
        path.write_bytes(damaged)
        with pytest.raises(DataError, match=rf"{name}: the file has {len(damaged)} bytes; expected {len(content)}"):
            Dataset.open(dataset)
    path.unlink()
    with pytest.raises(DataError, match=name):
        Dataset.open(dataset)


@pytest.mark.fault(16)
def test_a_flipped_bit_is_found_by_verify_and_named(dataset):
    path = dataset / "valid" / "score.bin"
    content = bytearray(path.read_bytes())
    content[5] ^= 4
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"score\.bin, column score of split valid.*crc32"):
        Dataset.open(dataset).verify()


@pytest.mark.fault(15)
@pytest.mark.parametrize("offsets", [[0, 5, 4, 8], [1, 3, 4, 8], [0, 3, 4, 9], [0, -3, 4, 8], [0, 3, 1 << 62, 8]])
def test_damaged_offsets(dataset, offsets):
    np.array(offsets, "<i8").tofile(dataset / "train" / "tokens.offsets.bin")
    split = Dataset.open(dataset).split("train")
    for _ in range(2):
        with pytest.raises(DataError, match="offsets do not rise"):
            split.offsets("tokens")


@pytest.mark.fault(17)
def test_a_token_that_is_not_in_the_vocabulary(tmp_path, unigram):
    with DatasetWriter(tmp_path / "d", unigram) as writer:
        tokens = np.array([5, 6, unigram.size, 7])
        writer.split("train", {"tokens": Column("ragged", "uint16")}).append({"tokens": (tokens, np.array([2, 2]))})
    with pytest.raises(DataError, match="row 1 of split train"):
        Dataset.open(tmp_path / "d").verify()


def test_another_vocabulary(dataset, bpe):
    (dataset / "vocab.model").write_bytes(bpe.model_bytes)
    with pytest.raises(DataError, match="fingerprint"):
        Dataset.open(dataset).vocabulary()


def test_no_dataset(tmp_path):
    with pytest.raises(DataError, match="no dataset"):
        Dataset.open(tmp_path)
    with pytest.raises(DataError, match="no dataset"):
        Dataset.open(tmp_path / "nothing")


def test_an_exception_leaves_nothing(tmp_path, unigram):
    with pytest.raises(ZeroDivisionError), DatasetWriter(tmp_path / "d", unigram) as writer:
        writer.split("train", COLUMNS).append(rows_of([2]))
        raise ZeroDivisionError
    assert not list(tmp_path.iterdir())


def test_existing_output(dataset, unigram, tmp_path):
    with pytest.raises(DataError, match="--overwrite"):
        DatasetWriter(dataset, unigram)
    with pytest.raises(ZeroDivisionError), DatasetWriter(dataset, unigram, overwrite=True) as writer:
        writer.split("train", COLUMNS).append(rows_of([2]))
        assert Dataset.open(dataset).split("train").rows == 3
        raise ZeroDivisionError
    assert Dataset.open(dataset).split("train").rows == 3
    with DatasetWriter(dataset, unigram, overwrite=True) as writer:
        writer.split("train", COLUMNS).append(rows_of([2]))
    assert Dataset.open(dataset).split("train").rows == 1
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_a_folder_that_is_no_dataset_is_never_touched(tmp_path, unigram):
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "thesis.tex").touch()
    with pytest.raises(DataError, match="not touched"):
        DatasetWriter(tmp_path / "home", unigram, overwrite=True)


def test_leftovers_of_killed_writers_are_cleaned_and_nothing_else(tmp_path, unigram, dataset):
    for name in ("d.partial-0123abcd", "d.partial-mine", "e.partial-0123abcd"):
        (tmp_path / name).mkdir()
    os.rename(dataset, tmp_path / "d.replaced-00000000")
    with pytest.raises(ZeroDivisionError), DatasetWriter(tmp_path / "d", unigram, overwrite=True):
        raise ZeroDivisionError
    assert sorted(path.name for path in tmp_path.iterdir()) == ["d", "d.partial-mine", "e.partial-0123abcd"]
    assert Dataset.open(tmp_path / "d").split("train").rows == 3


def test_values_that_do_not_fit(tmp_path, unigram):
    with pytest.raises(DataError, match="uint16"), DatasetWriter(tmp_path / "d", unigram) as writer:
        writer.split("train", {"tokens": Column("ragged", "uint16")}).append({"tokens": (np.array([70000]), [1])})


def test_columns_of_different_lengths(tmp_path, unigram):
    rows = rows_of([2, 3])
    for name, wrong in (("label", np.zeros(3)), ("score", np.zeros(4)), ("tokens", (np.zeros(5), [2, 2]))):
        with pytest.raises(ValueError), DatasetWriter(tmp_path / "d", unigram) as writer:
            writer.split("train", COLUMNS).append({**rows, name: wrong})


def test_rewrite(tmp_path, unigram):
    with DatasetWriter(tmp_path / "d", unigram) as writer:
        split = writer.split("train", COLUMNS)
        split.append(rows_of([1, 2, 3]))
        split.rewrite("label", lambda values: np.array([7, 9])[values])
    assert Dataset.open(tmp_path / "d").split("train").values("label").tolist() == [7, 9, 7]
    assert not list((tmp_path / "d").glob("*/*.provisional"))


def test_add_column(dataset):
    before = Dataset.open(dataset)
    score = Column("aligned", "float16", of="tokens")
    add_column(dataset, "train", "importance", score, [np.zeros(5), np.ones(3)])
    add_column(dataset, "train", "guess", Column("row", "int32"), [np.array([1, 0, 1])], labels=["a", "b"])
    after = Dataset.open(dataset)
    assert after.split("train").values("importance").tolist() == [0] * 5 + [1] * 3
    assert after.labels == {"label": ["neg", "pos"], "guess": ["a", "b"]}
    assert after.fingerprint != before.fingerprint
    with pytest.raises(DataError, match="exists"):
        add_column(dataset, "train", "importance", score, [np.zeros(8)])
    add_column(dataset, "train", "importance", score, [np.ones(8)], overwrite=True)
    assert Dataset.open(dataset).split("train").values("importance").tolist() == [1] * 8
    assert len(list((dataset / "train").glob("importance*"))) == 1
    Dataset.open(dataset).verify()


def test_add_column_that_fails_leaves_the_dataset_as_it_was(dataset):
    def breaks():
        yield np.zeros(5)
        raise ZeroDivisionError

    files = sorted(dataset.rglob("*"))
    header = (dataset / "dataset.json").read_bytes()
    score = Column("aligned", "float16", of="tokens")
    with pytest.raises(ZeroDivisionError):
        add_column(dataset, "train", "x", score, breaks())
    with pytest.raises(DataError, match=r"5 values.*expected 8"):
        add_column(dataset, "train", "x", score, [np.zeros(5)])
    with pytest.raises(DataError, match="cannot be the name"):
        add_column(dataset, "train", "../x", score, [np.zeros(8)])
    with pytest.raises(DataError, match="exists"):
        add_column(dataset, "train", "tokens", COLUMNS["tokens"], [], overwrite=True)
    assert sorted(dataset.rglob("*")) == files and (dataset / "dataset.json").read_bytes() == header
