"""Two writers of one output: one works, the other is refused, and nothing finished is lost or mixed.

`flock` belongs to an open file, so two writers in one process are as good as two processes.
"""

import os
import signal

import numpy as np
import pytest

from taskmask.data.add_column import ColumnsWriter, add_column
from taskmask.data.dataset import Column, Dataset
from taskmask.data.writer import DatasetWriter
from taskmask.errors import ConfigError, DataError

SCORE = Column("aligned", "float32", of="tokens")
TOKENS = {"tokens": Column("ragged", "uint16")}


@pytest.fixture
def vocab(unigram):
    return unigram


def write(folder, vocab, tokens, overwrite=False, during=lambda: None):
    """Writes a dataset with one row, and calls `during` before it ends."""
    with DatasetWriter(folder, vocab, overwrite) as writer:
        writer.split("train", TOKENS).append({"tokens": (np.array(tokens), np.array([len(tokens)]))})
        during()


def tokens_of(folder):
    return np.asarray(Dataset.open(folder).split("train").values("tokens")).tolist()


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.fault(62)
def test_a_second_dataset_is_refused_and_the_first_stays(tmp_path, vocab):
    def second():
        with pytest.raises(ConfigError, match=r"--out .*: another process is at work in it \(.*process"):
            write(tmp_path / "d", vocab, [6, 7])

    write(tmp_path / "d", vocab, [5], during=second)
    assert tokens_of(tmp_path / "d") == [5] and names(tmp_path) == ["d"]
    with pytest.raises(DataError, match="the dataset exists"):
        write(tmp_path / "d", vocab, [6, 7])


@pytest.mark.fault(62)
def test_overwrite_and_a_column_exclude_each_other(tmp_path, vocab):
    folder = tmp_path / "d"
    write(folder, vocab, [5, 6])
    with ColumnsWriter(Dataset.open(folder), ["train"], ["score"]) as column:
        with pytest.raises(ConfigError, match="another process is at work in it"):
            write(folder, vocab, [7], overwrite=True)
        column.write("train", "score", SCORE, [np.ones(2)])

    def add():
        with pytest.raises(ConfigError, match="another process is at work in it"):
            add_column(folder, "train", "other", SCORE, [np.ones(2)])

    write(folder, vocab, [7, 8, 9], overwrite=True, during=add)
    assert tokens_of(folder) == [7, 8, 9] and names(tmp_path) == ["d"]


@pytest.mark.fault(62)
def test_two_writers_of_one_column(tmp_path, vocab):
    folder = tmp_path / "d"
    write(folder, vocab, [5, 6])
    dataset = Dataset.open(folder)
    with ColumnsWriter(dataset, ["train"], ["score"]) as first:
        with pytest.raises(ConfigError, match="column score of split train: another process"):
            add_column(folder, "train", "score", SCORE, [np.zeros(2)], overwrite=True)
        add_column(folder, "train", "other", SCORE, [np.zeros(2)])  # another one is welcome
        first.write("train", "score", SCORE, [np.ones(2)])
    split = Dataset.open(folder).split("train")
    assert split.values("score").tolist() == [1, 1] and split.values("other").tolist() == [0, 0]
    assert names(folder / "train") == ["other.bin", "score.bin", "tokens.bin", "tokens.offsets.bin"]


@pytest.mark.fault(62)
def test_a_dataset_that_was_replaced_gets_no_column_of_the_old_one(tmp_path, vocab):
    folder = tmp_path / "d"
    write(folder, vocab, [5, 6])
    dataset = Dataset.open(folder)
    write(folder, vocab, [7, 8], overwrite=True)
    with pytest.raises(DataError, match="'train' was replaced by another during the work"):
        ColumnsWriter(dataset, ["train"], ["score"]).__enter__()
    assert list(Dataset.open(folder).split("train").columns) == ["tokens"]


@pytest.mark.fault(63)
def test_a_place_that_was_taken_meanwhile_is_not_touched(tmp_path, vocab):
    def take(path):
        path.mkdir()
        (path / "precious").touch()

    write_to = tmp_path / "d"
    for number, occupy in enumerate((take, lambda path: path.write_text("x"), lambda path: path.symlink_to("x")), 1):
        with pytest.raises(DataError, match=rf"not touched; the finished result is kept as .*d\.new-{number}"):
            write(write_to, vocab, [5], during=lambda occupy=occupy: occupy(write_to))
        assert tokens_of(tmp_path / f"d.new-{number}") == [5] and os.path.lexists(write_to)
        if write_to.is_dir():
            assert names(write_to) == ["precious"]
            (write_to / "precious").unlink()
            write_to.rmdir()
        else:
            write_to.unlink()


