"""Data that is replaced or removed while it is read: the reader goes on with what it has opened, or says what happened.

Rows come from files that are mapped at the start. Workers that are spawned open them later, and look whether they are
the same.
"""

import multiprocessing
import shutil

import numpy as np
import pytest
from training_help import last, make, same

from taskmask.checkpoints import checkpoint
from taskmask.config import Assignment
from taskmask.data.add_column import add_column
from taskmask.data.dataset import Column, Dataset
from taskmask.errors import CheckpointError, DataError, StorageError
from taskmask.inference.annotate import annotate
from taskmask.inference.multi_seed import evaluate_runs, report
from taskmask.training.train import train
from taskmask.training.trainer import Trainer

TASK = {"task": "classification", "train": {"steps": 6, "valid_every": 2, "max_tokens": 128}}


def change_column(folder):
    """Replaces the labels of all splits by others, twice, so that a file of the old name and size is there again."""
    for _ in range(2):
        dataset = Dataset.open(folder)
        for name, split in dataset.splits.items():
            values = (np.array(split.values("label")) + 1) % 3
            column = Column("row", split.columns["label"].dtype)
            add_column(folder, name, "label", column, [values], dataset.labels["label"], overwrite=True)


def change_dataset(folder):
    """Another dataset of the same texts and sizes: other labels, in the place of the old folder."""
    other = shutil.copytree(folder, folder.with_name("other"))
    change_column(other)
    shutil.rmtree(folder)
    other.rename(folder)


CHANGES = {"column": change_column, "dataset": change_dataset, "gone": shutil.rmtree}


@pytest.fixture(scope="module")
def undisturbed(labelled, tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed") / "run"
    train(make(labelled, folder, **TASK))
    return last(folder)


@pytest.fixture
def disturbed(copy, monkeypatch):
    """disturbed(change) lets it happen at the third step, after the first validation."""
    original = Trainer.step

    def order(change):
        def step(self, micro_batches):
            if self.progress.position.step == 2:
                change(copy)
            return original(self, micro_batches)

        monkeypatch.setattr(Trainer, "step", step)

    return order


@pytest.fixture
def start_method(request):
    before = multiprocessing.get_start_method(allow_none=True)
    multiprocessing.set_start_method(request.param, force=True)
    yield
    multiprocessing.set_start_method(before, force=True)


def same_weights(a, b):
    for part in ("model", "optimizer", "progress"):
        same(a[part], b[part])


@pytest.mark.fault(81)
@pytest.mark.parametrize("start_method", ["fork"], indirect=True)
@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("change", CHANGES)
def test_a_training_goes_on_with_what_it_has_opened(
    change, workers, start_method, copy, disturbed, undisturbed, tmp_path
):
    disturbed(CHANGES[change])
    train(make(copy, tmp_path / "run", **TASK, run={"workers": workers}))
    same_weights(last(tmp_path / "run"), undisturbed)


@pytest.mark.fault(81)
@pytest.mark.parametrize("start_method", ["spawn"], indirect=True)
def test_spawned_workers_take_no_other_rows(
    start_method, copy, labelled, disturbed, undisturbed, tmp_path, monkeypatch
):
    """They are started for each validation. The steps before it are saved; with the old data the command goes on."""
    settings = make(copy, tmp_path / "run", **TASK, run={"workers": 1})
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "step", Trainer.step)
        disturbed(change_dataset)
        with pytest.raises(
            DataError, match=r"copy: split 'valid' was replaced by another.*put the old dataset back and"
        ):
            train(settings)
    assert checkpoint.step_of(checkpoint.all_of(tmp_path / "run")[-1]) == 4
    with pytest.raises(CheckpointError, match="was trained on data"):
        train(settings)
    shutil.rmtree(copy)
    shutil.copytree(labelled, copy)
    train(settings)
    same_weights(last(tmp_path / "run"), undisturbed)


@pytest.mark.fault(81)
def test_an_evaluation_goes_on_with_what_it_has_opened(model, copy):
    def figures(advance=lambda rows: None):
        reached = evaluate_runs([model], str(copy), "test", [Assignment("train.max_tokens", 64, "test")], advance)
        return {name: found.mean for name, found in reached.metrics.items()}

    expected = figures()
    assert figures(lambda rows: shutil.rmtree(copy, ignore_errors=True)) == expected and not copy.exists()


@pytest.mark.fault(81)
def test_an_annotation_goes_on_while_a_column_is_replaced(model, copy, labelled):
    """It holds the dataset, so that nothing but columns can be replaced meanwhile."""
    annotate(model, str(labelled_copy := shutil.copytree(labelled, copy.with_name("whole"))), {"guess": "label"})

    def begin(total, done):
        change_column(copy)
        return lambda tokens: None

    annotate(model, str(copy), {"guess": "label"}, begin=begin)
    for name, split in Dataset.open(labelled_copy).splits.items():
        assert np.array_equal(Dataset.open(copy).split(name).values("guess"), split.values("guess"))


@pytest.mark.fault(81)
def test_what_was_not_trained_on_is_not_measured_after_a_training(copy, tmp_path, capfd):
    settings = make(copy, tmp_path / "run", **TASK)
    train(settings)
    assert len(report([str(tmp_path / "run")], str(copy), str(tmp_path))) == 2
    change_dataset(copy)
    assert report([str(tmp_path / "run")], str(copy), str(tmp_path)) == []
    assert "is not what was trained on any more" in capfd.readouterr().err


@pytest.mark.fault(81)
def test_a_dataset_that_is_replaced_while_it_is_opened_is_opened_again(copy, monkeypatch):
    from taskmask.data.dataset import Split

    hold, times = Split.hold, []

    def replaced_meanwhile(split):
        if not times:
            change_dataset(copy)
        times.append(split.name)
        hold(split)

    monkeypatch.setattr(Split, "hold", replaced_meanwhile)
    dataset = Dataset.open_to_read(copy)
    assert len(times) > 3 and dataset.fingerprint == Dataset.open(copy).fingerprint
    shutil.rmtree(copy)
    assert len(dataset.split("train").values("label")) == dataset.split("train").rows


def test_a_file_is_mapped_once_and_needs_address_space(copy, monkeypatch):
    first, second = (Dataset.open_to_read(copy).split("train").values("tokens") for _ in range(2))
    assert first is second
    del first, second

    def refused(*_, **__):
        raise OSError(12, "Cannot allocate memory")

    monkeypatch.setattr(np, "memmap", refused)
    with pytest.raises(StorageError, match=r"tokens\.bin: cannot be mapped: Cannot allocate memory; check its"):
        Dataset.open_to_read(copy)
