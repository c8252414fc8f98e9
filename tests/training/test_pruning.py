"""A run that is at work removes older checkpoints: whoever reads the best one at that moment chooses anew."""

import json
import shutil
import threading

import pytest

from taskmask.analysis.compare.experiment_file import read
from taskmask.checkpoints import checkpoint
from taskmask.errors import CheckpointError
from taskmask.hf.convert import to_hf
from taskmask.inference import loaded_model
from taskmask.inference.annotate import annotate
from taskmask.inference.evaluate import evaluate
from taskmask.training.train import train


def copied(model, folder):
    """Copies a run, with a second checkpoint; returns its best one."""
    shutil.copytree(model, folder)
    (best,) = checkpoint.all_of(folder)
    shutil.copy(best, best.with_name("step-31.pt"))
    return best


@pytest.fixture
def run(model, tmp_path, monkeypatch):
    """A copy of a run with two checkpoints; its best one is removed when it is about to be read."""
    folder = tmp_path / "pruned"
    best = copied(model, folder)
    load = checkpoint.load

    def pruned(file):
        if file == best:
            best.unlink(missing_ok=True)
        return load(file)

    monkeypatch.setattr(checkpoint, "load", pruned)
    return str(folder)


def experiment(run, folder):
    """Writes an experiment that begins with a run."""
    tables = {"pretrain": {"from": str(run)}, "policies": {"a": {"masker": "uniform"}}, "tasks": {"b": {}}}
    tables |= {"baseline": "a"}
    (folder / "experiment.json").write_text(json.dumps(tables))
    return folder / "experiment.json"


@pytest.mark.fault(76)
def test_the_best_is_chosen_anew(run):
    assert loaded_model.load(run).file.name == "step-31.pt"


@pytest.mark.fault(76)
@pytest.mark.parametrize("verb", ["evaluate", "annotate", "convert", "init_from", "compare"])
def test_every_verb_chooses_anew(verb, run, settings, copy, tmp_path):
    if verb == "evaluate":
        assert evaluate(run)["checkpoint"].endswith("step-31.pt")
    elif verb == "annotate":
        assert annotate(run, str(copy), {"mine": "label"}).rows
    elif verb == "convert":
        pytest.importorskip("safetensors")
        to_hf(run, str(tmp_path / "hf"))
        assert (tmp_path / "hf" / "config.json").exists()
    elif verb == "init_from":
        task = {"task": "classification", "train": {"steps": 1, "init_from": run}, "data": {"length": 32}}
        train(settings("next", **{**task, "data": str(copy)}))
    else:
        assert read(experiment(run, tmp_path)).start.file.name == "step-31.pt"


def test_a_checkpoint_that_is_removed_while_its_sum_is_taken(model, tmp_path, monkeypatch):
    """An experiment reads the file twice."""
    folder = tmp_path / "run"
    best = copied(model, folder)
    load = loaded_model.load

    def then_pruned(source):
        found = load(source)
        best.unlink(missing_ok=True)
        return found

    monkeypatch.setattr(loaded_model, "load", then_pruned)
    assert read(experiment(folder, tmp_path)).start.file.name == "step-31.pt"


def test_a_missing_checkpoint_and_a_link_that_leads_nowhere_are_errors(model, tmp_path):
    with pytest.raises(CheckpointError, match="no such checkpoint"):
        loaded_model.load(str(tmp_path / "step-1.pt"))
    folder = tmp_path / "run"
    shutil.copytree(model, folder)
    (best,) = checkpoint.all_of(folder)
    best.unlink()
    best.symlink_to("nowhere")
    with pytest.raises(CheckpointError, match="no such checkpoint"):
        loaded_model.load(str(folder))


@pytest.mark.fault(76)
def test_load_while_a_run_saves_and_prunes(model, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(model, folder)
    (first,) = checkpoint.all_of(folder)
    content, stop = first.read_bytes(), threading.Event()

    def work():
        step = 31
        while not stop.is_set():
            step += 1
            partial = folder / "checkpoints" / "partial"
            partial.write_bytes(content)
            partial.rename(folder / "checkpoints" / f"step-{step}_accuracy-{1 - 1 / step:.6f}.pt")
            checkpoint.prune(folder, 1, 1, "max")

    thread = threading.Thread(target=work)
    thread.start()
    try:
        for _ in range(40):
            assert loaded_model.load(str(folder)).step == 30
    finally:
        stop.set()
        thread.join()
