"""A model writes columns: the right values, the same bytes after a kill and from several processes, or nothing."""

import os
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest
from training_help import make, write_labelled

from taskmask.config import from_tables, read_flags
from taskmask.config.settings import parse
from taskmask.data.dataset import Dataset
from taskmask.errors import CheckpointError, ConfigError, DataError, StorageError
from taskmask.inference import annotate as module
from taskmask.inference import loaded_model
from taskmask.inference.annotate import annotate
from taskmask.training.train import train
from taskmask_cli.annotate import main

COLUMNS = {"guess": "label", "chances": "probabilities", "scores": "logits", "late": "probability:late"}


@pytest.fixture
def small_chunks(monkeypatch):
    monkeypatch.setattr(module, "CHUNK", 100)


def columns_of(path, names=COLUMNS):
    dataset = Dataset.open(path)
    dataset.verify()
    return {(s, n): np.array(dataset.split(s).values(n)) for s in dataset.splits for n in names}


def test_what_is_written_is_what_the_model_says(model, copy, small_chunks):
    done = annotate(model, str(copy), COLUMNS)
    dataset, loaded = Dataset.open(copy), loaded_model.load(model)
    assert done.rows == sum(split.rows for split in dataset.splits.values()) and done.tokens == done.computed_tokens
    assert dataset.labels["guess"] == dataset.labels["label"] and "chances" not in dataset.labels
    vocab, split = dataset.vocabulary(), dataset.split("test")
    offsets = split.offsets("tokens")
    texts = [vocab.decode(split.values("tokens")[a:b]) for a, b in zip(offsets, offsets[1:])]  # noqa: RUF007, B905
    answers = loaded.predict(texts, top=3)
    names = dataset.labels["guess"]
    assert [names[i] for i in split.values("guess")] == [answer["label"] for answer in answers]
    chances = np.array([[{c["label"]: c["probability"] for c in a["classes"]}[n] for n in names] for a in answers])
    np.testing.assert_allclose(split.values("chances"), chances, atol=1e-6)
    assert split.values("chances").dtype == np.float32 and split.values("scores").shape == chances.shape
    assert np.array_equal(split.values("late"), split.values("chances")[:, names.index("late")])
    assert not list(copy.glob(".annotate*"))


def test_the_chunks_do_not_matter(model, labelled, tmp_path, monkeypatch):
    found = []
    for size in (60, 1 << 17):
        monkeypatch.setattr(module, "CHUNK", size)
        path = shutil.copytree(labelled, tmp_path / str(size))
        annotate(model, str(path), COLUMNS)
        found.append(columns_of(path))
    for name, values in found[0].items():
        np.testing.assert_allclose(values, found[1][name], atol=2e-3)


def test_chosen_splits_and_names_that_are_taken(model, copy):
    annotate(model, str(copy), {"guess": "label"}, ["valid"])
    dataset = Dataset.open(copy)
    assert "guess" in dataset.split("valid").columns and "guess" not in dataset.split("train").columns
    with pytest.raises(DataError, match=r"column 'guess' exists in split 'valid'.*--overwrite"):
        annotate(model, str(copy), {"guess": "label"})
    assert "guess" not in Dataset.open(copy).split("train").columns
    annotate(model, str(copy), {"guess": "confidence"}, ["valid"], overwrite=True)
    assert Dataset.open(copy).split("valid").columns["guess"].dtype == "float32"
    for name in ("tokens", "document"):
        with pytest.raises(DataError, match="exists in split"):
            annotate(model, str(copy), {name: "label"}, overwrite=True)
    with pytest.raises(DataError, match="no split 'dev'"):
        annotate(model, str(copy), {"other": "label"}, ["dev"])


def test_the_first_annotation_where_none_is_named(model, copy):
    assert annotate(model, str(copy), {"guess": ""}, ["test"]).columns == {"guess": "label"}


def test_two_at_once(model, copy, monkeypatch):
    def meanwhile(*_):
        with pytest.raises(ConfigError, match=r"column guess of split train: another process is at work in it"):
            annotate(model, str(copy), {"guess": "label"})
        return {}

    monkeypatch.setattr(module.Work, "merge", meanwhile)
    annotate(model, str(copy), {"guess": "label"})


def test_rows_need_no_labels(model, data, tmp_path):
    path = shutil.copytree(data, tmp_path / "plain")
    annotate(model, str(path), {"guess": "label"})
    assert len(Dataset.open(path).split("train").values("guess")) == Dataset.open(path).split("train").rows


def test_mistakes(model, copy, tmp_path, data, other_vocabulary):
    with pytest.raises(ConfigError, match=r"--column guess: is 'lable'; expected one of label,.*did you mean 'label'"):
        annotate(model, str(copy), {"guess": "lable"})
    train(make(data, tmp_path / "lm", train={"steps": 1}))
    with pytest.raises(ConfigError, match=r"task masked_lm writes no columns; expected one of classi.*tagging"):
        annotate(str(tmp_path / "lm"), str(copy), {"guess": "label"})
    with pytest.raises(CheckpointError, match="was trained with vocabulary"):
        annotate(model, str(other_vocabulary), {"guess": "label"})
    assert not list(copy.glob(".annotate*"))


