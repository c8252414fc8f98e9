"""Files that are far larger than their kind ever is, or never end: refused at once, without memory."""

import json
import os
import struct
import subprocess
import sys
import threading
import time

import pytest
import torch

from taskmask.errors import TaskmaskError
from taskmask.tokenizer.tokenizer import Vocabulary
from taskmask_cli import main as front

HUGE = 3 << 30


def grow(file):
    """Makes a file 3 GB large; it holds nothing more, so that it takes no room on the disk."""
    with open(file, "ab") as stream:
        stream.truncate(HUGE)
    return file


@pytest.mark.fault(75)
def test_headers_and_vocabularies(dataset, refused_cheaply):
    grow(dataset / "vocab.model")
    said = refused_cheaply("Dataset.open(path).vocabulary()", [dataset], 3)
    grow(dataset / "dataset.json")
    said |= refused_cheaply("Dataset.open(path)", [dataset], 3)
    assert "MiB" in said["data"]


@pytest.mark.fault(75)
def test_settings_and_runs(tmp_path, refused_cheaply, good_state):
    run = tmp_path / "run"
    (run / "checkpoints").mkdir(parents=True)
    files = [grow(tmp_path / "a.toml"), grow(tmp_path / "a.json")]
    refused_cheaply("import taskmask.config.fields; taskmask.config.read_file(path)", files, 2)
    refused_cheaply("from taskmask.preprocess.label_names import read_label_names as f; f([path], ['label'])", files, 2)
    torch.save({**good_state, "format": 1}, run / "checkpoints" / "step-1.pt")
    grow(run / "settings.json")
    refused_cheaply("loaded_model.load(path)", [run], 4)


@pytest.mark.fault(75)
def test_the_index_of_a_checkpoint(tmp_path, refused_cheaply):
    file = grow(tmp_path / "step-1.pt")
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 1, 1, HUGE - 22, 0, 0)  # the whole file is said to be the index
    with open(file, "r+b") as stream:
        stream.seek(HUGE - len(end))
        stream.write(end)
    assert "too large" in refused_cheaply("loaded_model.load(path)", [file], 4)["step-1.pt"]


@pytest.mark.fault(75)
def test_folders_of_hugging_face(tmp_path, refused_cheaply):
    pytest.importorskip("safetensors")
    grow(tmp_path / "config.json")
    line = "import pathlib; from taskmask.hf.weight_files import read_json\n"
    line += "read_json(pathlib.Path(path) / 'config.json')"
    refused_cheaply(line, [tmp_path], 4)
    grow(tmp_path / "tokenizer.json")
    refused_cheaply("from taskmask.tokenizer.tokenizer import Vocabulary; Vocabulary.load(path)", [tmp_path], 3)


MEASURED = """import atexit, re
from taskmask_cli.main import cli
atexit.register(lambda: print(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]))
cli()"""


def endless(words, feed=b"a = 1\n"):
    """Runs a command whose standard input never ends; returns its exit code, output and peak of memory in MiB."""
    child = subprocess.Popen(
        [sys.executable, "-c", MEASURED, *words],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )

    def write():
        try:
            while True:
                child.stdin.write(feed * 10_000)
        except OSError:
            pass

    threading.Thread(target=write, daemon=True).start()
    began = time.monotonic()
    *lines, peak = child.stdout.read().decode().splitlines()
    code = child.wait()
    child.stdin.close()
    assert time.monotonic() - began < 60
    return code, lines, int(peak) // 1024


@pytest.mark.fault(75)
@pytest.mark.parametrize(
    "words",
    [
        ["train", "--config", "/dev/stdin"],
        ["train", "--config", "/dev/zero"],
        ["compare", "/dev/stdin", "--dry-run"],
        ["preprocess", "--train", "train.jsonl", "--out", "data", "--label-names", "/dev/stdin"],
    ],
)
def test_what_never_ends(words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    (tmp_path / "train.jsonl").write_text(json.dumps({"text": "a b", "label": 0}) + "\n")
    code, lines, memory = endless(words)
    assert code == 2 and "larger than" in lines[0] and len(lines) == 1, lines
    assert memory < 700 if words[0] == "compare" else memory < 250  # that of torch included


def test_a_pipe_that_ends_is_read(tmp_path):
    reading, writing = os.pipe()
    os.write(writing, b"[train]\nsteps = 7\n")
    os.close(writing)
    from taskmask.config import read_file

    assert [(one.key, one.value) for one in read_file(f"/dev/fd/{reading}")] == [("train.steps", 7)]
    os.close(reading)


def test_a_pipe_in_a_folder_of_others_is_not_waited_for(dataset):
    for name, attempt in (("vocab.model", Vocabulary.load), ("dataset.json", Vocabulary.load)):
        (dataset / name).unlink()
        os.mkfifo(dataset / name)
        with pytest.raises(TaskmaskError):
            attempt(dataset)
        assert front.run(front.main, ["list", "--data", str(dataset)]) == 3
        (dataset / name).unlink()


def test_records_of_a_run_that_are_damaged_are_no_traceback(tmp_path):
    from taskmask.inference.multi_seed import unfinished

    for name in ("settings.json", "log.jsonl"):
        (tmp_path / name).write_text("{}")
    for content in ("", "[" * 100_000, "[]", "null", '{"exit_code": 1}'):
        (tmp_path / "exit.json").write_text(content)
        assert unfinished([str(tmp_path)]) == [str(tmp_path)]
    (tmp_path / "exit.json").write_text('{"exit_code": 0}')
    assert unfinished([str(tmp_path)]) == []
