"""The mechanism of settings: flags, files, types, messages."""

import dataclasses
import json
import math
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskmask import config
from taskmask.config import Assignment, Problems, opt
from taskmask.errors import ConfigError

KINDS = [int, float, bool, str, Literal["a", "b"], tuple[str, ...], tuple[float, ...], int | None, str | None]


@dataclasses.dataclass(frozen=True)
class Options:
    """Options of a thing."""

    steps: int = opt(10, "how many")
    lr: float = opt(0.5, "how fast")
    words: tuple[str, ...] = opt((), "some words")
    kind: Literal["long", "short"] = opt("long", "which")
    end: float | None = opt(None, "where")
    fast: bool = opt(False, "whether")


def test_flags_in_order():
    read = config.read_flags(
        ["--data", "bin", "--a.b=1", "--c.d", "x", "y", "--e.f", "-1e-3", "--g", "--h=x=y", "--i="]
    )
    assert [(a.key, a.value) for a in read] == [
        ("data", "bin"), ("a.b", "1"), ("c.d", ["x", "y"]), ("e.f", "-1e-3"), ("g", True), ("h", "x=y"), ("i", ""),
    ]  # fmt: skip
    assert read[0].source == "--data"


def test_a_word_that_belongs_to_no_option():
    with pytest.raises(ConfigError, match="'span' belongs to no option"):
        config.read_flags(["span", "--masker"])


def test_files(tmp_path):
    (tmp_path / "a.toml").write_text('masker = "span"\n[train]\nsteps = 5\n[optim]\nlr = 1\n')
    (tmp_path / "b.json").write_text('{"train": {"steps": 6}, "model": {"layers": 1, "name": "tiny"}}')
    read = config.read_flags(["--config", str(tmp_path / "a.toml"), str(tmp_path / "b.json"), "--train.steps", "7"])
    assert [(a.key, a.value) for a in read] == [
        ("masker", "span"), ("train.steps", 5), ("optim.lr", 1), ("train.steps", 6), ("model.name", "tiny"),
        ("model.layers", 1), ("train.steps", "7"),
    ]  # fmt: skip
    assert read[0].source == str(tmp_path / "a.toml")


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("a.toml", "a = = 1", "is not valid TOML"),
        ("a.json", "{", "is not valid JSON"),
        ("a.json", "[1]", "holds no tables"),
        ("a.json", "[" * 100_000, "is not valid JSON"),
        ("a.json", "1" * 5000, "is not valid JSON"),
        ("a.toml", b"\xff\xfe", "is not valid TOML"),
    ],
)
def test_broken_files(tmp_path, name, text, says):
    (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ConfigError, match=says) as caught:
        config.read_flags(["--config", str(tmp_path / name)])
    assert str(tmp_path / name) in str(caught.value)


def test_files_that_are_none(tmp_path):
    for path, says in [(tmp_path / "gone.toml", "No such file"), (tmp_path, "Is a directory")]:
        with pytest.raises(ConfigError, match=says):
            config.read_flags(["--config", str(path)])
    with pytest.raises(ConfigError, match="no file given"):
        config.read_flags(["--config"])


GOOD = [
    ("7", int, 7), (7, int, 7), ("-3", int, -3), ("1e-4", float, 1e-4), (3, float, 3.0), ("3", float, 3.0),
    ("true", bool, True), ("False", bool, False), (True, bool, True), ("7", str, "7"), (Path("a/b"), str, "a/b"),
    ("a", Literal["a", "b"], "a"), ("x", tuple[str, ...], ("x",)), (["x", "y"], tuple[str, ...], ("x", "y")),
    ("", tuple[str, ...], ()), ([], tuple[str, ...], ()), (["1", 2], tuple[float, ...], (1.0, 2.0)),
    ("none", int | None, None), (None, int | None, None), ("5", int | None, 5), ("none", str, "none"),
]  # fmt: skip


@pytest.mark.parametrize(("value", "kind", "wanted"), GOOD)
def test_convert(value, kind, wanted):
    made = config.convert(value, kind)
    assert made == wanted and type(made) is type(wanted)


BAD = [
    (1.5, int, "integer"), (1.0, int, "integer"), ("1.0", int, "integer"), ("1e3", int, "integer"),
    (True, int, "integer"),
    ("9" * 400, int, "integer of 64 bits"), (2**63, int, "integer of 64 bits"), ("9" * 5000, int, "integer"),
    (True, float, "number"), ("nan", float, "number"), ("inf", float, "number"), (math.nan, float, "number"),
    (-math.inf, float, "number"), (10**400, float, "number"), ("1e999", float, "number"), ("x", float, "number"),
    ("yes", bool, "true|false"), ("1", bool, "true|false"), (1, bool, "true|false"), (5, str, "text"),
    (None, str, "text"),
    (True, str, "text"), ("c", Literal["a", "b"], "one of a, b"), (True, Literal["a"], "one of a"),
    (True, tuple[str, ...], "text"), (["x", None], tuple[str, ...], "text"), ({"a": 1}, tuple[str, ...], "text"),
    ([["x"]], tuple[str, ...], "text"), ("x", int | None, "integer"), (["1", "2"], int, "integer"),
    ({}, float, "number"),
]  # fmt: skip


@pytest.mark.parametrize(("value", "kind", "says"), BAD)
def test_convert_refuses(value, kind, says):
    with pytest.raises(ValueError) as caught:
        config.convert(value, kind)
    assert str(caught.value) == says


def build(values, **preset):
    problems = Problems()
    flags = {key: Assignment(key, value, f"--x.{key}") for key, value in values.items()}
    made = config.build(Options, flags, "x", problems, **preset)
    problems.raise_any()
    return made


