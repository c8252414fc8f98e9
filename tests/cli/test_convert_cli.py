"""taskmask convert, as its user meets it."""

import json
import os
import re
import signal as signals
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("transformers")
pytest.importorskip("safetensors")

import transformers
from hf_help import MASKED, write_hf, write_run

from taskmask.errors import ConfigError
from taskmask_cli import main as front
from taskmask_cli import predict, preprocess, train
from taskmask_cli.convert import main
from taskmask_cli.evaluate import main as evaluate

transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()


def test_from_theirs_to_a_trained_run_and_back(texts, tmp_path, capsys):
    write_hf(tmp_path / "hf", "bert", "ForPreTraining")
    run, data, out = str(tmp_path / "run"), str(tmp_path / "data"), str(tmp_path / "next")
    assert main(["--from-hf", str(tmp_path / "hf"), "--run", run, "--data.length", "64"]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown[0].startswith(f"{run}: bert, masked_lm: 2 layers, 32 wide, ")
    assert shown[0].endswith(" parameters, vocabulary of 120, rows of up to 64 tokens")
    assert shown[1] == "cut: 7 rows of the token embedding that no token uses"
    assert shown[2].startswith("left out: bert.pooler.dense.bias, bert.pooler.dense.weight, cls.seq_relationship.bias")
    assert f"--vocab {run} --out data-bin" in shown[3] and f"--train.init_from {run}" in shown[4]

    splits = ["--train", str(texts / "train.txt"), "--valid", str(texts / "valid.txt"), "--workers", "0"]
    assert preprocess.main([*splits, "--vocab", run, "--out", data]) == 0
    few = ["--train.steps", "2", "--train.max_tokens", "512", "--run.tensorboard", "false", "--run.threads", "1"]
    assert train.main(["--data", data, "--run", out, "--train.init_from", run, *few]) == 0
    assert "weights taken over" in capsys.readouterr().err
    assert evaluate(["--from", run, "--data", data, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["step"] == 0

    assert main(["--run", out, "--to-hf", str(tmp_path / "ours"), "--evaluate"]) == 0
    shown = capsys.readouterr().out
    assert f"transformers.AutoModelForMaskedLM.from_pretrained('{tmp_path}/ours')" in shown
    assert "95 % intervals over the examples" in (tmp_path / "ours/README.md").read_text()
    assert predict.main(["--from", out, MASKED[0], "--top", "1", "--json"]) == 0
    token = json.loads(capsys.readouterr().out)["masks"][0]["fills"][0]["token"]
    assert transformers.pipeline("fill-mask", str(tmp_path / "ours"))(MASKED[0].replace("<mask>", "[MASK]"))
    model = transformers.AutoModelForMaskedLM.from_pretrained(tmp_path / "ours")
    own = transformers.AutoTokenizer.from_pretrained(tmp_path / "ours")
    batch = own(MASKED[0].replace("<mask>", "[MASK]"), return_tensors="pt")
    logits = model(**batch).logits[batch["input_ids"] == own.mask_token_id][0]
    logits[own.all_special_ids] = -1e9
    assert own.decode([int(logits.argmax())]).strip(" #") == token


def test_a_classifier_of_pairs(tmp_path, capsys):
    write_hf(tmp_path / "hf", "roberta", "classification")
    run = str(tmp_path / "run")
    assert main(["--from-hf", str(tmp_path / "hf"), "--run", run, "--task.pair", "second"]) == 0
    assert "roberta, classification (3 labels): " in capsys.readouterr().out
    assert predict.main(["--from", run, "A dog.\tA fox.", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["label"] in ("no", "perhaps", "yes")
    assert front.run(predict.main, ["--from", run, "A dog."]) == 3
    assert "has no text 'second'" in capsys.readouterr().err


def test_an_encoder_alone_says_that_it_has_no_head(tmp_path, capsys):
    write_hf(tmp_path / "hf", "distilbert", "none")
    run = str(tmp_path / "run")
    assert main(["--from-hf", str(tmp_path / "hf"), "--run", run]) == 0
    assert "distilbert, encoder without a head: " in capsys.readouterr().out
    assert front.run(predict.main, ["--from", run, MASKED[0]]) == 4
    (line,) = capsys.readouterr().err.splitlines()
    assert "holds an encoder without the head mlm" in line and "train it first: --train.init_from" in line


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--run", "a"], "says not what to do; expected --from-hf FOLDER or --to-hf FOLDER"),
        (["--from-hf", "a"], "required: --run"),
        (["--from-hf", "a", "--to-hf", "b", "--run", "c"], "not allowed with"),
        (["--from-hf", "a", "--run", "c", "--evaluate"], "--evaluate: goes with --to-hf; leave it out"),
        (["--to-hf", "a", "--run", "c", "--data.length", "3"], "--data.length: the run has its settings already"),
        (["--form-hf", "a", "--run", "c"], "did you mean 'from-hf'?"),
    ],
)
def test_wrong_options(words, says):
    with pytest.raises(ConfigError) as caught:
        main(words)
    assert says in str(caught.value)


def test_what_is_wrong_is_one_line(tmp_path, capsys):
    run = write_run(tmp_path / "run", "span")
    for words, code, says in (
        (["--run", run, "--to-hf", str(tmp_path / "new/hf")], 4, "task is span, which has no counterpart"),
        (["--from-hf", str(tmp_path / "none"), "--run", str(tmp_path / "b")], 4, "config.json: is not there"),
        (["--from-hf", run, "--run", run], 2, "is not empty; expected a new or empty folder"),
        (["--run", str(tmp_path / "none"), "--to-hf", str(tmp_path / "b")], 4, "there is no such checkpoint"),
    ):
        assert front.run(main, words) == code
        (line,) = capsys.readouterr().err.splitlines()
        assert says in line
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


@pytest.mark.parametrize(("signal", "code"), [("kill", -9), ("term", 130)])
@pytest.mark.parametrize("out", ["hf", "run"])
def test_a_killed_conversion_is_none(out, signal, code, tmp_path):
    """Nothing stands where the folder was to be; what a kill left beside it goes with the next one."""
    if out == "hf":
        words, point = ["--run", write_run(tmp_path / "run", "masked_lm"), "--to-hf", str(tmp_path / "hf")], "file"
    else:
        write_hf(tmp_path / "hf", "bert", "ForPreTraining")
        words, point = ["--from-hf", str(tmp_path / "hf"), "--run", str(tmp_path / "run")], "save"
    command = [sys.executable, "-m", "taskmask_cli.main", "convert", *words]
    killed = {**os.environ, "TASKMASK_FAULT": f"{signal}@{point}.rename#{2 if out == 'hf' else 1}"}
    assert subprocess.run(command, env=killed, capture_output=True).returncode == code
    left = {re.sub("[0-9a-f]{8}", "#", path.name) for path in tmp_path.iterdir()} - {"hf", "run"}
    assert not (tmp_path / out).exists() and left == ({f".{out}.lock", f"{out}.partial-#"} if code < 0 else set())
    assert main(words) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["hf", "run"]


@pytest.mark.fault(62)
def test_two_conversions_into_one_folder(tmp_path):
    """The second one ends before any work, and names the first; the result is that of the first."""
    run = write_run(tmp_path / "run", "masked_lm")
    words = ["--run", run, "--to-hf", str(tmp_path / "hf")]
    command = [sys.executable, "-m", "taskmask_cli.main", "convert", *words]
    hung = {**os.environ, "TASKMASK_FAULT": "hang@file.rename#2"}
    first = subprocess.Popen(command, env=hung, stderr=subprocess.PIPE)
    while Path(f"/proc/{first.pid}/stat").read_text().split()[2] != "T":  # stopped
        assert first.poll() is None
        time.sleep(0.02)
    with pytest.raises(ConfigError, match=rf"--to-hf .*hf: another process is at work in it \(.*process {first.pid}"):
        main(words)
    first.send_signal(signals.SIGCONT)
    assert first.communicate() == (None, b"") and first.returncode == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["hf", "run"]
