"""Checkpoints from strangers: refused with exit code 4, nothing run, little allocated.

Damaged ones, and the plain pickle attacks, stand in tests/training/test_checkpoint.py.
"""

import os
import pickle
import random
import struct
import subprocess
import sys
import zipfile

import pytest
import torch

from taskmask.errors import CheckpointError, DataError, TaskmaskError
from taskmask.inference import loaded_model

GIB = 1 << 30


class Payload:
    """Unpickles by calling something."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def refused(file, match=None, error=CheckpointError):
    with pytest.raises(error, match=match) as caught:
        loaded_model.load(str(file))
    assert caught.value.exit_code in (3, 4)
    return str(caught.value)


def archive(file, state, change=lambda name, content: content, **options):
    """Saves a state and rewrites the records of its archive."""
    torch.save({"format": 1, **state}, file)
    with zipfile.ZipFile(file) as old:
        records = [(record.filename, old.read(record)) for record in old.infolist()]
    with zipfile.ZipFile(file, "w", **options) as new:
        for name, content in records:
            new.writestr(name, change(name, content))
    return file


# code


@pytest.mark.fault(39)
@pytest.mark.parametrize("function", ["os.system", "exec", "eval", "subprocess.Popen", "torch.load", "torch.hub.load"])
def test_no_callable_of_a_pickle_is_called(function, good_state, tmp_path):
    canary = tmp_path / "canary"
    text = f"open({str(canary)!r}, 'w')"
    payload = {
        "os.system": Payload(os.system, f"touch {canary}"),
        "exec": Payload(exec, text),
        "eval": Payload(eval, text),
        "subprocess.Popen": Payload(subprocess.Popen, ["touch", str(canary)]),
        "torch.load": Payload(torch.load, str(tmp_path / "other.pt")),
        "torch.hub.load": Payload(torch.hub.load, str(tmp_path), "model", "local"),
    }[function]
    (tmp_path / "other.pt").write_bytes(pickle.dumps(Payload(os.system, f"touch {canary}")))
    (tmp_path / "hubconf.py").write_text(text)
    for place in ("settings", "labels", "optimizer"):
        torch.save({"format": 1, **good_state, place: {"a": payload}}, tmp_path / "step-1.pt")
        text = refused(tmp_path / "step-1.pt")
        assert "weights_only" not in text and "trust" not in text and "\x1b" not in text  # no advice to run it
    assert not canary.exists()


@pytest.mark.fault(39)
def test_torchscript_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "step-1.pt", "w") as archive:
        archive.writestr("m/constants.pkl", pickle.dumps((), 2))
        archive.writestr("m/data.pkl", b"\x80\x02c__torch__\nM\n)\x81.")
        archive.writestr("m/code/__torch__.py", "class M(Module):\n  pass\n")
        archive.writestr("m/version", "3\n")
    refused(tmp_path / "step-1.pt", "not an archive that torch writes")


@pytest.mark.fault(39)
def test_a_checkpoint_loads_no_plug_in(good_state, tmp_path, monkeypatch):
    canary = tmp_path / "canary"
    (tmp_path / "evil.py").write_text(f"open({str(canary)!r}, 'w')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    for name in ("evil", "evil:Model", "evil.py", str(tmp_path / "evil.py"), "../evil", "taskmask.evil"):
        for section in ("task", "model", "masker", "criterion"):
            settings = {**good_state["settings"], section: {"name": name}}
            torch.save({"format": 1, **good_state, "settings": settings}, "step-1.pt")
            if section == "masker":  # which is not needed to open a run
                assert loaded_model.load("step-1.pt").settings.masker.name == name
            else:
                refused("step-1.pt", "needs a component")
    for extra in ({"user_dir": "evil.py"}, {"run": {"user_dir": "evil.py"}}, {"config": "evil.py"}):
        torch.save({"format": 1, **good_state, "settings": {**good_state["settings"], **extra}}, "step-1.pt")
        refused("step-1.pt", "unknown option")
    assert "evil" not in sys.modules and not canary.exists()


# content


def test_what_is_spoilt_loads_when_whole(good_state, tmp_path):
    torch.save({"format": 1, **good_state}, tmp_path / "step-1.pt")
    assert loaded_model.load(str(tmp_path / "step-1.pt")).predict(["the <mask> fox"], 1)


@pytest.mark.parametrize("change", [
    {"average": 5}, {"average": {"a": 5}}, {"model": {"a": 5}}, {"model": {5: torch.ones(1)}},
    {"format": torch.ones(3)}, {"format": True}, {"format": "1"}, {"format": [1]},
    {"settings": {"model": torch.ones(3)}}, {"settings": {5: {6: 7}}}, {"settings": {"model": {1: 2, "a": 3}}},
    {"settings": {"data": {"length": torch.ones(5)}}}, {"vocabulary": "text"},
])  # fmt: skip
def test_wrong_types(change, good_state, tmp_path):
    torch.save({"format": 1, **good_state, **change}, tmp_path / "step-1.pt")
    refused(tmp_path / "step-1.pt")


def test_a_missing_part(good_state, tmp_path):
    for name in good_state:
        state = {key: value for key, value in good_state.items() if key != name}
        torch.save({"format": 1, **state}, tmp_path / "step-1.pt")
        refused(tmp_path / "step-1.pt", f"lacks {name}")


def test_hostile_vocabularies(good_state, vocabulary, tmp_path):
    """Random bytes, and a good model with bytes changed: refused, or read as another vocabulary."""
    rng = random.Random(0)
    models = [rng.randbytes(size) for size in (1, 10, 1000)] + [b"\x0a\xff\xff\xff\xff\x0f", b"\x0a" * 5000]
    for number in (1, 3, 10, 30, 100) * 4:
        model = bytearray(vocabulary.model_bytes)
        for _ in range(number):
            model[rng.randrange(len(model))] = rng.randrange(256)
        models += [bytes(model), bytes(model[: rng.randrange(len(model))])]
    bad = 0
    for model in models:
        torch.save({"format": 1, **good_state, "vocabulary": model}, tmp_path / "step-1.pt")
        try:
            loaded_model.load(str(tmp_path / "step-1.pt")).vocab.encode(["the quick fox"])
        except DataError:
            bad += 1
    assert bad > len(models) // 2


# memory


def doubled(levels):
    """A nest that is small in a pickle and has 2**levels leaves."""
    nest = [0]
    for _ in range(levels):
        nest = [nest, nest]
    return nest


def deep(levels):
    """Lists in lists, pickled by hand: pickle itself would not go so deep."""
    return b"\x80\x02" + b"]" * levels + b"a" * (levels - 1) + b"."


def huge(file, state, old, new):
    """A checkpoint whose pickle declares another number of elements than its record has."""
    number = 7777
    state = {**state, "optimizer": {"a": torch.zeros(number)}}
    short, long = b"M" + struct.pack("<H", number), b"\x8a\x08" + struct.pack("<q", new)

    def change(name, content):
        if not name.endswith("data.pkl"):
            return content
        places = content.count(short)
        assert places >= 2  # in the storage, and in the size of the tensor
        if old == "both":
            return content.replace(short, long)
        at = content.find(short) if old == "storage" else content.rfind(short)
        return content[:at] + long + content[at + len(short) :]

    return archive(file, state, change)


@pytest.mark.slow
@pytest.mark.fault(40)
def test_memory_bombs(good_state, tmp_path, refused_cheaply):
    def save(name, **changes):
        torch.save({"format": 1, **good_state, **changes}, tmp_path / name)

    save("format-doubled.pt", format=doubled(22))
    save("settings-doubled.pt", settings={"model": {"width": doubled(22)}})
    save("name-doubled.pt", settings={"model": {"name": doubled(22)}})
    save("progress-doubled.pt", progress=doubled(400))
    save("bytearray.pt", settings={"a": Payload(bytearray, 64 * GIB)})
    zeros = {"a": torch.zeros(30_000_000)}
    archive(tmp_path / "deflated.pt", {**good_state, "optimizer": zeros}, compression=zipfile.ZIP_DEFLATED)
    del zeros
    for old in ("storage", "size", "both"):
        huge(tmp_path / f"huge-{old}.pt", good_state, old, 1 << 38)
        huge(tmp_path / f"large-{old}.pt", good_state, old, 1 << 28)
    archive(tmp_path / "deep.pt", good_state, lambda n, c: deep(2_000_000) if n.endswith("data.pkl") else c)
    with zipfile.ZipFile(tmp_path / "many.pt", "w") as many:
        for number in range(20_000):
            many.writestr(f"m/{number}", b"")
    content = bytearray(archive(tmp_path / "declared.pt", good_state).read_bytes())
    at = content.rfind(b"PK\x01\x02")
    content[at + 20 : at + 28] = struct.pack("<II", 0xFFFFFFF0, 0xFFFFFFF0)
    (tmp_path / "declared.pt").write_bytes(content)
    assert len(refused_cheaply("loaded_model.load(path)", sorted(tmp_path.glob("*.pt")), 4)) == 15


@pytest.mark.fault(40)
def test_overlapping_records_are_refused(good_state, tmp_path):
    """Two names in the directory for one place in the file: small on disk, large when read."""
    file = archive(tmp_path / "step-1.pt", good_state)
    content = file.read_bytes()
    start = struct.unpack("<I", content[-6:-2])[0]
    central, end = content[start:-22], content[-22:]
    entry = central[: 46 + struct.unpack("<H", central[28:30])[0]]
    for copies in (1, 500):
        extra = b""
        for number in range(copies):
            name = b"x%05d" % number
            extra += entry[:28] + struct.pack("<HHH", len(name), 0, 0) + entry[34:46] + name
        count = struct.unpack("<H", end[8:10])[0] + copies
        tail = end[:8] + struct.pack("<HHII", count, count, len(central) + len(extra), start) + end[20:]
        file.write_bytes(content[:start] + central + extra + tail)
        refused(file)


def test_random_bytes_in_the_pickle_never_end_in_a_traceback(good_state, tmp_path):
    rng = random.Random(0)
    for _ in range(60):

        def change(name, content):
            if name.endswith("data.pkl"):
                content = bytearray(content)
                for _ in range(rng.choice([1, 2, 8])):
                    content[rng.randrange(len(content))] = rng.randrange(256)
            return bytes(content)

        file = archive(tmp_path / "step-1.pt", good_state, change)
        try:
            loaded_model.load(str(file)).model  # noqa: B018 - builds it
        except TaskmaskError as error:
            assert error.exit_code in (2, 3, 4)
    assert os.listdir(tmp_path) == ["step-1.pt"]
