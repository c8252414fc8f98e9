"""Checkpoints: whole or not there, never believed unchecked, never the last good one lost."""

import os
import pickle
import re
import resource
import shutil
import zipfile

import pytest
import torch
from training_help import SPAWN, TOUCHED, Crash, last, make, same_runs, train_until

from taskmask.checkpoints import checkpoint
from taskmask.checkpoints.checkpoint import (
    all_of,
    best_of,
    check_like,
    contents_of,
    load,
    load_last,
    name_of,
    prune,
    put_moments,
    save,
    score_of,
    step_of,
)
from taskmask.data.dataset import Dataset
from taskmask.errors import CheckpointError, ConfigError, Interrupted, StorageError
from taskmask.inference.evaluate import evaluate
from taskmask.training.train import train
from taskmask_cli import main as front
from taskmask_cli import train as train_verb

STATE = {
    "step": 3, "model": {"a": torch.arange(6.0)}, "average": None, "optimizer": {}, "loss_scale": {}, "progress": {},
    "settings": {}, "vocabulary": b"v", "labels": {}, "data_fingerprint": "f",
}  # fmt: skip


def fill(run, *names):
    (run / "checkpoints").mkdir(parents=True, exist_ok=True)
    files = [run / "checkpoints" / name for name in names]
    for file in files:
        file.touch()
    return files


def names(run):
    return [file.name for file in all_of(run)]


# names


@pytest.mark.parametrize("score", [2.7183, -0.25, 1e-7, 1.5e20, 0.0, 123456.0, float("nan"), float("inf"), None])
@pytest.mark.parametrize("metric", ["loss", "macro_f1", "Accuracy"])
def test_names_are_read_back(score, metric, tmp_path):
    (file,) = fill(tmp_path, name_of(42, metric, score))
    assert all_of(tmp_path) == [file] and step_of(file) == 42
    expected = None if score is None or score != score or score == float("inf") else pytest.approx(score, rel=1e-5)
    assert score_of(file) == expected


def test_strange_files_are_no_checkpoints(tmp_path):
    fill(tmp_path, "step-5.pt", "step-.pt", "step-x.pt", "step-7.pt.bak", "step-8_loss-1.2.3.pt", ".step-9.pt.1.tmp")
    assert names(tmp_path) == ["step-5.pt"]


def test_best_is_the_first_with_the_best_score_and_the_newest_without_one(tmp_path):
    with pytest.raises(CheckpointError, match="no checkpoint"):
        best_of(tmp_path, "min")
    fill(tmp_path, "step-2.pt", "step-10.pt")
    assert best_of(tmp_path, "min").name == "step-10.pt"
    fill(tmp_path, "step-3_loss-2.pt", "step-4_loss-1.5.pt", "step-5_loss-1.5.pt", "step-6_loss-9.pt")
    assert best_of(tmp_path, "min").name == "step-4_loss-1.5.pt"  # the other was saved because it was time to
    assert best_of(tmp_path, "max").name == "step-6_loss-9.pt"


@pytest.mark.parametrize(
    "keep_last, keep_best, kept", [(1, 0, [6]), (2, 1, [2, 5, 6]), (1, 2, [2, 4, 6]), (9, 0, range(1, 7))]
)
def test_the_last_and_the_best_are_kept(keep_last, keep_best, kept, tmp_path):
    fill(tmp_path, "step-1_loss-9.pt", "step-2_loss-1.pt", "step-3.pt", "step-4_loss-2.pt", "step-5_loss-3.pt")
    fill(tmp_path, "step-6.pt", "notes.txt")
    prune(tmp_path, keep_last, keep_best, "min")
    assert [step_of(file) for file in all_of(tmp_path)] == list(kept)
    assert (tmp_path / "checkpoints" / "notes.txt").exists()


def test_every_so_many_steps_are_kept_too(settings, tmp_path):
    fill(tmp_path, "step-1_loss-9.pt", "step-2_loss-1.pt", "step-3.pt", "step-4.pt", "step-5.pt", "step-6.pt")
    prune(tmp_path, 1, 0, "min", 3)
    assert [step_of(file) for file in all_of(tmp_path)] == [3, 6]
    train(settings(run={"save_every": 1, "keep_last": 1, "keep_best": 0, "keep_every": 2}, train={"steps": 5}))
    assert [step_of(file) for file in all_of(tmp_path / "run")] == [2, 4, 5]


