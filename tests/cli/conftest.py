"""A tiny dataset and a tiny trained run, made once for all tests of the command lines."""

from pathlib import Path

import pytest

from taskmask_cli import preprocess, train

TINY = """--model.layers 1 --model.width 32 --model.heads 2 --data.length 32 --train.max_tokens 256
--train.steps 4 --optim.lr 1e-3 --run.threads 1 --run.tensorboard false""".split()  # noqa: SIM905
WORDS = """the function returns a list of values when its argument is an object and raises an error
otherwise""".split()  # noqa: SIM905


def write_texts(file, num, step):
    lines = [" ".join(WORDS[(i * step + j * (i % 5 + 1)) % len(WORDS)] for j in range(8 + i % 9)) for i in range(num)]
    file.write_text("\n".join(f"{line}, number {i}." for i, line in enumerate(lines)) + "\n", encoding="utf-8")


@pytest.fixture(scope="session")
def texts(tmp_path_factory):
    """A folder with train.txt and valid.txt."""
    folder = tmp_path_factory.mktemp("texts")
    write_texts(folder / "train.txt", 300, 3)
    write_texts(folder / "valid.txt", 40, 7)
    return folder


@pytest.fixture(scope="session")
def data(texts):
    """A dataset with the splits train, valid and test."""
    out = texts / "data"
    valid = str(texts / "valid.txt")
    splits = ["--train", str(texts / "train.txt"), "--valid", valid, "--test", valid, "--workers", "0"]
    assert preprocess.main([*splits, "--out", str(out), "--vocab-size", "330", "--documents", "line"]) == 0
    return str(out)


@pytest.fixture(scope="session")
def other_data(texts):
    """A dataset of the same texts with another vocabulary."""
    out = texts / "other"
    splits = ["--train", str(texts / "train.txt"), "--valid", str(texts / "valid.txt"), "--workers", "0"]
    assert preprocess.main([*splits, "--out", str(out), "--vocab-size", "320"]) == 0
    return str(out)


@pytest.fixture(scope="session")
def trained(data, tmp_path_factory):
    """A run of a few steps: its folder."""
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    assert train.main(["--data", data, "--run", str(folder), *TINY]) == 0
    return str(folder)


@pytest.fixture
def tiny():
    """Settings of a model that trains in a second."""
    return list(TINY)


@pytest.fixture
def checkpoint(trained):
    """The checkpoint of the run."""
    (file,) = {*Path(trained, "checkpoints").glob("*.pt")}
    return file
