"""Datasets from strangers: refused with exit code 3. Headers that lie, paths that leave the folder and damaged files
stand in tests/data/test_columns.py."""

import json
import os
import resource
import zlib
from pathlib import Path

import numpy as np
import pytest

from taskmask.data.dataset import Dataset, checksum_of
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


@pytest.mark.fault(22)
@pytest.mark.parametrize("path", ["..", ".", "", "/", "train", "train/\0", "\ud800", "a" * 5000, "//etc/passwd"])
def test_strange_paths(path, dataset):
    forge(dataset, lambda h, c: c["label"]["files"]["values"].update(path=path))
    refused(dataset)


@pytest.mark.fault(22)
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


@pytest.mark.fault(13, 15)
@pytest.mark.parametrize("number", [1 << 62, 1 << 63, 1 << 400, -1, 1e308, float("nan"), "9", None, True, [1]])
@pytest.mark.parametrize("place", ["rows", "tokens", "bytes", "crc32", "width", "size"])
def test_counts(place, number, dataset):
    def change(header, columns):
        owners = {"rows": header["splits"]["train"], "tokens": header["splits"]["train"], "size": header["vocabulary"]}
        files = columns["tokens"]["files"]["values"]
        {**owners, "bytes": files, "crc32": files, "width": columns["label"]}[place][place] = number

    forge(dataset, change)
    refused(dataset)


@pytest.mark.fault(13)
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
    evil = "\x1b[31mred\x9b2J\x07\x7f\r"
    forge(dataset, lambda h, c: h["labels"].update(label=[evil, "pos"]))
    assert front.run(front.main, ["list", "--data", str(dataset)]) == 0
    forge(dataset, lambda h, c: h["labels"].update({evil: ["a"]}))
    assert front.run(front.main, ["list", "--data", str(dataset)]) in (0, 3)
    forge(dataset, lambda h, c: h["vocabulary"].update(sha256=evil))
    assert front.run(front.main, ["list", "--data", str(dataset)]) == 3
    out = "".join(capfd.readouterr())
    assert "\\u001b[31mred\\u009b2J\\u0007\\u007f" in out and not set(out) & set("\x1b\x9b\x07\x7f\r")


TINY = """--model tiny --model.layers 1 --model.width 32 --model.heads 2 --data.length 32 --train.max_tokens 256
--train.steps 40 --run.threads 1 --run.tensorboard false""".split()  # noqa: SIM905


@pytest.mark.fault(17)
@pytest.mark.parametrize("workers", ["0", "1"])
def test_a_token_outside_the_vocabulary_is_named_with_its_row(workers, dataset, tmp_path, capfd):
    """Also where the checksums are right, so that nobody has noticed before it is trained on."""
    file = dataset / "train" / "tokens.bin"
    tokens = np.fromfile(file, "<u2")
    row = int(np.searchsorted(Dataset.open(dataset).split("train").offsets("tokens"), 100, side="right")) - 1
    tokens[100] = 60_000
    tokens.tofile(file)
    forge(dataset, lambda h, c: c["tokens"]["files"]["values"].update(crc32=zlib.crc32(file.read_bytes())))
    run = ["--data", str(dataset), "--run", str(tmp_path / "run"), "--run.workers", workers]
    for words in (["train", *run, *TINY], ["list", "--data", str(dataset), "--verify"]):
        assert front.run(front.main, words) == 3
        shown = capfd.readouterr().err
        assert f"row {row} of split train: " in shown
        assert "token id 60000 is not in the vocabulary; expected 0 to " in shown
        assert "Traceback" not in shown and "IndexError" not in shown
    assert not list((tmp_path / "run").glob("checkpoints/*"))


@pytest.mark.fault(16)
def test_a_flipped_bit_is_found_by_the_verb_list_and_named_with_its_column(dataset, capfd):
    for name, column in (("tokens.bin", "tokens"), ("tokens.offsets.bin", "tokens"), ("label.bin", "label")):
        file = dataset / "train" / name
        good = file.read_bytes()
        file.write_bytes(good[:-3] + bytes([good[-3] ^ 1]) + good[-2:])
        assert front.run(front.main, ["list", "--data", str(dataset)]) == 0  # it reads no data
        capfd.readouterr()
        assert front.run(front.main, ["list", "--data", str(dataset), "--verify"]) == 3
        shown = capfd.readouterr().err
        assert f"{file}, column {column} of split train: the content has crc32" in shown and shown.count("\n") == 1
        file.write_bytes(good)
    assert front.run(front.main, ["list", "--data", str(dataset), "--verify"]) == 0


@pytest.mark.fault(14, 15)
def test_files_that_lie_end_training_with_3(dataset, tmp_path, capfd, refused_cheaply):
    words = ["train", "--data", str(dataset), "--run", str(tmp_path / "run"), *TINY]
    offsets = dataset / "train" / "tokens.offsets.bin"
    good = offsets.read_bytes()
    for content in (good[:-8], good + good, b""):
        offsets.write_bytes(content)
        assert front.run(front.main, words) == 3
        assert f"{offsets}: the file has {len(content)} bytes; expected {len(good)}" in capfd.readouterr().err
    for place, value in ((1, -1), (1, 1 << 62), (2, 1), (-1, 1 << 40), (0, 5)):
        changed = np.frombuffer(good, "<i8").copy()
        changed[place] = value
        changed.tofile(offsets)
        assert front.run(front.main, words) == 3
        assert f"{offsets}: the offsets do not rise" in capfd.readouterr().err
    forge(dataset, lambda h, c: h["splits"]["train"].update(rows=1 << 61))
    refused_cheaply("Dataset.open(path).split('train').offsets('tokens')", [dataset], 3)
    assert not (tmp_path / "run" / "checkpoints").exists()
