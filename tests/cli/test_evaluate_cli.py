"""taskmask evaluate, as its user meets it."""

import json

import pytest

from taskmask.errors import CheckpointError, ConfigError, DataError
from taskmask_cli import evaluate as verb
from taskmask_cli import main as front
from taskmask_cli.evaluate import main


def asked(capsys, *words):
    capsys.readouterr()
    assert main([*words, "--json"]) == 0
    out, err = capsys.readouterr()
    assert err == "" and out.count("\n") == 1  # one JSON object and nothing else
    return json.loads(out, parse_constant=pytest.fail)


def test_twice_the_same_and_options_anywhere(trained, capsys):
    first = asked(capsys, "--from", trained)
    assert first == asked(capsys, "--json", "--split", "valid", "--from", trained)
    assert (
        first["split"] == "valid" and first["rows"] > 0 and first["masker"]["name"] == "uniform" and first["step"] == 4
    )
    assert set(first) >= {"loss", "perplexity", "accuracy", "targets", "tokens", "checkpoint"}


def test_another_split_masker_and_dataset(trained, data, capsys):
    words = ["--from", trained, "--masker", "span", "--masker.ratio", "0.3", "--masker.never", "the", "of"]
    span = asked(capsys, *words)
    assert span == asked(capsys, *words) and span["masker"]["ratio"] == 0.3 and span["masker"]["never"] == ["the", "of"]
    assert span == asked(
        capsys, "--masker.ratio", "0.3", "--masker.never", "the", "of", "--masker", "span", "--from", trained
    )
    uniform = asked(capsys, "--from", trained)
    assert span["targets"] > uniform["targets"] and span["loss"] != uniform["loss"]
    # test holds the same texts as valid, so the same numbers
    test = asked(capsys, "--from", trained, "--data", data, "--split", "test")
    rule = test["interval_rule"].replace("of test", "of valid")
    assert {**test, "split": "valid", "interval_rule": rule} == uniform
    assert asked(capsys, "--from", trained, "--train.max_tokens", "512")["loss"] == pytest.approx(uniform["loss"])


def test_the_table(trained, checkpoint, capsys):
    assert main(["--from", str(checkpoint), "--masker.ratio", "0.25"]) == 0
    table, about = capsys.readouterr().out.split("\n\n")
    shown = dict(line.split(maxsplit=1) for line in about.splitlines())
    assert shown["masker"] == "uniform ratio=0.25" and shown["checkpoint"] == str(checkpoint)
    head, loss, *_ = (line.split() for line in table.splitlines())
    assert head == ["split", "metric", "value", "95", "%", "interval"] and loss[:2] == ["valid", "loss"]
    value, low, to, high = loss[2:]
    assert to == "to" and float(low) < float(value) < float(high)


def test_no_number_is_null_in_json(monkeypatch, capsys):
    from taskmask.inference import multi_seed
    from taskmask.stats.bootstrap import OverRuns

    nan = float("nan")
    result = {"loss": nan, "rows": 3, "masker": None}
    reached = multi_seed.Reached("valid", 3, {"loss": OverRuns(nan, nan, nan, nan, (nan,))}, [result])
    monkeypatch.setattr(multi_seed, "evaluate_runs", lambda *args: reached)
    nothing = {"loss": None, "intervals": {"loss": [None, None]}}
    assert asked(capsys, "--from", "x") == {**nothing, "rows": 3, "masker": None}


def test_what_is_to_be_known_of_the_rows_is_said_beside_the_result(trained, monkeypatch, capsys):
    from taskmask.data.sequences.base import Source

    whole = Source.__init__

    def noted(self, split, *rest):
        whole(self, split, *rest)
        self.notes.append(f"split {split.name}: 1 of 2 rows are cut")

    monkeypatch.setattr(Source, "__init__", noted)
    capsys.readouterr()
    assert main(["--from", trained, "--json"]) == 0
    out, err = capsys.readouterr()
    assert err == "taskmask: split valid: 1 of 2 rows are cut\n" and json.loads(out)["rows"] > 0


def test_another_vocabulary(trained, other_data, capsys):
    assert front.run(verb.main, ["--from", trained, "--data", other_data]) == 4
    shown = capsys.readouterr().err
    assert "was trained with vocabulary" in shown and f"that of dataset {other_data}" in shown
    assert "taskmask-preprocess --vocab" in shown and shown.count("\n") == 1


def test_damaged_and_missing_checkpoints(checkpoint, tmp_path, trained):
    damaged = tmp_path / "step-4.pt"
    content = bytearray(checkpoint.read_bytes())
    content[len(content) // 2] ^= 255
    for left in (content, content[: len(content) // 2], b"", b"hello"):
        damaged.write_bytes(left)
        with pytest.raises(CheckpointError, match=r"damaged|no checkpoint"):
            main(["--from", str(damaged)])
    with pytest.raises(CheckpointError, match="no such checkpoint"):
        main(["--from", str(tmp_path / "gone")])
    with pytest.raises(CheckpointError, match="is no run folder"):
        main(["--from", str(tmp_path)])


def test_wrong_options(trained, tmp_path):
    for words, kind, says in [
        (["--from", trained, "--split", "tset"], DataError, "no split 'tset'"),
        (["--from", trained, "--data", str(tmp_path)], DataError, "no dataset"),
        (["--split", "valid"], ConfigError, "required: --from"),
        (["--from", trained, "--jsn"], ConfigError, "did you mean 'json'?"),
        (["--from", trained, "--masker", "spam"], ConfigError, "did you mean 'span'?"),
        (["--from", trained, "--masker.rati", "3"], ConfigError, "did you mean 'masker.ratio'?"),
        (["--from", trained, "--masker.p", "3", "--masker", "uniform"], ConfigError, "unknown option masker.p"),
        (["--from", trained, "--model.layers", "2"], CheckpointError, "layers.1"),
    ]:
        with pytest.raises(kind) as caught:
            main(words)
        assert says in str(caught.value), words


def test_json_names_the_rule_of_the_intervals(trained, capsys):
    assert asked(capsys, "--from", trained)["interval_rule"].startswith("95 % intervals over ")
