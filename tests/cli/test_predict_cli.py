"""taskmask predict, as its user meets it."""

import io
import json
import subprocess
import sys

import pytest

from taskmask.errors import ConfigError, DataError
from taskmask_cli import main as front
from taskmask_cli.predict import main

TEXT = "the function <mask> a list"


def records(capsys):
    out, err = capsys.readouterr()
    assert err == ""
    return [json.loads(line) for line in out.splitlines()]


def piped(monkeypatch, text):
    stream = io.TextIOWrapper(io.BytesIO(text if isinstance(text, bytes) else text.encode()), encoding="ascii")
    monkeypatch.setattr(sys, "stdin", stream)


def test_a_table(trained, capsys):
    assert main(["--from", trained, TEXT, "--top", "3"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == TEXT and len(lines) == 6 and all("%" in line for line in lines[1:4])
    assert lines[4].startswith("  = the function") and lines[5] == ""


def test_several_masks_are_numbered(trained, capsys):
    assert main(["--from", trained, "<mask> function <mask>", "--top", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if line.startswith("  <mask>")] == ["  <mask> 1", "  <mask> 2"]


def test_options_between_texts(trained, capsys):
    assert main([TEXT, "--from", trained, "a <mask>", "--json", "--top", "2", "--", "--b <mask>"]) == 0
    answers = records(capsys)
    assert [answer["text"] for answer in answers] == [TEXT, "a <mask>", "--b <mask>"]
    for answer in answers:
        (mask,) = answer["masks"]
        assert len(mask["fills"]) == 2 and set(mask["fills"][0]) == {"token", "piece", "probability"}
        assert mask["fills"][0]["probability"] >= mask["fills"][1]["probability"] > 0


def test_many_answers_are_no_more_than_there_are(trained, capsys):
    assert main(["--from", trained, TEXT, "--json", "--top", "100000"]) == 0
    fills = records(capsys)[0]["masks"][0]["fills"]
    assert len(fills) == 325 and sum(fill["probability"] for fill in fills) == pytest.approx(1)


def test_texts_alone_and_together_get_the_same_answers(trained, capsys):
    texts = [TEXT, "a <mask>", "values <mask> its argument is an object and <mask>"]
    assert main(["--from", trained, *texts, "--json"]) == 0
    for text, answer in zip(texts, records(capsys), strict=True):
        assert main(["--from", trained, text, "--json"]) == 0
        (alone,) = records(capsys)
        assert alone["filled"] == answer["filled"]
        for one, other in zip(alone["masks"], answer["masks"], strict=True):
            assert [f["piece"] for f in one["fills"]] == [f["piece"] for f in other["fills"]]


def test_standard_input(trained, capsys, monkeypatch):
    piped(monkeypatch, f"{TEXT}\n\n  \r\nécole <mask>\r\nno end <mask>")
    assert main(["--from", trained, "--json"]) == 0
    assert [answer["text"] for answer in records(capsys)] == [TEXT, "école <mask>", "no end <mask>"]


def test_more_lines_than_are_predicted_together(trained, capsys, monkeypatch):
    piped(monkeypatch, "".join(f"number {i} <mask>\n" for i in range(70)))
    assert main(["--from", trained, "--json", "--top", "1"]) == 0
    assert [answer["text"] for answer in records(capsys)] == [f"number {i} <mask>" for i in range(70)]


def test_jsonl_keeps_the_other_keys(trained, capsys, monkeypatch):
    piped(monkeypatch, '{"id": 7, "text": "a <mask>"}\n{"text": "b <mask>", "more": [1, null]}\n')
    assert main(["--from", trained, "--jsonl"]) == 0
    first, second = records(capsys)
    assert first["id"] == 7 and first["masks"] and second["more"] == [1, None]


@pytest.mark.parametrize("line", ["{", "3", '{"txt": 1}', '{"text": 1}', "[" * 100_000, '["text"]'])
def test_jsonl_that_is_none(trained, monkeypatch, line):
    piped(monkeypatch, '{"text": "a <mask>"}\n' + line + "\n")
    with pytest.raises(DataError, match=r"standard input, line 2: .* expected (a JSON object with )?'?text"):
        main(["--from", trained, "--jsonl"])


def test_texts_that_cannot_be(trained, monkeypatch, capsys):
    for text, says in [
        ("no gap", "no <mask> in 'no gap'"),
        ("", "no <mask> in ''"),
        ("value " * 40 + "<mask>", "expected at most 32"),
        ("bad \udcff <mask>", "is not UTF-8"),
    ]:
        with pytest.raises(DataError) as caught:
            main(["--from", trained, text])
        assert says in str(caught.value) and len(str(caught.value)) < 200
    for text, says in [("", "there is no text"), ("\n \n", "there is no text"), (b"\xff <mask>\n", "is not UTF-8")]:
        piped(monkeypatch, text)
        with pytest.raises(DataError, match=says):
            main(["--from", trained])
    piped(monkeypatch, '{"text": "\\ud800 <mask>"}')
    assert front.run(main, ["--from", trained, "--jsonl"]) == 3
    assert "is not UTF-8" in capsys.readouterr().err


def test_wrong_options(trained):
    for words, says in [
        (["--top", "0"], "--top: is 0; expected at least 1"),
        (["--top", "many"], "'many' is no whole number"),
        (["--tpo", "3"], "did you mean '--top'?"),
        (["--masker", "span"], "unknown option --masker"),
    ]:
        with pytest.raises(ConfigError) as caught:
            main(["--from", trained, TEXT, *words])
        assert says in str(caught.value)
    with pytest.raises(ConfigError, match="required: --from"):
        main([TEXT])


def test_head_closes_the_pipe(trained):
    line = f"yes '{TEXT}' | head -n 200 | {sys.executable} -m taskmask_cli.main predict --from {trained} --top 300"
    process = subprocess.run(
        line + ' | head -n 1; echo "${PIPESTATUS[2]}"',
        shell=True,
        executable="/bin/bash",
        capture_output=True,
        text=True,
    )
    assert process.stdout.splitlines() == [TEXT, "0"] and process.stderr == ""
