"""The benchmarks run at tiny sizes and print their tables; what they compute is right."""

import argparse
import importlib.util
import random
import re
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent.parent / "benchmarks"
TRAINING = "--shape toy --precision fp32 --steps 1 --warmup 1 --threads 1"
SCRIPTS = {
    "training": TRAINING,
    "preprocess": "--text TEXT --megabytes 0.1 --vocab-size 300 --kinds bpe --processes 1 --memory-megabytes 0.1",
    "masking": "--text TEXT --megabytes 0.1 --vocab-size 300 --rows 4 --seconds 0.01",
    "dataset": "--rows 1000 --seconds 0.01",
    "importance": "--rows 40 --length 32 --steps 2 --vocab-size 500",
    "seq2seq": "--shape toy --threads 1 --seconds 0.01",
    "predict": "--shape toy --threads 1 --text TEXT --texts 20 --vocab-size 300",
    "startup": "--shape toy --threads 1",
    "ddp": f"{TRAINING} --accumulation 1",
    "threads": "--threads 1 --kinds predict compare --model tiny --seconds 0.05 --vocab-size 500",
    "revisions": "--before HEAD --text TEXT --megabytes 0.1 --vocab-size 300 --verbs preprocess evaluate",
}
ALONE = ("ddp", "importance", "revisions", "threads")  # taskmask beside itself: no package is missing


def load(name):
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    """A file with lines of words that are made of a few letters."""
    numbers = random.Random(1)
    words = ["".join(numbers.choices("abcdefgh", k=numbers.randrange(2, 9))) for _ in range(300)]
    file = tmp_path_factory.mktemp("text") / "text.txt"
    file.write_text("".join(" ".join(numbers.choices(words, k=20)) + "\n" for _ in range(400)))
    return str(file)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.slow] if name in (*ALONE, "startup", "predict") else [])
        for name in SCRIPTS
    ],
)
def test_a_script_prints_a_table(name, text, tmp_path):
    words = [text if word == "TEXT" else word for word in SCRIPTS[name].split()]
    command = [sys.executable, str(FOLDER / f"{name}.py"), "--no-peers", "--repeats", "1", *words]
    done = subprocess.run(command, capture_output=True, text=True, env={"PATH": "/bin", "TMPDIR": str(tmp_path)})
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"`python benchmarks/{name}.py --no-peers")
    assert "Machine: " in done.stdout and "taskmask 0." in done.stdout
    rows = [line.split("|")[1:-1] for line in done.stdout.splitlines() if line.startswith("| ")]
    measured = [row for row in rows if len(row) == 6 and re.match(r" *\d", row[1])]
    assert measured and all(float(row[1].replace(",", "")) > 0 for row in measured)
    assert "skipped: --no-peers" in done.stdout or name in ALONE
    assert not list(tmp_path.iterdir()), "leaves nothing behind"


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_is_described(name):
    page = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert f"python benchmarks/{name}.py" in page
    done = subprocess.run([sys.executable, str(FOLDER / f"{name}.py"), "--help"], capture_output=True, text=True)
    assert done.returncode == 0 and "--repeats" in done.stdout and "(default: 5)" in done.stdout.replace("7)", "5)")


def test_ratios_are_paired_and_say_who_is_ahead():
    common = load("common")
    table = common.Table("Speed", "tokens/s")
    table.add("a", [10.0, 100.0, 30.0], "peer", [5.0, 10.0, 10.0])
    table.add("b", [1.0], "peer", "skipped: peer not installed")
    assert table.rows[0] == ("a", "30 (10 - 100)", "peer", "10 (5 - 10)", "3 (2 - 10)", "3")
    assert table.rows[1] == ("b", "1", "peer", "skipped: peer not installed", "", "1")
    times = common.Table("Time", "ms", more_is_better=False)
    times.add("a", [10.0], "peer", [25.0])
    assert times.rows[0][4] == "2.5"
    assert "peer / taskmask" in times.text() and "taskmask / peer" in table.text()


def test_contenders_take_turns():
    order = []
    contenders = {name: lambda name=name: order.append(name) or len(order) for name in "ab"}
    values = load("common").interleave(contenders, 3)
    assert order == list("abbaab")
    assert values == {"a": [1, 4, 5], "b": [2, 3, 6]}


def test_text_has_the_size_that_was_asked_for(tmp_path):
    inputs = load("inputs")
    lines = [b"one line", b"another line", b"a third"]
    size = inputs.write_text(tmp_path / "a.txt", lines, 0.001)
    written = (tmp_path / "a.txt").read_bytes()
    assert len(written) == size and 1000 <= size < 1020
    assert set(written.splitlines()) == set(lines)


@pytest.mark.parametrize("kind", ["unigram", "bpe"])
def test_the_peer_gets_the_same_vocabulary(kind):
    pytest.importorskip("tokenizers")
    from taskmask.tokenizer.tokenizer import Vocabulary, train_vocabulary

    paragraphs = Path(argparse.__file__).read_text(encoding="utf-8").split("\n\n")
    lines = [" ".join(paragraph.split()) for paragraph in paragraphs]
    vocab = Vocabulary(train_vocabulary(lines, 600, kind))
    tokenizer = load("inputs").hf_tokenizer_of(vocab, kind)
    lines = [*lines[:200], "a  é word of zzz", "日本"]
    ours = [[*ids.tolist(), vocab.eos] for ids in vocab.encode(lines)]
    theirs = [tokenizer.encode(line).ids for line in lines]
    same = sum(a == b for a, b in zip(ours, theirs, strict=True))
    # of two unigram segmentations with equal scores, each engine takes its own
    assert same == len(lines) if kind == "bpe" else same > 0.9 * len(lines)
