"""examples/custom_masker: the file and the package, through the real command line."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from taskmask.data.batch import TokenBatch
from taskmask.data.rng import RowRng
from taskmask.maskers.base import build_masker
from taskmask.registry import MASKERS, load_user_dir
from taskmask.tokenizer.tokenizer import Vocabulary
from taskmask_cli import main as front
from taskmask_cli import preprocess

EXAMPLE = Path(__file__).parent.parent / "examples" / "custom_masker"
MINE = str(EXAMPLE / "my_masker.py")
TINY = [
    "--model.layers",
    "1",
    "--model.width",
    "32",
    "--model.heads",
    "2",
    "--train.max_tokens",
    "256",
    "--train.steps",
    "2",
]
LINES = [
    f"the {a} returns an {b} of overwhelmingly unforgettable size {i}" for a in "abcd" for b in "xyz" for i in "12345"
]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("custom")
    (folder / "a.txt").write_text("\n".join(LINES))
    vocab = ["--vocab-size", "320", "--vocab-kind", "bpe"]
    preprocess.main(["--train", str(folder / "a.txt"), "--out", str(folder / "data"), "--workers", "0", *vocab])
    return str(folder / "data")


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """Where the package of the example is installed."""
    pytest.importorskip("setuptools", minversion="70.1")  # with which pip builds it, offline
    folder = tmp_path_factory.mktemp("site")
    built = shutil.ignore_patterns("build", "*.egg-info", "__pycache__")
    shutil.copytree(EXAMPLE / "package", folder / "source", ignore=built)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*pip, "--target", str(folder / "site"), str(folder / "source")], check=True, capture_output=True)
    return str(folder / "site")


@pytest.fixture
def mine():
    """The masker of the file, in this process for one test."""
    modules = set(sys.modules)
    load_user_dir(MINE)
    yield
    MASKERS._entries.pop("long_words")
    for name in set(sys.modules) - modules:
        if name.startswith("taskmask_user_"):
            del sys.modules[name]


def taskmask(*words, path=""):
    environment = {**os.environ, "PYTHONPATH": path}
    command = [sys.executable, "-m", "taskmask_cli.main", *words]
    process = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert process.returncode == 0, process.stderr
    return process.stdout


def masked(name, vocab, text, ratio=0.25, num=400, **options):
    """How often each token of a text is masked, and which words they are."""
    tokens = np.tile(np.concatenate([[vocab.bos], vocab.encode([text])[0], [vocab.eos]]), (num, 1)).astype(np.int64)
    ids = np.arange(num)
    rows = TokenBatch(tokens, np.full(num, tokens.shape[1]), ids, vocab)
    config = MASKERS.get(name).config(ratio=ratio, **options)
    mask = build_masker(name, config, vocab)(rows, RowRng(1, 1, ids))
    return mask[0].mean(axis=0), rows


def test_the_function_masks_long_words_more(data, mine):
    vocab = Vocabulary.load(data)
    share, rows = masked("long_words", vocab, "the a returns an x of jabberwocky size")
    sizes = np.bincount(rows.words[0][rows.maskable[0]])
    longest = sizes.argmax()
    here = rows.words[0] == longest
    assert share[here].mean() > 2 * share[rows.maskable[0] & ~here].mean() and share[[0, -1]].sum() == 0
    assert share.sum() == pytest.approx(0.25 * rows.maskable[0].sum(), rel=0.03)
    level, _ = masked("long_words", vocab, "the a returns an x of jabberwocky size", power=0.0)
    assert np.allclose(level[rows.maskable[0]], 0.25, atol=0.08)


def test_the_function_on_the_command_line(data):
    shown = taskmask("list", "masker", "long_words", "--user-dir", MINE)
    assert "--masker.power number" in shown and "Masks the pieces of long words more often" in shown
    chosen = ["--user-dir", MINE, "--masker", "long_words", "--masker.power", "2"]
    shown = taskmask("train", "--data", data, *TINY, *chosen, "--dry-run")
    assert re.search(r"masked rows.*\n.*\[\w+\]", shown)


def test_the_package_on_the_command_line(data, tmp_path, installed):
    shown = taskmask("list", "masker", path=installed)
    headline = "Masks whole words, but only those that begin with one of some letters."
    assert f"  first_letters    {headline}\n{'':19}{installed}" in shown
    run = str(tmp_path / "run")
    chosen = ["--masker", "first_letters", "--masker.letters", "rs"]
    taskmask("train", "--data", data, "--run", run, *TINY, *chosen, path=installed)
    assert json.loads(Path(run, "settings.json").read_text())["masker"]["letters"] == "rs"


def test_the_class_masks_the_words_it_says(data, installed, monkeypatch):
    monkeypatch.syspath_prepend(installed)
    vocab = Vocabulary.load(data)
    text = "returns the size of an x"
    try:
        share, rows = masked("first_letters", vocab, text, ratio=1.0, num=3, letters="rs")
    finally:
        MASKERS._entries.pop("first_letters", None)
    words = [vocab.decode(rows.tokens[0][rows.words[0] == number]).strip() for number in range(rows.words[0].max() + 1)]
    assert words == text.split()
    for number, word in enumerate(words):
        assert set(share[rows.words[0] == number]) == {1.0 if word[0] in "rs" else 0.0}


# ---- policies that are wrong, on the command line

WRONG = """import numpy as np
from taskmask import register_masker
from taskmask.maskers.base import Masker, MaskerConfig