def test_a_run_keeps_what_it_is_told(settings, tmp_path):
    train(settings(run={"save_every": 1, "keep_last": 2, "keep_best": 1}, train={"valid_every": 1}, optim={"lr": 1e-2}))
    assert [step_of(file) for file in all_of(tmp_path / "run")] in ([5, 6], [4, 5, 6], [3, 5, 6], [2, 5, 6], [1, 5, 6])
    state = load(best_of(tmp_path / "run", "min"))
    assert state["progress"]["best"] == state["progress"]["validated"]["loss"]


# writing


@pytest.mark.parametrize("call", ["os.fsync", "os.replace", "torch.save"])
def test_a_kill_in_the_middle_leaves_the_old_ones_whole(call, settings, tmp_path, monkeypatch):
    train(settings("whole"))
    chosen = settings(train={"steps": 6}, run={"save_every": 2, "keep_best": 0, "keep_last": 9})
    real = {"os.fsync": os.fsync, "os.replace": os.replace, "torch.save": torch.save}[call]

    def die(*arguments, **options):
        name = str(getattr(arguments[0], "name", arguments[-1]))
        if call == "os.fsync":
            name = os.readlink(f"/proc/self/fd/{arguments[0]}")
        if call == "torch.save":
            name = arguments[1].name
        if "step-4" in name:
            if call == "torch.save":
                arguments[1].write(b"half of it")
            raise Crash
        return real(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(call, die)
        with pytest.raises(Crash):
            train(chosen)
    assert [step_of(file) for file in all_of(tmp_path / "run")] == [2]
    (tmp_path / "run" / "checkpoints" / ".step-4.pt.1.tmp").write_bytes(b"half of it")  # as a kill -9 leaves it
    train(chosen)
    assert not list((tmp_path / "run" / "checkpoints").glob(".*"))
    same_runs(tmp_path / "whole", tmp_path / "run")


def full_disk(folder, file):
    """Body of a process whose files may not grow beyond 100 kB."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
    big = {**STATE, "model": {"a": torch.zeros(100_000)}}
    try:
        save(file, big)
    except StorageError as error:
        (folder / "message").write_text(str(error))


@pytest.mark.fault(36)
def test_a_full_disk_is_named_and_the_file_before_is_whole(tmp_path):
    file = tmp_path / "checkpoints" / "step-3.pt"
    save(file, STATE)
    process = SPAWN.Process(target=full_disk, args=(tmp_path, file))
    process.start()
    process.join(30)
    text = (tmp_path / "message").read_text()
    assert "No space left" in text and str(file) in text and "MiB free" in text
    assert torch.equal(load(file)["model"]["a"], STATE["model"]["a"])
    assert os.listdir(file.parent) == ["step-3.pt"]


def test_a_folder_that_cannot_be_written(settings, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="cannot be written"):
        save(tmp_path / "file" / "step-1.pt", STATE)
    with pytest.raises(StorageError, match="cannot be written"):
        train(settings("file/run"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder_is_found_out_at_the_start(settings, tmp_path):
    (tmp_path / "run").mkdir(mode=0o500)
    with pytest.raises(StorageError):
        train(settings())


# reading


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    """A run with checkpoints at 2, 4 and 6, to be copied and not touched."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    train(make(data, folder, run={"save_every": 2, "keep_last": 9}))
    return folder


def flip(file, record):
    """Changes one bit in the middle of a record of the archive."""
    with zipfile.ZipFile(file) as archive:
        info = archive.infolist()[record]
        position = info.header_offset + 30 + len(info.filename)
    content = bytearray(file.read_bytes())
    extra = int.from_bytes(content[info.header_offset + 28 : info.header_offset + 30], "little")
    content[position + extra + info.file_size // 2] ^= 16
    file.write_bytes(content)


def test_a_flipped_bit_in_any_record_is_found(trained, tmp_path):
    source = all_of(trained)[-1]
    with zipfile.ZipFile(source) as archive:
        records = [i for i, info in enumerate(archive.infolist()) if info.file_size]
    assert len(records) > 30
    for record in records:
        file = shutil.copy(source, tmp_path / source.name)
        flip(tmp_path / source.name, record)
        with pytest.raises(CheckpointError, match="checksum differs"):
            load(file.__class__(file))


@pytest.mark.fault(37)
@pytest.mark.parametrize("damage", ["cut", "empty", "random", "bit", "missing end"])
def test_a_damaged_last_one_is_named_and_the_one_before_used(damage, trained, settings, tmp_path, capfd):
    shutil.copytree(trained, tmp_path / "run")
    file = all_of(tmp_path / "run")[-1]
    content = file.read_bytes()
    if damage == "bit":
        flip(file, 5)
    else:
        half = content[: len(content) // 2]
        file.write_bytes({"cut": half, "empty": b"", "random": os.urandom(5000), "missing end": content[:-1]}[damage])
    train(settings(run={"save_every": 2, "keep_last": 1}))
    error = capfd.readouterr().err
    assert f"warning: {file}" in error and "going back" in error and "resuming" in error
    assert "at step 4" in error
    assert file.with_name(file.name + ".damaged").exists()
    same_runs(trained, tmp_path / "run")


def test_a_damaged_one_never_displaces_a_good_one(trained, settings, tmp_path, monkeypatch):
    shutil.copytree(trained, tmp_path / "run")
    for file in all_of(tmp_path / "run")[1:]:
        file.write_bytes(b"damaged")
    chosen = settings(run={"save_every": 1, "keep_last": 1, "keep_best": 0})
    assert isinstance(train_until(chosen, "stop", 4, monkeypatch), Interrupted)
    assert names(tmp_path / "run") == ["step-3.pt"]


def test_all_damaged_is_an_error(trained, settings, tmp_path):
    shutil.copytree(trained, tmp_path / "run")
    for file in all_of(tmp_path / "run"):
        file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(CheckpointError, match=r"all 3 checkpoints are damaged.*--run\.restart"):
        train(settings())
    assert len(all_of(tmp_path / "run")) == 3


def test_none_is_no_error(tmp_path):
    assert load_last(tmp_path, print) is None


class Attack:
    """Runs a command when it is unpickled."""

    def __init__(self, canary):
        self.canary = canary

    def __reduce__(self):
        return os.system, (f"touch {self.canary}",)


@pytest.mark.fault(39)
@pytest.mark.parametrize("kind", ["torch", "legacy", "pickle"])
def test_code_in_a_checkpoint_is_refused_and_never_run(kind, tmp_path):
    file, canary = tmp_path / "step-1.pt", tmp_path / "canary"
    state = {"format": 1, **STATE, "settings": Attack(canary)}
    if kind == "pickle":
        file.write_bytes(pickle.dumps(state))
    else:
        torch.save(state, file, _use_new_zipfile_serialization=kind == "torch")
    with pytest.raises(CheckpointError, match=r"step-1\.pt"):
        load(file)
    assert not canary.exists()


def rewrite(file, target, change):
    """Copies an archive record by record; `change(name, content)` gives [(name, content, compression)]."""
    with zipfile.ZipFile(file) as archive, zipfile.ZipFile(target, "w") as out:
        for record in archive.infolist():
            for name, content, packed in change(record.filename, archive.read(record)):
                out.writestr(name, content, packed)


STORED, DEFLATED = zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED
CHANGES = {
    "deflated": lambda name, content: [(name, content, DEFLATED)],
    "climbing out": lambda name, content: [(name.replace("data.pkl", "../../x"), content, STORED)],
    "absolute": lambda name, content: [(name if "pkl" not in name else "/etc/x", content, STORED)],
}


@pytest.mark.fault(40)
@pytest.mark.parametrize("change", CHANGES)
def test_an_archive_that_torch_does_not_write_is_refused(change, trained, tmp_path):
    rewrite(all_of(trained)[0], tmp_path / "step-2.pt", CHANGES[change])
    with pytest.raises(CheckpointError, match="is not an archive that torch writes"):
        load(tmp_path / "step-2.pt")


@pytest.mark.fault(40)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_doubled_records_are_refused(trained, tmp_path):
    rewrite(all_of(trained)[0], tmp_path / "step-2.pt", lambda name, content: [(name, content, STORED)] * 2)
    with pytest.raises(CheckpointError, match="is not an archive that torch writes"):
        load(tmp_path / "step-2.pt")


@pytest.mark.fault(38)
@pytest.mark.parametrize(
    "state, message",
    [
        ([1, 2], "no checkpoint of taskmask"),
        ({"weights": torch.ones(2)}, "no checkpoint of taskmask"),
        ({**STATE, "format": 99}, "has format 99; expected 1"),
        ({"format": 1, "model": {}}, "lacks step, optimizer"),
        ({**STATE, "format": 1, "settings": [1]}, "lacks settings"),
    ],
)
def test_files_of_others_and_of_the_future(state, message, tmp_path):
    torch.save(state, tmp_path / "step-1.pt")
    with pytest.raises(CheckpointError, match=message):
        load(tmp_path / "step-1.pt")


def test_other_zips_folders_and_nothing(tmp_path):
    with zipfile.ZipFile(tmp_path / "step-1.pt", "w") as archive:
        archive.writestr("readme.txt", "hello")
    (tmp_path / "step-2.pt").mkdir()
    for number in (1, 2, 3):
        with pytest.raises(CheckpointError, match=f"step-{number}"):
            load(tmp_path / f"step-{number}.pt")


@pytest.mark.fault(38)
def test_a_checkpoint_of_another_model_is_named(trained, settings, tmp_path):
    train(settings("small", model={"width": 16}, train={"steps": 2}))
    shutil.copytree(trained, tmp_path / "run")
    shutil.copy(all_of(tmp_path / "small")[-1], tmp_path / "run" / "checkpoints" / "step-99.pt")
    with pytest.raises(CheckpointError, match=r"does not fit the model: .*size mismatch"):
        train(settings())


@pytest.mark.fault(43)
def test_already_finished_rewrites_nothing(trained, settings, tmp_path, capfd):
    shutil.copytree(trained, tmp_path / "run")
    chosen = settings(run={"save_every": 2, "keep_last": 9})
    train(chosen)  # the copy has another folder in its settings
    before = {file: file.stat().st_mtime_ns for file in (tmp_path / "run").rglob("*") if file.name not in TOUCHED}
    summary = train(chosen)
    after = {file: file.stat().st_mtime_ns for file in (tmp_path / "run").rglob("*") if file.name not in TOUCHED}
    assert before == after and summary.step == 6 and summary.metrics
    assert "already finished at step 6" in capfd.readouterr().err


def test_two_runs_in_one_folder(settings, tmp_path):
    from taskmask.training.run_folder import lock

    with lock(tmp_path / "run"):
        for restart in (False, True):
            with pytest.raises(ConfigError, match=f"another process is at work in it .*process {os.getpid()}, since"):
                train(settings(), restart=restart)
    assert train(settings(train={"steps": 1})).step == 1


def test_state_holds_all_that_a_stranger_needs(trained):
    state = last(trained)
    assert {"vocabulary", "labels", "versions", "data_fingerprint"} <= state.keys()
    assert checkpoint.load(all_of(trained)[-1])["settings"]["model"]["name"] == "tiny"


# a checkpoint that does not fit what is asked


def ends(capfd, config, *words):
    """The exit code of taskmask-train with these settings, and its last line."""
    capfd.readouterr()
    code = front.run(train_verb.main, ["--config", str(config), *map(str, words)])
    shown = capfd.readouterr().err
    assert "Traceback" not in shown
    return code, shown.splitlines()[-1]


def copied(trained, folder, step=2):
    """Copies a run up to a step; returns what its checkpoints and its log hold."""
    shutil.copytree(trained, folder)
    for file in all_of(folder):
        if step_of(file) > step:
            file.unlink()
    return {file: file.read_bytes() for file in sorted(folder.rglob("*")) if file.suffix in (".pt", ".jsonl")}


@pytest.mark.fault(19, 20)
@pytest.mark.parametrize("kind", ["other text", "other vocabulary"])
def test_changed_data_ends_a_resume_with_both_fingerprints(
    kind, trained, other_data, other_vocabulary, tmp_path, capfd
):
    other = other_data if kind == "other text" else other_vocabulary
    before = copied(trained, tmp_path / "run")
    code, last = ends(capfd, trained / "settings.json", "--run", tmp_path / "run", "--data", other)
    own = load(all_of(tmp_path / "run")[-1])["data_fingerprint"]
    assert code == 4 and f"was trained on data {own[:12]}; expected the data of {other}, " in last
    assert own[:12] not in last.partition("expected")[2] and "--train.init_from" in last
    assert all(file.read_bytes() == content for file, content in before.items())


@pytest.mark.fault(19)
def test_another_vocabulary_is_named_by_both_fingerprints(trained, data, other_vocabulary, tmp_path, capfd):
    own, other = (Dataset.open(path).vocabulary().fingerprint[:12] for path in (data, other_vocabulary))
    words = ["--run", tmp_path / "new", "--data", other_vocabulary, "--train.init_from", trained]
    code, last = ends(capfd, trained / "settings.json", *words)
    assert code == 4 and f"vocabulary {own}; expected that of the dataset, {other}; " in last
    with pytest.raises(CheckpointError, match=rf"vocabulary {own}; expected that of dataset .*, {other}; "):
        evaluate(str(trained), data=str(other_vocabulary))


@pytest.mark.fault(45)
def test_changed_settings_end_a_resume_with_the_list_of_changes(trained, tmp_path, capfd):
    before = copied(trained, tmp_path / "run")
    words = ["--optim.lr", "0.1", "--masker", "span", "--train.seed", "7", "--data.length", "16"]
    words += ["--train.micro_batches_per_step", "2", "--run", tmp_path / "run"]
    code, last = ends(capfd, trained / "settings.json", *words)
    assert code == 2
    for change in ("optim.lr was 0.0005, is 0.1", "masker.name was 'uniform', is 'span'", "train.seed was 1, is 7"):
        assert change in last
    for change in ("train.micro_batches_per_step was 1, is 2", "data.length was 32, is 16", "--run.restart"):
        assert change in last
    assert all(file.read_bytes() == content for file, content in before.items())


@pytest.mark.fault(38)
@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda weights: weights.pop("model.heads.mlm.dense.weight"), r"Missing key.*heads\.mlm\.dense\.weight"),
        (lambda weights: weights.update(strange=torch.ones(1)), r"Unexpected key.*strange"),
        (lambda weights: weights.update({"model.heads.mlm.norm.bias": torch.ones(5)}), r"size mismatch.*\[5\].*\[32\]"),
    ],
)
def test_weights_of_another_model_are_named_both_ways(change, says, trained, tmp_path, capfd):
    copied(trained, tmp_path / "run")
    (file,) = all_of(tmp_path / "run")
    state = load(file)
    change(state["model"])
    save(file, state)
    code, last = ends(capfd, trained / "settings.json", "--run", tmp_path / "run")
    assert code == 4 and re.search(f"does not fit the model: .*{says}", last), last
    with pytest.raises(CheckpointError, match=f"does not fit the model: .*{says}"):
        evaluate(str(file))


