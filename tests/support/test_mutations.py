"""The script that makes mistakes finds their places, tells what is caught from what is not, and compares records."""

import json

import mutations
import pytest

TABLE = """
[[mutation]]
name = "toy.sum"
tests = "test_toy"
old = "return a + b"
new = "return a - b"

[[mutation]]
name = "toy.unseen"
tests = "test_toy"
old = "return a * b"
new = "return a // b"
"""


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """A tree with a package, a test of one of its two functions, and a table of a mistake in each."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")  # so that pytest starts quickly
    root = tmp_path / "tree"
    for folder in ("taskmask", "taskmask_cli", "tests"):
        (root / folder).mkdir(parents=True)
    (root / "taskmask" / "toy.py").write_text(
        "def add(a, b):\n    return a + b\n\n\ndef times(a, b):\n    return a * b\n"
    )
    (root / "tests" / "test_toy.py").write_text(
        "from taskmask.toy import add\n\n\ndef test_add():\n    assert add(2, 1) == 3\n"
    )
    (root / "table.toml").write_text(TABLE)
    return root


def run(root, *arguments):
    return mutations.main(["--root", str(root), "--table", str(root / "table.toml"), *map(str, arguments)])


def test_one_mistake_is_caught_and_one_survives(toy):
    record, before = toy / "record.json", (toy / "taskmask" / "toy.py").read_bytes()
    assert run(toy, "--record", record) == 0
    assert json.loads(record.read_text()) == {"toy.sum": "tests/test_toy.py::test_add", "toy.unseen": "survived"}
    assert (toy / "taskmask" / "toy.py").read_bytes() == before, "the tree itself is never touched"


def test_a_test_that_fails_anyway_is_no_witness(toy, capsys):
    test = toy / "tests" / "test_toy.py"
    test.write_text(test.read_text().replace("== 3", "== 4"))
    assert run(toy, "--only", "toy.sum") == 1
    assert "tests/test_toy.py::test_add fails without a mistake, too" in capsys.readouterr().out


def test_places_that_are_missing_or_not_the_only_one_are_shown(toy, capsys):
    assert run(toy, "--list") == 0
    other = toy / "taskmask_cli" / "other.py"
    other.write_text("def more(a, b):\n    return a + b\n")
    assert run(toy, "--list") == 1
    assert "toy.sum: WRONG: the old text has to occur once; it is in: " in capsys.readouterr().out
    other.unlink()
    (toy / "taskmask" / "toy.py").write_text("")
    assert run(toy, "--list") == 1
    assert capsys.readouterr().out.count("it is in: no file") == 2


def test_a_mistake_that_does_not_compile_or_has_no_tests_is_shown(toy, capsys):
    (toy / "table.toml").write_text(TABLE.replace("a - b", "a -").replace('"test_toy"', '"test_nothing"', 1))
    assert run(toy, "--list") == 1
    assert "tests/ has no file and no folder test_nothing" in capsys.readouterr().out


def test_records_are_compared(toy, capsys):
    old, new = toy / "old.json", toy / "new.json"
    old.write_text(json.dumps({"a": "t.py::x", "b": "t.py::y", "c": "survived"}))
    new.write_text(json.dumps({"a": "t.py::z", "b": "survived", "c": "survived"}))
    assert run(toy, "--compare", old, new) == 1
    assert capsys.readouterr().out.splitlines()[0] == "b: was caught by t.py::y, now survived"
    assert run(toy, "--compare", old, old) == 0
