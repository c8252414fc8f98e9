"""A tiny dataset, made once, and the shortest ways to a run."""

import shutil

import pytest
import torch
import training_help as helpful
from training_help import write_dataset, write_labelled

from taskmask.training import distributed
from taskmask.training.build import build_objective
from taskmask.training.train import open_data, train
from taskmask.training.trainer import Trainer


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


@pytest.fixture(scope="session")
def labelled(tmp_path_factory, data):
    """Texts with a second text and a label that can be told from them, in the vocabulary of `data`."""
    return write_labelled(tmp_path_factory.mktemp("labelled"), data)


@pytest.fixture(scope="session")
def model(labelled, tmp_path_factory):
    """The run folder of a classifier of `labelled`."""
    folder = tmp_path_factory.mktemp("model") / "run"
    options = {"task": "classification", "train": {"steps": 30, "valid_every": 30}, "optim": {"lr": 5e-3}}
    train(helpful.make(labelled, folder, **options))
    return str(folder)


@pytest.fixture
def copy(labelled, tmp_path):
    """A dataset with labels that may be written into."""
    shutil.copytree(labelled, tmp_path / "copy")
    return tmp_path / "copy"