# content that no run saves


def moments(change):
    """Tries the moments of a small AdamW after a change of them."""
    weight = torch.nn.Parameter(torch.ones(3, 2))
    optimizer = torch.optim.AdamW([weight], fused=True)
    weight.grad = torch.ones(3, 2)
    optimizer.step()
    state = optimizer.state_dict()
    change(state["state"][0])
    put_moments(torch.optim.AdamW([weight], fused=True), state)


def test_moments_that_do_not_fit_are_refused():
    """torch reads beyond the end of them, where it is not told."""
    moments(lambda state: None)
    for change in (
        lambda state: state.update(exp_avg=torch.ones(1)),
        lambda state: state.update(exp_avg=torch.ones(2, 3)),
        lambda state: state.update(step=torch.ones(2)),
        lambda state: state.update(step=5),
        lambda state: state.update(exp_avg_sq=torch.ones(3, 2).to_sparse()),
        lambda state: state.update(other=torch.ones(3, 2)),
        lambda state: state.pop("exp_avg"),
    ):
        with pytest.raises(ValueError, match="moments"):
            moments(change)


@pytest.mark.parametrize(
    "found",
    [5, None, [], {"a": "1"}, {"a": True}, {"a": -1}, {"a": 1 << 62}, {"a": 1.0}, {"x": 1}, {"b": 5}, {"b": {"c": "x"}},
     {"d": {5: 1.0}}, {"d": {"x": [1]}}, {"e": "x"}, {"e": False}, {"f": [None]}, {"f": 5}, {"g": -2}],
)  # fmt: skip
def test_numbers_of_another_kind_are_refused(found):
    own = {"a": 0, "b": {"c": 0.0}, "d": {}, "e": None, "f": [], "g": -1}
    check_like({"a": 5, "b": {"c": 1}, "d": {"x": float("nan")}, "e": None, "f": [1.0, 2], "g": -1}, own)
    check_like({"e": 0.5}, own)
    with pytest.raises(CheckpointError, match="holds what no run saves"), contents_of("file"):
        check_like(found, own)
