"""taskmask-preprocess, as its user meets it."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import taskmask.errors
from taskmask.data.dataset import Dataset
from taskmask.errors import ConfigError, DataError, StorageError
from taskmask_cli.preprocess import main

ROOT = Path(taskmask.errors.__file__).parents[1]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}
RUN = [sys.executable, "-c", "import sys; from taskmask_cli.preprocess import main; sys.exit(main(sys.argv[1:]))"]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A folder with texts, and a dataset whose vocabulary can be reused."""
    folder = tmp_path_factory.mktemp("texts")
    (folder / "train.txt").write_text("the quick brown fox jumps over the lazy dog\nhello, world\n" * 20)
    (folder / "train.tsv").write_text("label\ttext\npos\tthe quick fox\nneg\tlazy dog\n")
    main(["--train", str(folder / "train.txt"), "--out", str(folder / "base"), "--vocab-size", "290", "--workers", "1"])
    return folder


def test_makes_a_dataset_and_says_what_is_next(files, tmp_path, capsys):
    out = tmp_path / "data"
    assert (
        main(
            [
                "--train",
                str(files / "train.tsv"),
                "--valid",
                str(files / "train.tsv"),
                "--out",
                str(out),
                "--vocab",
                str(files / "base"),
            ]
        )
        == 0
    )
    printed = capsys.readouterr().out
    assert f"next: taskmask-train --data {out} --run runs/first" in printed
    assert "label of train: neg 1, pos 1" in printed
    dataset = Dataset.open(out)
    assert dataset.labels == {"label": ["neg", "pos"]} and set(dataset.splits) == {"train", "valid"}
    assert dataset.vocabulary().fingerprint == Dataset.open(files / "base").vocabulary().fingerprint
    dataset.verify()


def test_the_next_step_starts_from_the_run_whose_vocabulary_it_is(trained, texts, tmp_path, capsys):
    out = tmp_path / "bin"
    assert main(["--train", str(texts / "valid.txt"), "--vocab", trained, "--out", str(out), "--workers", "0"]) == 0
    start = f"--run runs/next --train.init_from {trained}"
    assert f"next: taskmask-train --data {out} {start}" in capsys.readouterr().out


@pytest.mark.fault(12)
@pytest.mark.parametrize("kind", ["unigram", "bpe"])
def test_the_same_command_gives_the_same_bytes(files, tmp_path, kind):
    for out in ("a", "b"):
        main(
            [
                "--train",
                str(files / "train.txt"),
                "--out",
                str(tmp_path / out),
                "--vocab-size",
                "290",
                "--vocab-kind",
                kind,
                "--workers",
                "1" if out == "a" else "3",
            ]
        )
    assert Dataset.open(tmp_path / "a").fingerprint == Dataset.open(tmp_path / "b").fingerprint


@pytest.mark.fault(8)
def test_existing_output_is_refused_before_any_work(files, tmp_path):
    arguments = ["--train", "/nowhere.txt", "--out", str(files / "base"), "--vocab-size", "290"]
    with pytest.raises(DataError, match="--overwrite"):
        main(arguments)
    with pytest.raises(DataError, match="nowhere"):
        main([*arguments, "--overwrite"])


def test_wrong_options_end_with_2(tmp_path):
    existing = ["--vocab", "x", "--vocab-kind", "bpe"]
    for wrong in (
        existing,
        ["--vocab-size", "0"],
        ["--vocab-size", "9", "--vocab", "x"],
        ["--workers", "-1"],
        ["--nonsense"],
    ):
        with pytest.raises(ConfigError, match=r"taskmask-preprocess|--vocab-kind") as error:
            main(["--train", "a.txt", "--out", str(tmp_path / "x"), *wrong])
        assert error.value.exit_code == 2


def test_help_loads_nothing_heavy():
    code = (
        "import sys; from taskmask_cli.preprocess import make_parser; print(len(make_parser().format_help())); "
        "print({'torch', 'numpy', 'sentencepiece', 'tqdm'} & set(sys.modules))"
    )
    out = subprocess.run([sys.executable, "-c", code], env=ENVIRONMENT, capture_output=True, text=True, check=True)
    assert out.stdout.splitlines()[1] == "set()"


def test_without_a_vocabulary_option_8000_pieces_are_asked_for(files, tmp_path):
    with pytest.raises(DataError, match="8000 pieces is too large"):
        main(["--train", str(files / "train.txt"), "--out", str(tmp_path / "x")])


def big_text(folder):
    (folder / "big.txt").write_text("the quick brown fox jumps over the lazy dog\n" * 400_000)
    return folder / "big.txt"


@pytest.mark.fault(10)
def test_a_full_disk(files, tmp_path):
    code = ("import resource, sys; from taskmask_cli.preprocess import main\n"
            "resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))\n"
            "try: main(sys.argv[1:])\n"
            "except Exception as error: print(type(error).__name__, error)")  # fmt: skip
    text = big_text(tmp_path)
    out = subprocess.run(
        [
            sys.executable,
            "-c",
            code,
            "--train",
            str(text),
            "--out",
            str(tmp_path / "x"),
            "--vocab",
            str(files / "base"),
        ],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert out.stdout.startswith(StorageError.__name__), out.stdout
    assert "tokens.bin" in out.stdout and "MiB free" in out.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["big.txt"]


@pytest.mark.fault(9)
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_killed_in_the_middle(files, tmp_path, how):
    text = big_text(tmp_path)
    arguments = ["--train", str(text), "--out", str(tmp_path / "x"), "--vocab", str(files / "base"), "--workers", "2"]
    process = subprocess.Popen([*RUN, *arguments], env=ENVIRONMENT, stderr=subprocess.PIPE, start_new_session=True)
    deadline = time.monotonic() + 20
    while not any(file.stat().st_size for file in tmp_path.glob("x.partial-*/train/tokens.bin")):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.005)
    process.send_signal(how)
    assert process.wait(20) != 0
    assert not (tmp_path / "x").exists()
    left = [path.name for path in tmp_path.iterdir() if path.name != "big.txt"]
    if how != signal.SIGKILL:
        assert left == []
        return
    assert sorted(name.partition("-")[0] for name in left) == [".x.lock", "x.partial"]
    while _group_is_alive(process.pid):  # the workers notice that their parent is gone
        assert time.monotonic() < deadline
        time.sleep(0.05)
    text.write_text("the quick brown fox\n")
    main(arguments)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["big.txt", "x"]


def _group_is_alive(group):
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True
