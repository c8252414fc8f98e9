"""What is called from Python leaves the number of threads of torch, and how it multiplies, as they were."""

import shutil

import pytest
import torch

import taskmask
from taskmask.analysis.variance.measure import variance
from taskmask.errors import ConfigError, DataError
from taskmask.inference import evaluate, predictor
from taskmask.inference.annotate import annotate
from taskmask.training import distributed
from taskmask.training.dry_run import dry_run
from taskmask.training.train import train


@pytest.fixture(autouse=True)
def three_threads(monkeypatch):
    """The caller has three threads, and everything else is to take two."""
    for module in (distributed, predictor):
        monkeypatch.setattr(module, "num_threads", lambda processes=1: 2)
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def inside(monkeypatch):
    """The numbers of threads in the forward passes."""
    seen, call = set(), torch.nn.Linear.forward

    def watched(self, x):
        seen.add(torch.get_num_threads())
        return call(self, x)

    monkeypatch.setattr(torch.nn.Linear, "forward", watched)
    return seen


@pytest.fixture(scope="module")
def run(data, tmp_path_factory):
    from training_help import make

    return train(make(data, tmp_path_factory.mktemp("threads") / "run", run={"threads": 0})).folder


@pytest.fixture(scope="module")
def classifier(data, tmp_path_factory):
    from training_help import make, write_labelled

    folder = tmp_path_factory.mktemp("labelled")
    labelled = write_labelled(folder, str(data))
    task = {"name": "classification"}
    return train(make(labelled, folder / "run", task=task, run={"threads": 0})).folder, labelled


def test_every_entry_gives_the_threads_back(run, classifier, data, settings, inside, tmp_path):
    labelled = shutil.copytree(classifier[1], tmp_path / "copy")
    calls = {
        "train": lambda: train(settings(run={"threads": 0})),
        "dry_run": lambda: dry_run(settings("dry", run={"threads": 0})),
        "evaluate": lambda: taskmask.evaluate(run),
        "annotate": lambda: annotate(classifier[0], str(labelled), {"guess": "label"}),
        "predict": lambda: taskmask.load(run).predict(["amber <mask> candle"], device="cpu"),
        "variance": lambda: variance(run, data=str(data), maskers=["uniform"], rows=2, draws=2),
        "inspect": lambda: taskmask.inspect(str(data), ["uniform"], source=run, sample=20, draws=2),
    }
    for name, call in calls.items():
        inside.clear()
        before = torch.backends.mkldnn.matmul.fp32_precision
        call()
        assert inside == {2}, name
        assert torch.get_num_threads() == 3, name
        assert torch.backends.mkldnn.matmul.fp32_precision == before, name


def test_an_error_gives_them_back_too(run, settings, monkeypatch):
    with pytest.raises(DataError, match="no split"):
        taskmask.evaluate(run, split="no such")
    assert torch.get_num_threads() == 3
    with pytest.raises(ConfigError, match="patience"):
        train(settings(data={"path": ""}, train={"patience": 3, "valid_every": 0}))
    monkeypatch.setattr(evaluate, "find_over", lambda *args, **named: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        taskmask.evaluate(run)
    assert torch.get_num_threads() == 3


def test_predictions_take_no_more_than_the_caller_has(run, inside):
    torch.set_num_threads(1)
    taskmask.load(run).predict(["amber <mask> candle"], device="cpu")
    assert inside == {1} and torch.get_num_threads() == 1
