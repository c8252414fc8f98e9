"""A value that no column has is named with file, row and value; a flipped bit is found whatever the value is."""

import numpy as np
import pytest

from taskmask.data import dataset as dataset_module
from taskmask.data import value_checks
from taskmask.data.dataset import Column, Dataset
from taskmask.data.value_checks import check_all_values, check_tokens
from taskmask.data.writer import DatasetWriter
from taskmask.errors import DataError
from taskmask.span_columns.words import stretches

TEXTS = ["a question?", "", "Übung\nzwei", "日本"]
COLUMNS = {
    "tokens": Column("ragged", "uint16"),
    "question": Column("ragged", "uint16"),
    "answers": Column("ragged", "uint8"),
    "label": Column("row", "int32"),
    "tag": Column("aligned", "int32", of="tokens"),
    "answer": Column("row", "int32", width=2),
    "document": Column("row", "uint32"),
    "score": Column("row", "float32"),
    "text": Column("ragged", "uint8"),
    "ends": Column("aligned", "int32", of="tokens"),
}


def ragged(rows, dtype):
    return np.array([value for row in rows for value in row], dtype), np.array([len(row) for row in rows])


@pytest.fixture
def dataset(tmp_path, unigram):
    with DatasetWriter(tmp_path / "d", unigram) as writer:
        writer.split("train", COLUMNS).append(
            {
                "tokens": ragged([[5, 6, 7], [8], [9, 10], [11]], np.uint16),
                "question": ragged([[5], [6, 7], [], [8]], np.uint16),
                "answers": ragged([text.encode() for text in TEXTS], np.uint8),
                "label": np.array([0, 1, -1, 1]),
                "tag": np.array([0, 1, 2, -1, 0, 1, 2]),
                "answer": np.array([[0, 2], [-1, -1], [1, 1], [0, 0]]),
                "document": np.array([0, 0, 2, 3]),
                "score": np.ones(4),
                "text": ragged([text.encode() for text in TEXTS], np.uint8),
                "ends": np.arange(7),
            }
        )
        writer.labels |= {"label": ["no", "yes"], "tag": ["O", "B", "I"]}
    return tmp_path / "d"


def poke(dataset, name, place, value):
    """Writes one value into the file of a column, and leaves the checksum as it is."""
    file = dataset / "train" / f"{name}.bin"
    values = np.fromfile(file, COLUMNS[name].dtype)
    values[place] = value
    values.tofile(file)


@pytest.mark.fault(68)
@pytest.mark.parametrize(
    ("name", "place", "value", "says"),
    [
        ("label", 2, 2, r"label\.bin, row 2 of split train: column label: the value is 2; expected -1 to 1"),
        ("label", 3, 1 << 30, "row 3 .* the value is 1073741824"),
        ("label", 0, -2, "row 0 .* the value is -2"),
        ("tag", 4, 3, "row 2 .* column tag: the value is 3; expected -1 to 2"),
        ("question", 3, 60_000, "row 3 .* column question: the value is 60000"),
        ("answers", 15, 0xFF, "row 2 .* the text is damaged"),
        ("answer", 1, 3, "row 0 .* the answer is tokens 0 to 3; expected tokens of the row's 3, or -1 and -1"),
        ("answer", 2, 0, "row 1 .* the answer is tokens 0 to -1"),
        ("answer", 4, 2, "row 2 .* the answer is tokens 2 to 1"),
        ("ends", 5, 13, "row 2 .* column ends: the value is 13; expected 0 to 11"),
        ("ends", 0, -1, "row 0 .* column ends: the value is -1"),
        ("document", 1, 4, "row 1 .* column document: the value is 4; expected 0 to 3"),
    ],
)
def test_a_value_that_no_column_has_is_named(name, place, value, says, dataset):
    poke(dataset, name, place, value)
    split = Dataset.open(dataset).split("train")
    for _ in range(2):  # asked for again, it is refused again
        with pytest.raises(DataError, match=says):
            split.values(name)
    for other in COLUMNS.keys() - {name}:
        split.values(other)


@pytest.mark.fault(68)
@pytest.mark.parametrize("checked", [0, 1 << 28])
def test_every_flipped_bit_is_found_or_a_value_that_may_be(checked, dataset, monkeypatch):
    """Every bit is found; of a column too large for its checksum at the first use, it may be another value in range."""
    monkeypatch.setattr(dataset_module, "CHECKED_AT_ONCE", checked)
    for name in COLUMNS.keys() - (set() if checked else {"tokens", "score"}):
        file = dataset / "train" / f"{name}.bin"
        content = file.read_bytes()
        for bit in range(8 * len(content)):
            damaged = bytearray(content)
            damaged[bit // 8] ^= 1 << bit % 8
            file.write_bytes(damaged)
            split = Dataset.open(dataset).split("train")
            try:
                values, offsets = split.values(name), None if COLUMNS[name].kind == "row" else split.offsets(name)
            except DataError:
                continue
            assert not checked, (name, bit)
            if name == "answers":
                assert len([bytes(values[offsets[row] : offsets[row + 1]]).decode() for row in range(4)]) == 4
            elif name not in ("question", "text", "ends"):
                assert values.min() >= -1 and values.max() < 4
        file.write_bytes(content)


@pytest.mark.fault(17, 68)
def test_very_many_tokens_are_checked_by_those_who_read_them(dataset, monkeypatch):
    split = Dataset.open(dataset).split("train")
    check_tokens(split, split.values("tokens"), 0)
    poke(dataset, "tokens", 5, 60_000)
    with pytest.raises(DataError, match=r"tokens\.bin, row 2 of split train: column tokens: token id 60000 is not"):
        Dataset.open(dataset).split("train").values("tokens")
    monkeypatch.setattr(value_checks, "CHECKED_AT_ONCE", 0)
    monkeypatch.setattr(dataset_module, "CHECKED_AT_ONCE", 0)
    split = Dataset.open(dataset).split("train")
    with pytest.raises(DataError, match=r"tokens\.bin, row 2 of split train: column tokens: token id 60000 is not"):
        list(stretches(split))
    with pytest.raises(DataError, match=r"row 2 .* token id 60000"):
        check_all_values(split)