@pytest.mark.fault(63)
def test_overwrite_deletes_nothing_but_the_dataset(tmp_path, vocab):
    folder = tmp_path / "d"
    write(folder, vocab, [5])
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(DataError, match=r"also holds notes\.txt, which a dataset does not have, so it is not touched"):
        write(folder, vocab, [6], overwrite=True)
    (folder / "notes.txt").unlink()
    with pytest.raises(DataError, match="kept as"):
        write(folder, vocab, [6], overwrite=True, during=lambda: (folder / "train" / "late.txt").write_text("mine"))
    assert tokens_of(folder) == [5] and (folder / "train" / "late.txt").exists()


@pytest.mark.fault(63)
def test_links_are_resolved_or_refused(tmp_path, vocab):
    (tmp_path / "disk").mkdir()
    (tmp_path / "d").symlink_to("disk/data")
    with pytest.raises(ConfigError, match=r"--out .*d: is a link that leads nowhere"):
        write(tmp_path / "d", vocab, [5])
    (tmp_path / "disk" / "data").mkdir()
    write(tmp_path / "d", vocab, [5])
    assert tokens_of(tmp_path / "disk" / "data") == [5] and (tmp_path / "d").is_symlink()
    assert names(tmp_path / "disk") == ["data"] and names(tmp_path) == ["d", "disk"]


@pytest.mark.fault(64)
def test_links_of_a_stranger_are_not_followed(tmp_path, vocab):
    folder, victim = tmp_path / "d", tmp_path / "victim"
    write(folder, vocab, [5, 6])
    victim.write_text("precious")
    for name in ("score.bin", "score.provisional", ".score.lock"):
        (folder / "train" / name).symlink_to(victim)
    with pytest.raises(Exception, match=r"\.score\.lock: is a link, which is not followed; remove it"):
        add_column(folder, "train", "score", SCORE, [np.ones(2)])
    (folder / "train" / ".score.lock").unlink()
    (folder / "train" / ".score.lock").hardlink_to(victim)
    add_column(folder, "train", "score", SCORE, [np.ones(2)])
    assert victim.read_text() == "precious"
    assert Dataset.open(folder).split("train").values("score").tolist() == [1, 1]


@pytest.mark.fault(65)
@pytest.mark.parametrize("point", ["the header", "the folder", "the end"])
def test_ctrl_c_at_the_end_leaves_a_dataset_with_or_without_the_column(point, tmp_path, vocab, monkeypatch):
    """The signal comes while dataset.json is synced, after it was renamed, or while unnamed files are removed."""
    from taskmask.data import add_column as module
    from taskmask.system import files

    folder = tmp_path / "d"
    write(folder, vocab, [5, 6])
    owner, name = {
        "the header": (files.os, "fsync"), "the folder": (files, "sync_folder"), "the end": (module, "_remove_unnamed")
    }[point]  # fmt: skip
    real, calls = getattr(owner, name), []

    def interrupted(*arguments):
        calls.append(arguments)
        if (folder / "train" / "score.bin").exists():
            monkeypatch.setattr(owner, name, real)
            os.kill(os.getpid(), signal.SIGINT)
        return real(*arguments)

    monkeypatch.setattr(owner, name, interrupted)
    with pytest.raises(KeyboardInterrupt):
        add_column(folder, "train", "score", SCORE, [np.ones(2)])
    split = Dataset.open(folder).split("train")
    if "score" in split.columns:
        assert split.values("score").tolist() == [1, 1]
    Dataset.open(folder).verify()
    add_column(folder, "train", "score", SCORE, [np.zeros(2)], overwrite=True)
    assert Dataset.open(folder).split("train").values("score").tolist() == [0, 0]


def test_labels_of_a_stranger_that_are_no_unicode_stay_what_they_are(tmp_path, vocab):
    """A column is added to such a dataset without a traceback, and it opens again."""
    from taskmask.data.dataset import read_header
    from taskmask.data.writer import write_header

    folder = tmp_path / "d"
    write(folder, vocab, [5, 6])
    write_header(folder, {**read_header(folder), "labels": {"mood": ["\udcff", "\u00e9"]}})
    add_column(folder, "train", "score", SCORE, [np.ones(2)])
    assert Dataset.open(folder).labels["mood"] == ["\udcff", "\u00e9"]
