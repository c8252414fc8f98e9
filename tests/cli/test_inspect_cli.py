"""taskmask inspect, as its user meets it."""

import json
import math
import shutil

import numpy as np
import pytest

from taskmask import Settings, load
from taskmask.analysis.inspect.difficulty import hardness
from taskmask.analysis.inspect.inspection import read_policies
from taskmask.data.add_column import add_column
from taskmask.data.dataset import Column, Dataset
from taskmask.data.sequences.base import RowSource
from taskmask.errors import CheckpointError, ConfigError
from taskmask.inference.evaluate import evaluate
from taskmask_cli.inspect import main


def asked(capsys, *words):
    capsys.readouterr()
    assert main([*words, "--json"]) == 0
    out, err = capsys.readouterr()
    assert err == "" and out.count("\n") == 1
    return json.loads(out, parse_constant=pytest.fail)


def put_scores(data, tmp_path, value_of):
    """A copy of the dataset whose split train has the column "score": `value_of` the number of a token."""
    copy = tmp_path / "scored"
    shutil.copytree(data, copy)
    split = Dataset.open(copy).split("train")
    chunks = [value_of(np.arange(split.num_tokens)).astype(np.float32)]
    add_column(copy, "train", "score", Column("aligned", "float32", of="tokens"), chunks)
    return str(copy)


SCORES = {
    "a tenth has none": lambda n: np.where(n % 10 == 0, np.nan, n % 7),
    "none has one": lambda n: np.full(len(n), np.nan),
    "infinite ones": lambda n: np.select([n % 5 == 0, n % 5 == 1], [np.inf, -np.inf], n % 7),
    "all are minus infinity": lambda n: np.full(len(n), -np.inf),
}


@pytest.mark.parametrize("name", SCORES)
def test_figures_of_a_column_of_scores_are_json(name, data, tmp_path, capsys):
    """As a tagger writes them: NaN at tokens that it did not read, infinite log-odds, rows without any."""
    data = put_scores(data, tmp_path, SCORES[name])
    words = ["--data", data, "--masker", "scored column=score", "--masker", "uniform", "--sample", "20", "--rows", "2"]
    page = tmp_path / "page.html"
    figures = asked(capsys, *words, "--html", str(page))
    scores = [row["score"] for row in figures["rows"] if "score" in row]
    assert len(scores) == 2 and all(value is None or math.isfinite(value) for row in scores for value in row)
    assert (None in scores[0]) and "nan" not in page.read_text(encoding="utf-8").lower().replace("finance", "")
    assert main(words) == 0 and "scored" in capsys.readouterr().out


def test_the_usual_policies_where_none_is_named(data, capsys):
    assert main(["--data", data, "--rows", "2"]) == 0
    out = capsys.readouterr().out
    for wanted in ("uniform", "whole_word", "span", "overlap", "split train", "next:", "empty rows"):
        assert wanted in out
    assert "\x1b" not in out


def test_what_a_plug_in_prints_is_none_of_the_output(data, tmp_path, capsys, monkeypatch):
    plug_in = tmp_path / "talking.py"
    plug_in.write_text(
        "from taskmask import register_masker\n\n"
        "@register_masker('talking')\n"
        "def talking(batch, rng, *, ratio: float = 0.15):\n"
        "    print('a policy that talks')\n"
        "    return batch.maskable & (rng.uniform('talking', batch.shape[1]) < ratio)\n"
    )
    words = ["--data", data, "--user-dir", str(plug_in), "--masker", "talking", "--sample", "20", "--json"]
    assert main(words) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["policies"][0]["policy"] == "talking" and "a policy that talks" in err


def test_a_page_and_options(data, tmp_path, capsys):
    page = tmp_path / "pages" / "masks.html"
    words = ["--data", data, "--masker", "span p=0.5 ratio=0.3", "--masker", "uniform", "--html", str(page)]
    assert main([*words, "--draws", "2", "--sample", "50", "--data.length", "16", "--split", "valid"]) == 0
    assert str(page) in capsys.readouterr().out and "<svg" in page.read_text(encoding="utf-8")
    figures = asked(capsys, *words[:-2], "--data.length", "16")
    assert [one["asked"] for one in figures["policies"]] == [0.3, 0.15]
    assert all(len(row["pieces"]) <= 14 for row in figures["rows"])


def test_with_a_run_the_model_is_asked(trained, data, capsys):
    figures = asked(capsys, "--from", trained, "--masker", "uniform", "--masker", "whole_word", "--sample", "10000")
    assert "split valid" in figures["about"][0] and "step 4" in figures["about"][1]
    for one in figures["policies"]:
        by_group = [loss for loss in one["loss_by"]["position"].values() if loss is not None]
        assert min(by_group) <= one["loss"] <= max(by_group) and 0 <= one["accuracy"] <= 1
    assert [one["policy"] for one in asked(capsys, "--from", trained)["policies"]] == ["uniform"]  # that of the run
    assert main(["--from", trained, "--masker", "span", "--rows", "1"]) == 0
    assert "loss in nats" in capsys.readouterr().out


def test_the_loss_is_that_of_evaluate(trained, data, capsys):
    """With every token masked and nothing random, chance has no part in it."""
    task = {"name": "masked_lm", "mask_share": 1.0, "random_share": 0.0}
    expected = evaluate(trained, data, "valid", masker={"name": "uniform", "ratio": 1.0}, task=task)
    loaded = load(trained)
    loaded.settings = Settings.of(loaded.settings.to_dict(), task=task)
    source = RowSource(Dataset.open(data).split("valid"), loaded.vocab, 32, "complete")
    policies = read_policies(["uniform ratio=1.0"], loaded.vocab)
    (found,) = hardness(loaded, policies, [source[np.arange(len(source))]], [], 1)
    assert found.targets == expected["targets"]
    assert found.mean_loss == pytest.approx(expected["loss"], rel=1e-4)
    assert found.accuracy == pytest.approx(expected["accuracy"], abs=1e-9)


def test_typed_text_needs_no_dataset_where_there_is_a_run(trained, capsys):
    figures = asked(capsys, "--from", trained, "--text", "the function returns a list")
    assert figures["policies"] == [] and len(figures["rows"]) == 1


def test_what_is_wrong_is_said(trained, data, other_data, capsys):
    for words, error, said in (
        (["--data", data, "--masker.p", "0.5"], ConfigError, "go with its name"),
        (["--data", data, "--masker", "spam"], ConfigError, "unknown masker 'spam'"),
        (["--data", data, "--data.length", "x"], ConfigError, "data.length is 'x'"),
        (["--data", data, "--data.length", "2"], ConfigError, "at least 3"),
        (["--data", data, "--row", "3"], ConfigError, "unknown option --row"),
        ([], ConfigError, "no dataset is named"),
        (["--data", other_data, "--from", trained], CheckpointError, "trained with vocabulary"),
    ):
        with pytest.raises(error, match=said):
            main(words)
