"""Text of a corpus, a vocabulary or a model that would steer the terminal is shown, not obeyed."""

import io
import json
import sys

import pytest
import torch

from taskmask.config.settings import Settings
from taskmask.training.build import build_objective, build_task
from taskmask_cli import main as front

EVIL = "\x1b[31mred \x9b2Jgone \x07bell \x7f \u202eback \u2066in \u200fto \u061cfro \u2028new \x85line \x0b \x0c"
RAW = set("\x1b\x9b\x07\x7f\r\x0b\x0c\x85\u061c\u200e\u200f\u2028\u2029\u202a\u202e\u2066\u2069")


@pytest.fixture(scope="module")
def evil_data(tmp_path_factory):
    """A dataset of text full of control characters, as far as its making keeps them."""
    folder = tmp_path_factory.mktemp("evil")
    text = "\n".join(f"{EVIL} number {i} \x1b \x9b the fox {EVIL}" for i in range(60))
    (folder / "a.txt").write_text(text, encoding="utf-8")
    words = ["--train", str(folder / "a.txt"), "--out", str(folder / "data"), "--vocab-size", "303", "--workers", "0"]
    assert front.run(front.main, ["preprocess", *words]) == 0
    return folder / "data"


def test_masked_rows(evil_data, settings_tables, tmp_path, capfd):
    (tmp_path / "s.json").write_text(json.dumps({**settings_tables, "run": {"threads": 1}}))
    words = ["--config", str(tmp_path / "s.json"), "--data", str(evil_data), "--train.max_tokens", "64", "--dry-run"]
    assert front.run(front.main, ["train", *words]) == 0
    out = "".join(capfd.readouterr())
    assert "\\u009b" in out and not RAW & set(out)


def test_predictions(evil_data, good_state, settings_tables, tmp_path, monkeypatch, capfd):
    from taskmask.tokenizer.tokenizer import Vocabulary

    vocab = Vocabulary.load(evil_data)
    settings = Settings.of({**settings_tables, "data": {"length": 128}})
    objective = build_objective(settings, build_task(settings, vocab, {}))
    state = {**good_state, "format": 1, "model": objective.state_dict(), "vocabulary": vocab.model_bytes}
    state["settings"] = settings.to_dict()
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


@pytest.fixture(scope="module")
def evil_labels(tmp_path_factory):
    """A dataset whose two labels are full of control characters, tabs and line breaks."""
    folder = tmp_path_factory.mktemp("labels")
    records = [{"text": f"{EVIL} fox {n}", "label": f"{EVIL}\t\n{'ab'[n % 2]}"} for n in range(40)]
    (folder / "a.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    words = ["--train", str(folder / "a.jsonl"), "--out", str(folder / "data"), "--vocab-size", "303", "--workers", "0"]
    assert front.run(front.main, ["preprocess", *words]) == 0
    return folder / "data"


def test_a_tsv_has_the_same_columns_and_rows_when_it_is_read_again(evil_labels, tmp_path, capfd):
    from taskmask.data.dataset import Dataset
    from taskmask.inference.label_selection import write_tsv

    dataset = Dataset.open(evil_labels)
    labels = {"train": dataset.split("train").values("label")}
    assert write_tsv(tmp_path / "a.tsv", dataset, labels, "label", dataset.labels["label"]) == 40
    lines = (tmp_path / "a.tsv").read_text(encoding="utf-8").splitlines()  # which ends a line at U+2028, too
    assert len(lines) == 41 and {line.count("\t") for line in lines} == {1} and not RAW & set("".join(lines))
    words = ["--train", str(tmp_path / "a.tsv"), "--vocab", str(evil_labels), "--out", str(tmp_path / "data")]
    assert front.run(front.main, ["preprocess", *words, "--workers", "0"]) == 0
    again = Dataset.open(tmp_path / "data")
    assert again.split("train").rows == 40 and len(again.labels["label"]) == 2
    assert front.run(front.main, ["list", "--data", str(evil_labels)]) == 0
    assert not RAW & set("".join(capfd.readouterr()))


def test_inspections_pages_cards_and_reports(evil_data):
    from taskmask.analysis.compare.export import _cell, _plain
    from taskmask.analysis.inspect.inspection import inspect
    from taskmask.analysis.reporting.html import table
    from taskmask.hf.model_card import _table

    seen = inspect(str(evil_data), ["uniform"], texts=[EVIL], sample=20, draws=2)
    painted = "".join(seen.lines(colour=True))
    assert "\x1b[1;4;" in painted and not (RAW - {"\x1b"}) & set(painted)
    assert not RAW & set("".join(seen.lines()))
    assert "\\u202e" in "".join(seen.lines())
    for text in (seen.page(), table([EVIL], [[EVIL]]), _plain(EVIL), _cell(EVIL), _table((EVIL,), [(EVIL,)])):
        assert "\\u202e" in text and not RAW & set(text)
