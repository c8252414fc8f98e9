"""taskmask list, as its user meets it."""

import importlib
import shutil
import subprocess
import sys

import pytest

from taskmask.config import fields_of
from taskmask.errors import ConfigError, DataError, RegistryError
from taskmask.registry import MASKERS, REGISTRIES
from taskmask_cli.list import main


def test_everything(capsys):
    assert main([]) == 0
    shown = capsys.readouterr().out
    for kind, registry in REGISTRIES.items():
        assert f"{kind}:\n" in shown
        for name in registry.names():
            entry = registry.get(name)
            assert f"  {name:<16} {entry.doc.splitlines()[0]}\n  {'':<16} {entry.place}\n" in shown


def test_the_list_needs_no_torch():
    """torch takes seconds to import; docstrings of models and criteria are read from their source."""
    code = "import sys; from taskmask_cli.list import main; main([]); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0


def test_one_kind(capsys):
    assert main(["masker"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("masker:\n") and "masked_lm" not in shown and "  whole_word " in shown


@pytest.mark.parametrize(("kind", "name"), [(k, name) for k, r in REGISTRIES.items() for name in r.names()])
def test_one_component(kind, name, capsys):
    assert main([kind, name]) == 0
    shown = capsys.readouterr().out
    entry = REGISTRIES[kind].get(name)
    assert shown.startswith(f"{kind} {name}, {entry.place}\n\n{entry.doc}\n")
    assert all(f"  --{kind}.{field} " in shown for field in fields_of(entry.config))
    assert fields_of(entry.config) or "It has no options." in shown


def test_wrong_names():
    for words, says in [
        (["maskers"], "did you mean 'masker'?"),
        (["span"], "did you mean 'taskmask list task span' or 'taskmask list criterion span' or 'taskmask list masker"),
        (["whole_word"], "did you mean 'taskmask list masker whole_word'?"),
        (["masker", "spam"], "did you mean 'span'?"),
        (["--dat", "x"], "did you mean '--data'?"),
        (["--verify"], "goes with --data"),
        (["masker", "--data", "x"], "does not go with --data"),
    ]:
        with pytest.raises(ConfigError) as caught:
            main(words)
        assert says in str(caught.value), words


def test_a_dataset(data, capsys, tmp_path):
    assert main(["--data", data]) == 0
    assert main(["--data", data, "--verify"]) == 0
    plain, _, verified = capsys.readouterr().out.partition("\n" + data)
    assert "vocabulary of 330 pieces" in plain and "300 rows" in plain and "columns: tokens" in plain
    assert verified.endswith("every checksum is right\n")
    shutil.copytree(data, tmp_path / "copy")
    file = tmp_path / "copy" / "train" / "tokens.bin"
    file.write_bytes(bytes(byte ^ 1 for byte in file.read_bytes()))
    with pytest.raises(DataError, match="tokens"):
        main(["--data", str(tmp_path / "copy"), "--verify"])
    with pytest.raises(DataError, match="no dataset"):
        main(["--data", str(tmp_path)])


def test_a_broken_package_is_shown_and_hides_nothing(tmp_path, monkeypatch, capsys):
    (tmp_path / "plug_in_broken.py").write_text("import no_such_module")
    info = tmp_path / "plug_in_broken-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: plug-in-broken\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[taskmask.masker]\nbad_one = plug_in_broken\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.invalidate_caches()
    assert main(["masker"]) == 0
    shown = capsys.readouterr().out
    assert (
        "  bad_one          broken: masker 'bad_one' of package plug-in-broken" in shown and "no_such_module" in shown
    )
    assert "  whole_word " in shown and "  span " in shown
    with pytest.raises(RegistryError, match="plug-in-broken"):
        main(["masker", "bad_one"])


def test_a_plug_in_file(tmp_path, capsys):
    (tmp_path / "mine.py").write_text(
        "from taskmask import register_masker\n\n@register_masker('shown_in_list')\n"
        "def choose(batch, rng, *, budget, sharpness: float = 2.5):\n    '''Chooses sharply.'''\n"
    )
    try:
        assert main(["masker", "shown_in_list", "--user-dir", str(tmp_path / "mine.py")]) == 0
    finally:
        MASKERS._entries.pop("shown_in_list", None)
    shown = capsys.readouterr().out
    assert shown.startswith(f"masker shown_in_list, {tmp_path / 'mine.py'}:3\n\nChooses sharply.\n")
    assert "--masker.sharpness number" in shown and "[2.5]" in shown and "--masker.ratio number" in shown
