"""Text of a corpus, a vocabulary or a model that would steer the terminal is shown, not obeyed."""

import io
import json
import sys

import pytest
import torch

from taskmask.settings import Settings
from taskmask.training.parts import build_objective, build_task
from taskmask_cli import main as front

EVIL = "\x1b[31mred \x9b2Jgone \x07bell \x7f"
RAW = set("\x1b\x9b\x07\x7f\r")


@pytest.fixture(scope="module")
def evil_data(tmp_path_factory):
    """A dataset of text full of control characters, as far as its making keeps them."""
    folder = tmp_path_factory.mktemp("evil")
    text = "\n".join(f"{EVIL} number {i} \x1b \x9b the fox {EVIL}" for i in range(60))
    (folder / "a.txt").write_text(text, encoding="utf-8")
    words = ["--train", str(folder / "a.txt"), "--out", str(folder / "data"), "--vocab-size", "290", "--workers", "0"]
    assert front.run(front.main, ["preprocess", *words]) == 0
    return folder / "data"


def test_masked_rows(evil_data, settings_tables, tmp_path, capfd):
    (tmp_path / "s.json").write_text(json.dumps({**settings_tables, "run": {"threads": 1}}))
    words = ["--config", str(tmp_path / "s.json"), "--data", str(evil_data), "--train.max_tokens", "64", "--dry-run"]
    assert front.run(front.main, ["train", *words]) == 0
    out = "".join(capfd.readouterr())
    assert "\\u009b" in out and not RAW & set(out)


def test_predictions(evil_data, good_state, settings_tables, tmp_path, monkeypatch, capfd):
    from taskmask.data.vocab import Vocabulary

    vocab = Vocabulary.load(evil_data)
    objective = build_objective(Settings.of(settings_tables), build_task(Settings.of(settings_tables), vocab, {}))
    state = {**good_state, "format": 1, "model": objective.state_dict(), "vocabulary": vocab.model_bytes}
    torch.save(state, tmp_path / "step-1.pt")
    words = ["predict", "--from", str(tmp_path / "step-1.pt"), "--top", "250"]
    text = f"{EVIL} <mask> fox"
    assert front.run(front.main, [*words, text]) == 0
    monkeypatch.setattr(sys, "stdin", io.StringIO(json.dumps({"text": text, EVIL: EVIL}) + "\n"))
    assert front.run(front.main, [*words, "--jsonl"]) == 0
    out = capfd.readouterr().out
    assert "\\u009b" in out and not RAW & set(out)
    answer = json.loads(out.splitlines()[-1])
    assert answer[EVIL] == EVIL and answer["text"] == text  # for programs nothing is changed


def test_errors(evil_data, tmp_path, capfd):
    assert front.run(front.main, ["list", "--data", str(tmp_path / EVIL)]) == 3
    assert front.run(front.main, [EVIL]) == 2
    assert front.run(front.main, ["list", "--debug", "--data", str(tmp_path / EVIL)]) == 3
    assert not RAW & set("".join(capfd.readouterr()))
