"""Outputs of every verb: tried before the work, whole or not at all, through links, never over data, in any path."""

import os
import subprocess
import sys

import pytest

from taskmask.errors import ConfigError, DataError, StorageError
from taskmask.system.files import as_utf8, resolve_output, write_output, write_text
from taskmask_cli import collocations, inspect, variance

ODD = "p\udcff.out"  # as the shell gives it: the byte 0xff is no UTF-8
FEW = ["--rows", "2"]


def in_a_process(code, folder, redirect=""):
    """Runs Python code behind a redirection of the shell; returns what comes out of it."""
    command = f'"$0" -c "$1" {redirect}'
    return subprocess.run(["bash", "-c", command, sys.executable, code], cwd=folder, capture_output=True, timeout=60)


@pytest.mark.fault(63)
def test_what_cannot_be_an_output_is_refused_before_the_work(tmp_path):
    (tmp_path / "link").symlink_to("nowhere")
    (tmp_path / "file").touch()
    (tmp_path / "d" / "train").mkdir(parents=True)
    for name in ("dataset.json", "train/tokens.bin", "step-4.pt", "settings.json", "log.jsonl", "mine.toml"):
        (tmp_path / "d" / name).touch()
    (tmp_path / "to-header").symlink_to("d/dataset.json")
    for name, error, said in (
        ("d", ConfigError, "--html .*d: is a folder"),
        ("link", ConfigError, "is a link that leads nowhere"),
        ("d/dataset.json", ConfigError, "would replace data, weights or settings"),
        ("to-header", ConfigError, "would replace data, weights or settings"),
        ("d/train/tokens.bin", ConfigError, "would replace data, weights or settings"),
        ("d/step-4.pt", ConfigError, "would replace data, weights or settings"),
        ("d/settings.json", ConfigError, "would replace data, weights or settings"),
        ("d/log.jsonl", ConfigError, "would replace data, weights or settings"),
        ("d/mine.toml", ConfigError, "would replace data, weights or settings"),
        ("file/page.html", StorageError, "cannot be written: Not a directory"),
    ):
        with pytest.raises(error, match=said):
            resolve_output(tmp_path / name, "--html")
    resolve_output(tmp_path / "new" / "folder" / "page.html", "--html")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["d", "file", "link", "to-header"]


@pytest.mark.fault(63)
def test_links_are_written_through_and_a_folder_made_meanwhile_is_not_touched(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "disk" / "page").write_text("old")
    (tmp_path / "page").symlink_to("disk/page")
    out = resolve_output(tmp_path / "page", "--html")
    write_text(out, "new \udcff")
    assert (tmp_path / "page").is_symlink() and (tmp_path / "disk" / "page").read_bytes() == b"new \\udcff"
    (tmp_path / "disk" / "page").unlink()
    (tmp_path / "disk" / "page").mkdir()
    with pytest.raises(DataError, match=r"was made a folder during the work; .* is kept as .*page\.new-1"):
        write_text(out, "newer")
    assert (tmp_path / "disk" / "page.new-1").read_text() == "newer" and not list((tmp_path / "disk/page").iterdir())


@pytest.mark.fault(63)
@pytest.mark.parametrize("redirect, shown", [("| cat", True), ("> kept; cat kept", True), (">> kept; cat kept", True)])
def test_standard_output_is_written_to_as_it_is(redirect, shown, tmp_path):
    code = "from taskmask.system.files import *; print('before'); out = resolve_output('/dev/stdout', '--html');"
    code += "write_text(out, 'page\\n'); print('after')"
    assert in_a_process(code, tmp_path, redirect).stdout.split() == [b"before", b"page", b"after"]


@pytest.mark.fault(63)
def test_devices_and_pipes_are_written_to_as_they_are(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    code = "from taskmask.system.files import *; write_text(resolve_output('pipe', '--html'), 'page')"
    assert in_a_process(code, tmp_path, "& cat pipe; wait").stdout == b"page"
    assert (tmp_path / "pipe").is_fifo()
    with pytest.raises(StorageError, match="/dev/full: cannot be written: No space left"):
        write_text(resolve_output("/dev/full", "--html"), "page")


@pytest.mark.fault(63)
def test_a_full_disk_leaves_the_old_file(tmp_path, monkeypatch):
    (tmp_path / "page").write_text("old")
    monkeypatch.setenv("TASKMASK_FAULT", "full@file.fsync")
    with pytest.raises(StorageError), write_output(tmp_path / "page") as file:
        file.write(as_utf8("new"))
    assert (tmp_path / "page").read_text() == "old" and len(list(tmp_path.iterdir())) == 1


@pytest.mark.fault(46)
def test_strange_paths_of_pages(trained, data, tmp_path, capsys):
    """The paths of dataset and page stand in the pages."""
    strange = tmp_path / "d\udcff"
    strange.symlink_to(data)
    for main, words in (
        (inspect.main, ["--masker", "uniform", "--sample", "4", "--draws", "1"]),
        (variance.main, ["--from", trained, "--masker", "uniform", *FEW, "--draws", "2"]),
        (collocations.main, ["--min-count", "2"]),
    ):
        option = "--out" if main is collocations.main else "--html"
        page = tmp_path / f"{main.__module__}-{ODD}"
        assert main(["--data", str(strange), *words, option, str(page)]) == 0
        assert len(page.read_bytes()) > 20 and "\\udcff" in capsys.readouterr().out


@pytest.mark.fault(63)
def test_outputs_are_tried_before_the_work(trained, data, tmp_path, monkeypatch):
    def no_work(*_, **__):
        raise AssertionError("the work has begun")

    monkeypatch.setattr("taskmask.analysis.inspect.inspection.inspect", no_work)
    monkeypatch.setattr("taskmask.analysis.variance.measure.variance", no_work)
    monkeypatch.setattr("taskmask.span_columns.collocations.collocations", no_work)
    monkeypatch.setattr("taskmask.inference.loaded_model.load", no_work)
    from taskmask_cli import annotate

    of_run = ["--from", trained]
    for main, words in (
        (inspect.main, ["--html"]),
        (variance.main, [*of_run, "--html"]),
        (variance.main, [*of_run, "--tensorboard"]),
        (collocations.main, ["--out"]),
        (annotate.main, [*of_run, "--column", "c=label", "--to-tsv"]),
    ):
        (tmp_path / "file").touch()
        with pytest.raises(StorageError, match="Not a directory"):
            main(["--data", data, *words, str(tmp_path / "file" / "out")])


def test_files_are_opened_for_writing_in_one_place():
    """The exceptions write to temporary folders of their own, or to descriptors."""
    import ast
    from pathlib import Path

    import taskmask

    allowed = {"files.py", "locks.py", "other_process.py", "streams.py", "run_log.py", "console.py", "main.py"}
    wrong = []
    root = Path(taskmask.__file__).parent.parent
    for file in [*root.glob("taskmask/**/*.py"), *root.glob("taskmask_cli/*.py")]:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and file.name not in allowed:
                name = ast.unparse(node.func)
                modes = [a.value for a in node.args[1:2] if isinstance(a, ast.Constant) and isinstance(a.value, str)]
                opens = name in ("open", "os.open", "io.open") and any(set(mode) & set("wax+") for mode in modes)
                if opens or name.endswith((".write_text", ".write_bytes", ".mkstemp", ".touch")):
                    wrong.append(f"{file}:{node.lineno} {name}")
    assert not wrong, "\n".join(wrong)
