"""A tiny dataset, made once, and the shortest ways to a run."""

import random

import pytest
import torch
import training_help as helpful

from taskmask.training import distributed
from taskmask.training.parts import build_objective
from taskmask.training.run import open_data
from taskmask.training.trainer import Trainer
from taskmask_cli.preprocess import main as preprocess

WORDS = [
    "amber", "basin", "candle", "dapper", "eagle", "fabric", "garden", "harbor", "island", "jacket", "kettle", "ladder",
    "magnet", "napkin", "orchid", "pepper", "quartz", "ribbon", "saddle", "tunnel", "umbrella", "velvet", "walnut",
]  # fmt: skip


def sentence(random_numbers):
    """A stretch of a fixed cycle of words: what is masked can be told from its neighbours."""
    start, length = random_numbers.randrange(len(WORDS)), random_numbers.randrange(5, 14)
    return " ".join(WORDS[(start + i) % len(WORDS)] for i in range(length)) + "."


def write_dataset(folder, lines, seed=0, *arguments):
    random_numbers = random.Random(seed)
    folder.mkdir(parents=True, exist_ok=True)
    for split, number in (("train", lines), ("valid", 40)):
        (folder / f"{split}.txt").write_text("\n".join(sentence(random_numbers) for _ in range(number)) + "\n")
    out = folder / "bin"
    files = ["--train", str(folder / "train.txt"), "--valid", str(folder / "valid.txt"), "--out", str(out)]
    preprocess([*files, "--workers", "0", *(arguments or ("--vocab-size", "310"))])
    return out


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """Equal bits need equal numbers of threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    return write_dataset(tmp_path_factory.mktemp("data"), 300)


@pytest.fixture(scope="session")
def other_data(tmp_path_factory, data):
    """Other text, the same vocabulary."""
    return write_dataset(tmp_path_factory.mktemp("other"), 200, 1, "--vocab", str(data))


@pytest.fixture(scope="session")
def other_vocabulary(tmp_path_factory):
    return write_dataset(tmp_path_factory.mktemp("vocabulary"), 200, 2, "--vocab-size", "300")


@pytest.fixture
def settings(data, tmp_path):
    """settings("name", train={...}) are those of a run in tmp_path / name."""
    return lambda name="run", **changes: helpful.make(data, tmp_path / name, **changes)


@pytest.fixture
def trainer(settings):
    """trainer("name", train={...}) is a Trainer that has not begun."""

    def build(name="run", **changes):
        chosen = settings(name, **changes)
        world, device = distributed.join(chosen.run)
        parts = open_data(chosen)
        return Trainer(chosen, parts, build_objective(chosen, parts.task), world, device)

    return build
