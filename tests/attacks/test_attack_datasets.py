"""Datasets from strangers: refused with exit code 3. Headers that lie, paths that leave the folder and damaged files
stand in tests/data/test_columns.py."""

import json
import os
import resource
from pathlib import Path

import pytest

from taskmask.data.columns import Dataset, checksum_of
from taskmask.errors import DataError
from taskmask_cli import main as front


def forge(dataset, change):
    """Changes dataset.json and makes its checksum right again."""
    file = dataset / "dataset.json"
    header = json.loads(file.read_bytes())
    change(header, header["splits"]["train"]["columns"])
    header["checksum"] = checksum_of(header)
    file.write_text(json.dumps(header))


def refused(dataset):
    with pytest.raises(DataError) as caught:
        Dataset.open(dataset).verify()
    assert caught.value.exit_code == 3
    return str(caught.value)


@pytest.fixture
def little_memory():
    """A program that reads on and on fails here, and does not take the machine with it."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + (1 << 30), before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


@pytest.mark.parametrize("path", ["..", ".", "", "/", "train", "train/\0", "\ud800", "a" * 5000, "//etc/passwd"])
def test_strange_paths(path, dataset):
    forge(dataset, lambda h, c: c["label"]["files"]["values"].update(path=path))
    refused(dataset)


def test_a_linked_folder(dataset, tmp_path):
    os.rename(dataset / "train", tmp_path / "elsewhere")
    (dataset / "train").symlink_to(tmp_path / "elsewhere")
    assert "leaves the dataset" in refused(dataset)


@pytest.mark.parametrize(
    "dtype", ["O", "O8", "object", "V8", "S9", "M8[ns]", ">u2", "u2,O", ["u2"], {"names": ["a"]}, 5]
)
def test_types_that_hold_objects(dtype, dataset):
    forge(dataset, lambda h, c: c["tokens"].update(dtype=dtype))
    refused(dataset)


@pytest.mark.parametrize("dtype", ["int16", "float16"])
def test_tokens_that_are_no_natural_numbers(dtype, dataset):
    forge(dataset, lambda h, c: c["tokens"].update(dtype=dtype))
    refused(dataset)


@pytest.mark.parametrize("number", [1 << 62, 1 << 63, 1 << 400, -1, 1e308, float("nan"), "9", None, True, [1]])
@pytest.mark.parametrize("place", ["rows", "tokens", "bytes", "crc32", "width", "size"])
def test_counts(place, number, dataset):
    def change(header, columns):
        owners = {"rows": header["splits"]["train"], "tokens": header["splits"]["train"], "size": header["vocabulary"]}
        files = columns["tokens"]["files"]["values"]
        {**owners, "bytes": files, "crc32": files, "width": columns["label"]}[place][place] = number

    forge(dataset, change)
    refused(dataset)


@pytest.mark.parametrize("depth", [*range(900, 1000, 7), 5000, 1_000_000])
def test_deep_headers(depth, dataset):
    header = (dataset / "dataset.json").read_text().rstrip().removesuffix("}")
    for opening, closing in ("[]", ('{"a":', "1}")):
        (dataset / "dataset.json").write_text(f'{header}, "x": {opening * depth}{closing * depth}}}')
        with pytest.raises(DataError):
            Dataset.open(dataset)


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="memory is measured as Linux tells it")
def test_files_without_an_end(dataset, little_memory):
    """A link to a device that is read for ever."""
    for name in ("vocab.model", "dataset.json"):
        content = (dataset / name).read_bytes()
        (dataset / name).unlink()
        (dataset / name).symlink_to("/dev/zero")
        assert "no plain file" in refused(dataset)
        (dataset / name).unlink()
        (dataset / name).write_bytes(content)


def test_no_control_character_reaches_the_terminal(dataset, capfd):
    evil = "\x1b[31mred\x9b2J\x07\x7f\r\ud800"
    forge(dataset, lambda h, c: h["labels"].update(label=[evil, "pos"]))
    assert front.run(front.main, ["list", "--data", str(dataset)]) == 0
    forge(dataset, lambda h, c: h["labels"].update({evil: ["a"]}))
    assert front.run(front.main, ["list", "--data", str(dataset)]) in (0, 3)
    forge(dataset, lambda h, c: h["vocabulary"].update(sha256=evil))
    assert front.run(front.main, ["list", "--data", str(dataset)]) == 3
    out = "".join(capfd.readouterr())
    assert "\\u001b[31mred\\u009b2J\\u0007\\u007f" in out and not set(out) & set("\x1b\x9b\x07\x7f\r")
