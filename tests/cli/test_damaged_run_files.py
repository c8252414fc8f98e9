"""Files of a run that are damaged: what reads them says so in one line, or does without them."""

import random
import shutil
from pathlib import Path

import pytest

from taskmask_cli import main

CONTENTS = [
    b"", b"null", b"[]", b"{}", b"{", b"0", b'"x"', b"[null]", b"\xff\xfe", b"[" * 5000, b'{"a": 1, "a": 2}',
    b'{"exit_code": {}}', b'{"kind": []}\n{"step": "x"}\n', b'{"kind": "valid", "step": null}\n',
]  # fmt: skip


@pytest.mark.fault(47, 69)
@pytest.mark.parametrize("name", ["settings.json", "log.jsonl", "exit.json", "environment.json", "vocab.model"])
def test_damaged_files_of_a_run(name, trained, data, tiny, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    whole, file, rng = (Path(trained) / name).read_bytes(), Path("run") / name, random.Random(name)
    changes = list(CONTENTS)
    for bit in rng.sample(range(8 * len(whole)), 12):
        changes.append(whole[: bit // 8] + bytes([whole[bit // 8] ^ 1 << bit % 8]) + whole[bit // 8 + 1 :])
    shutil.copytree(trained, "run")
    for content in [*changes, whole[: len(whole) // 2], whole]:
        for command in (
            ["predict", "--from", "run", "a <mask>"],
            ["evaluate", "--from", "run", "--split", "valid"],
            ["train", "--data", data, "--run", "run", *tiny],  # which is done
        ):
            file.write_bytes(content)
            capfd.readouterr()
            code = main.run(main.main, command)
            error = capfd.readouterr().err
            assert code in ((0,) if content is whole else (0, 2, 3, 4)), (command, content[:99], error)
            assert "Traceback" not in error and error.count("taskmask: error: ") == (code != 0), (command, content[:99])


@pytest.mark.fault(6)
def test_a_damaged_vocabulary_of_a_run_is_not_lent(trained, texts, tmp_path, monkeypatch, capfd):
    """A piece with another letter is a vocabulary, too: only the checksum tells."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(trained, "run")
    command = ["preprocess", "--train", str(texts / "train.txt"), "--out", "d", "--workers", "0", "--vocab", "run"]
    file, whole = Path("run/vocab.model"), Path("run/vocab.model").read_bytes()
    for bit in range(5, 8 * len(whole), 1999):
        file.write_bytes(whole[: bit // 8] + bytes([whole[bit // 8] ^ 1 << bit % 8]) + whole[bit // 8 + 1 :])
        assert main.run(main.main, command) == 3 and not Path("d").exists()
        assert "vocab.model: is damaged, or was replaced; expected checksum of" in capfd.readouterr().err
    file.write_bytes(whole)
    assert main.run(main.main, command) == 0
    Path("run/vocab.model.sha256").write_bytes(b"\xff")
    assert main.run(main.main, [*command, "--overwrite"]) == 3
    Path("run/vocab.model.sha256").unlink()  # of an older run
    assert main.run(main.main, [*command, "--overwrite"]) == 0