@register_masker("wrong")
def choose(batch, rng, *, ratio: float = 0.15):
    {body}
"""
RAISES = """if 3 in batch.ids % 7:
        return batch.columns["nothing"]
    return np.zeros(batch.shape, bool)"""


@pytest.fixture
def train(tmp_path, data, capfd):
    """train(plug-in, *words): exit code, what was printed, the run folder."""

    def run(text, *words):
        (tmp_path / "mine.py").write_text(text)
        chosen = ["--user-dir", str(tmp_path / "mine.py"), "--masker", "wrong", "--run.threads", "1", *words]
        code = front.run(front.main, ["train", "--data", data, "--run", str(tmp_path / "run"), *TINY, *chosen])
        return code, capfd.readouterr().err, tmp_path / "run"

    yield run
    MASKERS._entries.pop("wrong", None)
    for name in [name for name in sys.modules if name.startswith("taskmask_user_")]:
        del sys.modules[name]


@pytest.mark.fault(29)
@pytest.mark.parametrize("workers", ["0", "1"])
def test_a_policy_that_raises_on_a_row_names_itself_its_line_and_the_row(workers, train, tmp_path):
    code, shown, run = train(WRONG.format(body=RAISES), "--run.workers", workers, "--data.blocks", "sentence")
    assert code == 2 and "Traceback" not in shown
    last = shown.splitlines()[-1]
    row = re.match(
        rf"taskmask: error: masker wrong, row (\d+), {tmp_path}/mine\.py:8: reads column 'nothing', which", last
    )
    assert row and int(row[1]) % 7 == 3, last
    assert not list(run.glob("checkpoints/*"))


@pytest.mark.fault(28)
@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("return batch.maskable[:, 1:]", r"returned bool \[1, \d+, \d+\]; expected bool \[1, \d+, \d+\]"),
        ("return batch.maskable * np.nan", r"returned float64 .*; expected bool"),
        ("return None", r"returned None; expected bool"),
        ("return np.ones(batch.shape, bool)", r"chose position 0 of row \d+, '<s>', which is not maskable"),
    ],
)
def test_a_policy_that_returns_nonsense_is_named(body, says, train):
    code, shown, run = train(WRONG.format(body=body))
    assert code == 2 and re.search(rf"error: masker wrong: {says}.*mine\.py:5\n", shown), shown
    assert "Traceback" not in shown and not list(run.glob("checkpoints/*"))


@pytest.mark.fault(28)
def test_nothing_masked_is_a_loss_of_nothing_and_everything_masked_is_trained(train):
    for body, targets in (("return np.zeros(batch.shape, bool)", 0), ("return batch.maskable", None)):
        code, shown, run = train(WRONG.format(body=body), "--run.restart", "--run.log_every", "1")
        assert code == 0, shown
        text = (run / "log.jsonl").read_text()
        lines = [json.loads(line) for line in text.splitlines()]
        assert len(lines) >= 2 and "NaN" not in text and all(line["skipped_steps"] == 0 for line in lines)
        assert targets is None or all(line["loss"] in (0, None) and line["grad_norm"] in (0, None) for line in lines)
        MASKERS._entries.pop("wrong")
        for name in [name for name in sys.modules if name.startswith("taskmask_user_")]:
            del sys.modules[name]


CONSTRUCTOR = """
@register_masker("wrong")
class Wrong(Masker):
    "Cannot be made."
    def __init__(self, {arguments}):
        {body}
"""


@pytest.mark.fault(25)
@pytest.mark.parametrize(
    ("arguments", "body", "line", "says"),
    [
        ("config, vocab", "self.table = {}['x']", 10, "KeyError: 'x'"),
        ("config", "pass", 6, "TypeError: .*positional arguments"),
        ("config, vocab", "raise SystemError('no')", 10, "SystemError: no"),
    ],
)
def test_a_policy_that_cannot_be_made_names_its_line(arguments, body, line, says, train, tmp_path):
    text = WRONG.partition("@")[0] + CONSTRUCTOR.format(arguments=arguments, body=body)
    code, shown, run = train(text)
    assert code == 2 and re.search(rf"error: wrong, {tmp_path}/mine\.py:{line}: cannot be made: {says}", shown), shown
    assert "Traceback" not in shown and not run.exists()


def test_the_run_tells_which_code_it_ran_and_nothing_of_the_environment(train, tmp_path, monkeypatch):
    monkeypatch.setenv("SECRET_OF_THE_SHELL", "hunter2")
    monkeypatch.setattr("taskmask.registry.plugins._user_dirs", {})
    code, shown, run = train(WRONG.format(body="return batch.maskable"))
    assert code == 0, shown
    text = (run / "environment.json").read_text()
    file = tmp_path / "mine.py"
    content = f"{file.name}\0{file.stat().st_size}\0".encode() + file.read_bytes()
    assert json.loads(text)["user_dirs"] == {str(file): hashlib.sha256(content).hexdigest()}
    assert "hunter2" not in text and not any(b"hunter2" in path.read_bytes() for path in run.rglob("*.*"))
