"""Settings files from strangers: settings come out or a ConfigError; never code, never a traceback."""

import json
import sys

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as profile
from hypothesis import strategies as st

from taskmask import config
from taskmask.config.settings import SECTIONS, Settings, parse
from taskmask.errors import ConfigError
from taskmask_cli import main as front

FIELDS = [
    "name",
    "path",
    "length",
    "steps",
    "seed",
    "lr",
    "layers",
    "width",
    "heads",
    "rate",
    "folder",
    "blocks",
    "ema",
]
numbers = st.one_of(st.integers(), st.floats(), st.sampled_from([2**62, 2**63, 10**400, -1, 0, 1e308]))
texts = st.one_of(
    st.text(max_size=9), st.sampled_from(["span", "mini", "none", "nan", "1e999", "9" * 400, "__import__"])
)
values = st.recursive(
    st.one_of(st.none(), st.booleans(), numbers, texts),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
sections = st.dictionaries(st.one_of(st.sampled_from(FIELDS), texts), values, max_size=4)
keys = st.one_of(st.sampled_from(SECTIONS), texts)
tables = st.dictionaries(keys, st.one_of(sections, values), max_size=4)


@profile(max_examples=200, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck), database=None)
@given(tables)
def test_any_tables(tmp_path_factory, content):
    file = tmp_path_factory.getbasetemp() / "fuzzed.json"
    file.write_text(json.dumps(content), encoding="utf-8")
    try:
        assert isinstance(parse(config.read_file(file)), Settings)
    except ConfigError as error:
        assert error.exit_code == 2 and len(str(error)) < 20_000


@profile(max_examples=200, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck), database=None)
@given(st.one_of(st.binary(max_size=60), st.text(alphabet="[]{}=\".\n#'1eEtf-+_a", max_size=60)), st.booleans())
def test_any_bytes(tmp_path_factory, content, is_json):
    file = tmp_path_factory.getbasetemp() / ("bytes.json" if is_json else "bytes.toml")
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    try:
        parse(config.read_file(file))
    except ConfigError as error:
        assert error.exit_code == 2


@pytest.mark.parametrize("depth", [100, *range(900, 1000, 9), 100_000])
@pytest.mark.parametrize("name", ["a.json", "a.toml"])
def test_depth(name, depth, tmp_path):
    nest = "[" * depth + "]" * depth
    (tmp_path / name).write_text(
        f'{{"model": {{"width": {nest}}}}}' if name == "a.json" else f"[model]\nwidth = {nest}"
    )
    with pytest.raises(ConfigError) as caught:
        parse(config.read_file(tmp_path / name))
    assert len(str(caught.value)) < 2000
    dots = ".".join(["a"] * min(depth, 3000))
    (tmp_path / "b.toml").write_text(f"[{dots}]\n{dots} = 1")
    with pytest.raises(ConfigError):
        parse(config.read_file(tmp_path / "b.toml"))


PLACES = [
    {"user_dir": "PATH"}, {"user-dir": "PATH"}, {"run": {"user_dir": "PATH"}}, {"run": {"user_dirs": ["PATH"]}},
    {"masker": "PATH"}, {"masker": {"name": "evil"}}, {"model": {"name": "evil:Model"}}, {"task": "evil.Task"},
    {"config": "PATH"}, {"model": {"class_path": "evil.M"}}, {"model": {"_target_": "evil.M"}}, {"import": ["evil"]},
]  # fmt: skip


@pytest.mark.parametrize("content", PLACES)
def test_no_settings_file_loads_a_plug_in(content, tmp_path, monkeypatch, capfd):
    canary = tmp_path / "canary"
    (tmp_path / "evil.py").write_text(f"open({str(canary)!r}, 'w')")
    (tmp_path / "s.json").write_text(json.dumps(content).replace("PATH", str(tmp_path / "evil.py")))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert front.run(front.main, ["train", "--config", "s.json", "--dry-run"]) == 2
    assert "Traceback" not in capfd.readouterr().err
    assert "evil" not in sys.modules and not canary.exists()


def test_no_control_character_reaches_the_terminal(tmp_path, capfd):
    evil = "\x1b[31mred\x9b2J\x07"
    (tmp_path / "s.json").write_text(json.dumps({evil: 1, "model": {evil: 2, "name": evil}}))
    assert front.run(front.main, ["train", "--config", str(tmp_path / "s.json")]) == 2
    error = capfd.readouterr().err
    assert "[31mred" in error and not set(error) & set("\x1b\x9b\x07")
