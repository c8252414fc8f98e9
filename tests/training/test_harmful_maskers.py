"""A masker that changes what belongs to the whole process does no harm to a run, and `taskmask check` names it."""

import os
import random
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
import training_help as helpful
from plug_in_help import plug_ins_taken_back

from taskmask.analysis.check.harness import check_masker
from taskmask.analysis.variance.measure import variance
from taskmask.checkpoints import checkpoint
from taskmask.errors import Interrupted
from taskmask.inference.evaluate import evaluate
from taskmask.registry import load_user_dir
from taskmask.system import failpoints
from taskmask.system.process_state import ProcessState, process_kept
from taskmask.training.train import train

HARM = """
    os.chdir("/")
    os.environ["TASKMASK_FAULT"] = "kill@save.write"
    os.environ.pop("HOME", None)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    torch.set_num_threads(3), torch.set_grad_enabled(False), torch.set_default_dtype(torch.float64)
    np.seterr(all="raise")
"""
MASKER = """
import os, random, signal
import numpy as np, torch
from taskmask import register_masker

@register_masker("nth")
def nth(batch, rng, *, n: int = 7):{harm}
    return batch.maskable & (rng.uniform("nth", batch.shape[1]) < 1 / n)
"""


def runs(tmp_path, monkeypatch, data, use):
    """Does the same with a masker that is harmless and one that is not, each in a folder of its own."""
    found = []
    for name, harm in (("harmless", ""), ("harmful", HARM)):
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        (folder / "mine.py").write_text(MASKER.format(harm=harm))
        monkeypatch.chdir(folder)
        with plug_ins_taken_back():
            load_user_dir("mine.py")
            state = ProcessState.now(generators=False)
            found.append(use(str(Path(os.path.relpath(data)))))
            assert not {*state.changes()} - {"environment variables"}  # torch sets some
            assert Path.cwd() == folder and "HOME" in os.environ and "TASKMASK_FAULT" not in os.environ
    return found


def weights(run="run"):
    return checkpoint.load(checkpoint.all_of(Path(run))[-1])["model"]


@pytest.mark.fault(77)
@pytest.mark.parametrize("workers", [0, 2])
def test_training_and_a_resume(workers, tmp_path, monkeypatch, data):
    def use(path):
        changes = {"masker": "nth", "run": {"workers": workers}}
        train(helpful.make(path, "run", **changes, train={"steps": 3}, optim={"schedule": "constant"}))
        train(helpful.make(path, "run", **changes, optim={"schedule": "constant"}))
        assert sorted(p.name for p in Path("run").iterdir() if p.name != "seed-1")
        return weights()

    expected, found = runs(tmp_path, monkeypatch, data, use)
    assert all(torch.equal(tensor, found[name]) for name, tensor in expected.items())


@pytest.mark.fault(77)
def test_a_signal_still_saves(tmp_path, monkeypatch, data):
    """The masker ignores SIGTERM, the run does not."""

    def use(path):
        with monkeypatch.context() as patch:
            patch.setenv("TASKMASK_FAULT", "term@step.begin#3")
            patch.setattr(failpoints, "_times", failpoints.collections.Counter())
            with pytest.raises(Interrupted):
                train(helpful.make(path, "run", masker="nth"))
        return len(checkpoint.all_of(Path("run")))

    assert runs(tmp_path, monkeypatch, data, use) == [1, 1]


@pytest.mark.fault(77)
def test_evaluation_and_variance(tmp_path, monkeypatch, data):
    def use(path):
        train(helpful.make(path, "run", masker="nth", train={"steps": 2}))
        return evaluate("run"), variance("run", ["nth", "uniform"], rows=4, draws=2).to_dict()

    (expected, spread), (found, its) = runs(tmp_path, monkeypatch, data, use)
    assert found == expected and {**its, "about": ""} == {**spread, "about": ""}


def test_a_plug_in_that_changes_the_folder_when_it_is_loaded(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text("import os; os.chdir('/')")
    load_user_dir("mine.py")
    assert Path.cwd() == tmp_path


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ('os.chdir("/")', "the working directory"),
        ('os.environ["X_OF_A_TEST"] = "1"', "environment variables"),
        ("signal.signal(signal.SIGUSR2, signal.SIG_IGN)", "signal handlers"),
        ("random.random()", "the random numbers of Python"),
        ("np.random.rand()", "the random numbers of numpy"),
        ("torch.rand(1)", "the random numbers of torch"),
        ("torch.set_num_threads(torch.get_num_threads() + 1)", "the threads of torch"),
        ("torch.set_default_dtype(torch.float64)", "the number format of torch"),
        ("torch.set_grad_enabled(False)", "whether torch takes gradients"),
        ('np.seterr(all="raise")', "how numpy treats errors"),
    ],
)
def test_the_check_names_each(line, says, tmp_path):
    from taskmask.analysis.check import invariance_properties
    from taskmask.analysis.check.cases import Case
    from taskmask.analysis.check.harness import _benches
    from taskmask.config.settings import Component
    from taskmask.registry import MASKERS

    (tmp_path / "mine.py").write_text(MASKER.format(harm=f"\n    {line}"))
    load_user_dir(str(tmp_path / "mine.py"))
    entry = MASKERS.get("nth")
    bench = _benches(Component("nth", entry.config()), {})[0][0]
    with process_kept(generators=True):
        wrong = invariance_properties.global_state(bench, Case(bench.lines))
    assert wrong is not None and wrong.says == f"it changes {says}"


def test_the_report_of_the_check(tmp_path):
    (tmp_path / "mine.py").write_text(MASKER.format(harm='\n    os.chdir("/")'))
    load_user_dir(str(tmp_path / "mine.py"))
    here = os.getcwd()
    report = check_masker("nth")
    broken = {law.name for law in report.laws if law.status == "broken"}
    assert "no global state" in broken and os.getcwd() == here


def test_what_was_changed_is_put_back(tmp_path):
    random.random(), np.random.rand(), torch.rand(1)  # no state that a seed gives
    before = ProcessState.now()
    with process_kept(generators=True):
        exec(HARM.replace("\n    ", "\n"), {"os": os, "signal": signal, "random": random, "np": np, "torch": torch})
        assert len(before.changes()) == 10
    assert before.changes() == []