WORDS = ["--column", "guess=label", "chances=probabilities", "--run.threads", "1", "--train.max_tokens", "64"]
SMALL = "import sys; from taskmask.inference import annotate; annotate.CHUNK = 100; "
SMALL += "from taskmask_cli import main; sys.argv[0] = 'taskmask'; main.start(main.main)"


def command(model, path, fault=""):
    words = [sys.executable, "-c", SMALL, "annotate", "--data", str(path), "--from", model, *WORDS]
    return subprocess.run(words, env={**os.environ, "TASKMASK_FAULT": fault}, capture_output=True, text=True)


@pytest.mark.parametrize(
    "fault",
    [
        "annotate.chunk#4",
        *(pytest.param(f, marks=pytest.mark.slow) for f in ("file.rename#3", "annotate.merge#1", "annotate.merge#4")),
    ],
)
def test_a_killed_one_goes_on_to_the_same_bytes(fault, model, labelled, tmp_path):
    whole, path = (shutil.copytree(labelled, tmp_path / name) for name in ("whole", "killed"))
    assert command(model, whole).returncode == 0
    assert command(model, path, f"kill@{fault}").returncode == -signal.SIGKILL
    Dataset.open(path).verify()
    again = command(model, path)
    assert again.returncode == 0, again.stderr
    for (split, name), values in columns_of(path, ("guess", "chances")).items():
        assert np.array_equal(values, Dataset.open(whole).split(split).values(name))
    assert not list(path.glob(".annotate*"))


def test_a_full_disk_is_one_line_and_leaves_the_dataset(model, copy):
    ended = command(model, copy, "full@file.rename#2")
    assert ended.returncode == 7 and ended.stderr.count("\n") == 1
    assert "guess" not in Dataset.open(copy).split("train").columns


def test_two_processes_write_the_same_bytes(model, labelled, tmp_path):
    one, two = (shutil.copytree(labelled, tmp_path / name) for name in ("one", "two"))
    assert command(model, one).returncode == 0
    script = tmp_path / "small.py"
    script.write_text(SMALL)
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "--", str(script)]
    ended = subprocess.run(
        [*launch, "annotate", "--data", str(two), "--from", model, *WORDS], capture_output=True, text=True
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.count("next: taskmask list") == 1
    for (split, name), values in columns_of(two, ("guess", "chances")).items():
        assert np.array_equal(values, Dataset.open(one).split(split).values(name))


def test_annotating_leaves_the_runs_on_the_data_alone(labelled, model, copy):
    """A column that a task does not read must not end the resume of its run."""
    from taskmask.config.settings import Settings
    from taskmask.training.train import open_data

    settings = Settings.of(data=str(copy), task="classification")
    before = open_data(settings).fingerprint
    annotate(model, str(copy), {"guess": "label"})
    assert open_data(settings).fingerprint == before


def test_labels_of_splits_that_are_not_annotated_stay(labelled, data, model, tmp_path):
    """Ids without their names would silently mean other classes."""
    path = write_labelled(tmp_path, data, ("a", "b", "c"))
    with pytest.raises(DataError, match=r"column 'label' of split 'train' has other labels.*annotate all splits"):
        annotate(model, str(path), {"label": "label"}, ["valid"], overwrite=True)
    annotate(model, str(path), {"label": "label"}, overwrite=True)
    assert Dataset.open(path).labels["label"] == loaded_model.load(model).labels["label"]
    annotate(model, str(path), {"label": "confidence"}, overwrite=True)
    assert "label" not in Dataset.open(path).labels


def test_another_task_keeps_the_options_that_it_shares_with_that_of_the_run():
    own = from_tables({"task": {"name": "classification", "label": "family", "pair": "aspect"}}, "run")
    said = read_flags(["--task", "word_importance", "--task.delta", "0.1", "--task.pair", ""])
    task = parse(module.of_the_task(own, said)).task
    assert task.name == "word_importance"
    assert (task.options.label, task.options.delta, task.options.pair) == ("family", 0.1, "")
    assert parse(module.of_the_task(own, read_flags(["--task", "tagging"]))).task.options.label == "family"
    assert parse(module.of_the_task(own, [])).task.options.pair == "aspect"


@pytest.mark.fault(80)
def test_a_file_that_cannot_be_written_leaves_what_was_computed(model, copy, tmp_path, capsys):
    """The disk of the tsv is full: no column is added, so that the same command goes on, and computes nothing anew."""
    file = tmp_path / "pseudo.tsv"
    file.symlink_to("/dev/full")
    words = ["--data", str(copy), "--from", model, "--column", "guess=label", "--to-tsv", str(file)]
    with pytest.raises(StorageError, match=r"pseudo\.tsv: cannot be written: No space left.*the same command again"):
        main(words)
    assert "guess" not in Dataset.open(copy).split("train").columns
    file.unlink()
    file.touch()
    capsys.readouterr()
    assert main(words) == 0
    said = capsys.readouterr().out
    assert "(0 tokens a second)" in said and "pseudo.tsv: " in said
    kept = (np.asarray(Dataset.open(copy).split("train").values("guess")) >= 0).sum()
    assert len(file.read_text().splitlines()) == 1 + kept and not list(copy.glob(".annotate*"))