def test_build_over_a_preset():
    assert build({"steps": "5"}, steps=7, lr=0.25) == Options(steps=5, lr=0.25)


def test_all_errors_at_once():
    with pytest.raises(ConfigError) as caught:
        build({"stepz": "5", "lr": "fast", "kind": "middle", "fast": "maybe"})
    lines = str(caught.value).splitlines()
    assert lines[0] == "4 settings are wrong:" and len(caught.value.parts) == 4
    assert lines[1].startswith("  --x.stepz: unknown option x.stepz; expected one of steps, lr")
    assert lines[1].endswith("did you mean 'x.steps'?")
    assert lines[2:] == [
        "  --x.lr: x.lr is 'fast'; expected number",
        "  --x.kind: x.kind is 'middle'; expected one of long, short",
        "  --x.fast: x.fast is 'maybe'; expected true|false",
    ]


def test_a_flag_alone_is_true_and_nothing_else():
    assert build({"fast": True}).fast
    for name in ("steps", "words", "kind", "lr"):
        with pytest.raises(ConfigError, match=f"x.{name} has no value; expected "):
            build({name: True})


def test_a_long_value_is_cut_in_messages():
    with pytest.raises(ConfigError) as caught:
        build({"steps": "x" * 1000})
    assert len(str(caught.value)) < 200


def test_what_post_init_finds():
    @dataclasses.dataclass(frozen=True)
    class Strict:
        low: int = opt(0, "low")
        high: int = opt(1, "high")

        def __post_init__(self):
            if self.high == 13:
                raise ValueError("13 is unlucky")
            problems = Problems()
            problems.check(self.low >= 0, f"is {self.low}", where="x.low", expected="0 or more")
            problems.check(self.low < self.high, f"is {self.low}", where="x.low", expected=f"below {self.high}")
            problems.raise_any()

    def errors_of(**values):
        problems = Problems()
        flags = {key: Assignment(key, value, "file") for key, value in values.items()}
        assert config.build(Strict, flags, "x", problems) is None
        return [str(error) for error in problems.errors]

    assert errors_of(high=13) == ["x: 13 is unlucky"]
    assert errors_of(low=-1, high=-2, height=3) == [
        "file: unknown option x.height; expected one of low, high; did you mean 'x.high'?",
        "x.low: is -1; expected 0 or more",
        "x.low: is -1; expected below -2",
    ]


@pytest.mark.parametrize("kind", [dict, list[str], Path, int | str, int | str | None, Literal[1], tuple[int, int], Any])
def test_a_type_that_no_flag_can_say_is_refused(kind):
    cls = dataclasses.make_dataclass("Odd", [("size", kind, None)], frozen=True)
    with pytest.raises(ConfigError, match=r"Odd, field size: has type .*; expected int, float"):
        config.fields_of(cls)


def test_a_field_without_default_is_refused():
    with pytest.raises(ConfigError, match="field size: has no default"):
        config.fields_of(dataclasses.make_dataclass("Bare", [("size", int)], frozen=True))


def test_to_dict_and_back():
    options = Options(words=("a", "b"), end=0.1 + 0.2, fast=True)
    tables = json.loads(json.dumps(config.to_dict(options)))
    assert build(tables) == options


def test_help_lines_align_and_fit():
    text = (
        "a help line that is rather long, so long that it has to be broken somewhere before the margin is reached " * 2
    )
    long = dataclasses.make_dataclass(
        "Long",
        [("size", int, opt(1, "short")), ("a_setting_with_a_long_name", tuple[float, ...], opt((1.0, 2.0), text))],
        frozen=True,
    )
    lines = config.help_lines(long, "x", "size", size=5)
    assert lines[0] == "  --x integer" + " " * 29 + "short [5]" and lines[0].index("short") == 42
    assert lines[1] == "  --x.a_setting_with_a_long_name number ..." and lines[-1].endswith("[1.0 2.0]")
    assert all(len(line) <= 120 for line in lines) and all(line.startswith(" " * 42) for line in lines[2:])


def test_help_lines_show_defaults():
    shown = {line.split()[0]: line for line in config.help_lines(Options, "x")}
    assert shown["--x.end"].endswith("where [none]") and "number or none" in shown["--x.end"]
    assert shown["--x.fast"].endswith("whether [false]") and shown["--x.words"].endswith("some words")
    assert "long|short" in shown["--x.kind"]


words = st.text(max_size=12)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=6,
)


@given(json_values | st.integers(-(10**400), 10**400), st.sampled_from(KINDS))
def test_fuzz_convert(value, kind):
    try:
        made = config.convert(value, kind)
    except ValueError:
        return
    assert config.convert(made, kind) == made  # what came out goes in
    json.dumps(made, allow_nan=False)


@given(st.lists(words | st.sampled_from(["--", "--=", "--train.steps", "--train.steps=", "--x", "-1", "--a.b.c"])))
def test_fuzz_flags(args):
    try:
        for assignment in config.read_flags([arg for arg in args if not arg.startswith("--config")]):
            assert isinstance(assignment.key, str)
    except ConfigError:
        pass


@given(
    st.binary(max_size=40) | json_values.map(lambda value: json.dumps(value).encode()),
    st.sampled_from(["json", "toml"]),
)
def test_fuzz_files(tmp_path_factory, content, kind):
    file = tmp_path_factory.getbasetemp() / f"fuzz.{kind}"
    file.write_bytes(content)
    try:
        config.read_file(file)
    except ConfigError as error:
        assert str(file) in str(error)
