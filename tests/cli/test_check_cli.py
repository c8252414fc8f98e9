"""taskmask check, as its user meets it."""

import json

import pytest

from taskmask.analysis.check import harness as kit
from taskmask.analysis.check.cases import vocabularies
from taskmask.errors import ConfigError, RegistryError
from taskmask.registry import MASKERS
from taskmask_cli import main as front
from taskmask_cli.check import joined, main

PLUG_IN = """import numpy as np
from taskmask import register_masker

@register_masker("greedy")
def greedy(batch, rng, *, share: float = 0.5):
    "Masks too much, and the borders of a row too."
    print("a plug-in that talks")
    return rng.uniform("greedy", batch.shape[1]) < share

@register_masker("honest", promises=("mean_budget",))
def honest(batch, rng, *, ratio: float = 0.15):
    "Masks each token by itself."
    return batch.maskable & (rng.uniform("honest", batch.shape[1]) < ratio)
"""


@pytest.fixture(autouse=True)
def one_vocabulary(monkeypatch):
    """Checks with one vocabulary alone, and in few epochs."""
    monkeypatch.setattr(kit, "vocabularies", lambda: ({"bpe": vocabularies()[0]["bpe"]}, ()))
    monkeypatch.setattr(kit, "NUM_EPOCHS", 2)


@pytest.fixture
def plug_in(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(PLUG_IN)
    return str(file)


def test_a_table_for_each_and_exit_code_0(plug_in, capsys):
    assert main(["honest", "--user-dir", plug_in, "span", "p=0.3", "longest=5"]) == 0
    out, err = capsys.readouterr()
    first, second = out.split("\n\n")
    assert err == ""
    assert first.startswith("masker honest: bpe; 8 scripts, rows of 0, 1, 2 and 96 tokens\n")
    assert second.startswith("masker span p=0.3 longest=5: bpe; ")
    for table in (first, second):
        lines = table.splitlines()
        assert {line[2:14].strip() for line in lines[1:-1]} == {"kept", "not promised"} and len(lines) == 19
        assert "keeps all 1" in lines[-1] and lines[-1].endswith(" tokens a second")


def test_a_broken_law_is_exit_code_1_and_shows_a_counterexample(plug_in, capsys):
    words = ["greedy", "honest", "--user-dir", plug_in]
    assert front.run(main, words) == 1
    out, err = capsys.readouterr()
    assert "  broken        no special piece, no padding " in out and "[[" in out and "vocabulary bpe, " in out
    assert "Traceback" not in out + err and "a plug-in that talks" in err  # which would be in the way of the table
    assert "greedy breaks " in out and "honest keeps all " in out


def test_json_is_one_object_and_nothing_else(plug_in, capsys):
    assert main(["greedy", "honest", "--user-dir", plug_in, "--json"]) == 1
    out, _ = capsys.readouterr()
    assert out.count("\n") == 1
    found = json.loads(out, parse_constant=pytest.fail)
    assert found["passed"] is False and [report["passed"] for report in found["maskers"]] == [False, True]
    assert [report["masker"] for report in found["maskers"]] == ["greedy", "honest"]
    law = next(law for law in found["maskers"][0]["laws"] if law["status"] == "broken")
    assert set(law["counterexample"]) >= {"vocabulary", "script", "rows", "tokens", "ids", "seed", "epoch"}


def test_without_a_name_all_maskers(monkeypatch, capsys):
    checked = []
    report = kit.check_masker("uniform")
    monkeypatch.setattr(kit, "check_masker", lambda policy, **_: checked.append(policy) or report)
    assert main([]) == 0
    assert checked == MASKERS.names() and capsys.readouterr().out.count("masker uniform:") == len(checked)


def test_an_option_belongs_to_the_name_before_it():
    assert joined(["span", "p=0.3", "longest=5", "uniform", "mix of=a,b", "ratio=1"]) == [
        "span p=0.3 longest=5",
        "uniform",
        "mix of=a,b ratio=1",
    ]
    assert joined([]) == [] and joined(["p=0.3"]) == ["p=0.3"]


def test_what_is_wrong_is_said_before_any_work(monkeypatch, plug_in):
    monkeypatch.setattr(kit, "check_masker", lambda *_, **__: pytest.fail("it has begun to work"))
    for words, kind, says in [
        (["uniform", "spam"], RegistryError, "unknown masker 'spam'.*did you mean 'span'"),
        (["p=0.3"], RegistryError, "unknown masker 'p=0.3'"),
        (["uniform", "span", "q=1"], ConfigError, "unknown option span.q"),
        (["span", "p=x"], ConfigError, "span.p is 'x'; expected number"),
        (["span", "p=7"], ConfigError, "masker.p: is 7.0"),
        (["honest"], RegistryError, "unknown masker 'honest'"),
        (["honest", "--user-dir", "nowhere.py"], RegistryError, "nowhere.py does not exist"),
        (["span", "--jsn"], ConfigError, "did you mean '--json'"),
    ]:
        with pytest.raises(kind, match=says) as caught:
            main(words)
        assert caught.value.exit_code == 2


def test_a_plug_in_that_cannot_be_made(tmp_path, capsys):
    (tmp_path / "mine.py").write_text(
        "from taskmask import Masker, register_masker\n\n@register_masker('unmade')\nclass Unmade(Masker):\n"
        "    'Fails.'\n\n    def __init__(self, config, vocab):\n        self.table = {}['x']\n"
    )
    assert front.run(main, ["unmade", "--user-dir", str(tmp_path / "mine.py")]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and "mine.py:8: cannot be made: KeyError: 'x'" in err


def test_the_help_names_every_promise(capsys):
    from taskmask.maskers.base import PROMISES

    with pytest.raises(SystemExit):
        main(["--help"])
    shown = capsys.readouterr().out
    assert all(promise in shown for promise in PROMISES) and "exit code: 0" in shown
