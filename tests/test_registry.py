"""Names to components: unknown, twice, variants, packages, plug-in files."""

import dataclasses
import importlib
import sys

import pytest

from taskmask.config import opt
from taskmask.errors import RegistryError
from taskmask.registry import MASKERS, MODELS, Registry, load_user_dir, user_dir_checksums, user_dirs


@dataclasses.dataclass(frozen=True)
class Options:
    """Options."""

    size: int = opt(3, "size")

    def __post_init__(self):
        if self.size < 0:
            raise ValueError("size is negative")


class Thing:
    """A thing.

    More of it.
    """


@pytest.fixture
def registry():
    return Registry("masker", "taskmask.errors")  # a package that registers nothing here


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Makes an installed package out of the text of a module and the lines of its entry points."""

    def make(text, *points, name="plug_in_a"):
        (tmp_path / f"{name}.py").write_text(text)
        info = tmp_path / f"{name}-1.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n")
        (info / "entry_points.txt").write_text("[taskmask.masker]\n" + "\n".join(points))
        monkeypatch.syspath_prepend(str(tmp_path))
        importlib.invalidate_caches()

    return make


def test_register_and_get(registry):
    assert registry.register("thing", config=Options)(Thing) is Thing
    entry = registry.get("thing")
    assert (entry.load(), entry.config, entry.headline) == (Thing, Options, "A thing.")
    assert registry.where("thing").startswith(f"{__file__}:")
    assert registry.names() == ["thing"]


def test_options_behind_a_name_say_where_they_belong():
    said = (
        "masker: is 'span p=0.3 longest=5'; expected a name alone; .* --masker span --masker.p 0.3 --masker.longest 5"
    )
    with pytest.raises(RegistryError, match=said):
        MASKERS.get("span p=0.3 longest=5")
    said = r"--masker fully_explored --masker.of 'span p=0.3' --masker.masks 3"
    with pytest.raises(RegistryError, match=said):
        MASKERS.get('fully_explored of="span p=0.3" masks=3')
    for name in ("", " ", "nothing p=0.3", "span 0.3", 'span of="p'):
        with pytest.raises(RegistryError, match="unknown masker"):
            MASKERS.get(name)


def test_an_unknown_name_says_all_that_helps():
    with pytest.raises(RegistryError) as caught:
        MASKERS.get("whole_words")
    message = str(caught.value)
    assert "unknown masker 'whole_words'" in message and "did you mean 'whole_word'?" in message
    assert all(name in message for name in MASKERS.names())
    assert "--user-dir" in message and "taskmask.masker" in message and caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("name", "near"), [("bert_tiny", "'tiny' or 'bart_tiny'"), ("bert-mini", "'mini' or 'bart_mini'")]
)
def test_a_model_of_a_known_size_is_near(name, near):
    with pytest.raises(RegistryError, match=f"unknown model '{name}'; .*did you mean {near}\\?"):
        MODELS.get(name)


def test_the_same_name_twice_names_both_places(registry):
    registry.register("thing", place="a.py:1")(Thing)
    with pytest.raises(RegistryError, match=r"registered twice: at a\.py:1 and at b\.py:2"):
        registry.register("thing", place="b.py:2")(Thing)


def test_the_same_place_again_is_harmless(registry):
    for _ in range(2):
        registry.register("thing", place="a.py:1")(Thing)


def test_a_variant_sets_other_defaults(registry):
    registry.register("thing", config=Options)(Thing)
    registry.variant("big", of="thing", size=9, summary="Bigger.")
    registry.variant("bigger", of="big")
    assert registry.get("bigger").preset == {"size": 9} and registry.get("bigger").load() is Thing
    assert registry.get("big").headline == "Bigger."
    with pytest.raises(ValueError, match="negative"):
        registry.variant("wrong", of="thing", size=-1)
    with pytest.raises(TypeError):
        registry.variant("wrong", of="thing", weight=1)
    with pytest.raises(RegistryError, match="unknown masker 'none'"):
        registry.variant("wrong", of="none")


@pytest.mark.fault(25)
def test_what_cannot_be_options_is_refused(registry):
    with pytest.raises(RegistryError, match="no frozen dataclass"):
        registry.register("thing", config=dict)(Thing)
    with pytest.raises(RegistryError, match="no frozen dataclass"):
        registry.register("thing", config=dataclasses.make_dataclass("Soft", [("size", int, 1)]))(Thing)
    named = dataclasses.make_dataclass("Named", [("name", str, "")], frozen=True)
    with pytest.raises(RegistryError, match="option called name"):
        registry.register("thing", config=named)(Thing)


GOOD = """from taskmask import register_masker
@register_masker('{0}')
def choose(batch, rng, *, budget):
    '''Nothing.'''
"""


def test_a_package_is_found_and_imported_when_asked_for(package):
    package(GOOD.format("from_package"), "from_package = plug_in_a")
    assert "from_package" in MASKERS.names() and "plug_in_a" not in sys.modules
    assert MASKERS.get("from_package").doc == "Nothing." and MASKERS.get("from_package") is MASKERS.get("from_package")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("import no_such_module", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("raise OSError('gone')", "OSError: gone"),
        ("import sys; sys.exit(0)", "SystemExit: 0"),
        ("def f(:", "SyntaxError"),
        ("x = 1", "registered no masker called 'bad'"),
    ],
)
def test_a_broken_package_is_named_and_breaks_no_other(package, text, says):
    package(text, "bad = plug_in_a")
    with pytest.raises(RegistryError, match="package plug_in_a") as caught:
        MASKERS.get("bad")
    assert says in str(caught.value)
    assert MASKERS.get("span").name == "span" and "bad" in MASKERS.names()


def test_a_package_that_takes_a_known_name_is_an_error(package):
    package(GOOD.format("span"), "span = plug_in_a")
    with pytest.raises(RegistryError, match=r"registered twice: at .*span\.py:\d+ and at .*plug_in_a\.py:2"):
        MASKERS.get("span")


def test_plug_in_file(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(GOOD.format("of_file"))
    before = list(sys.path)
    load_user_dir(str(file))
    load_user_dir(str(file))
    assert MASKERS.where("of_file") == f"{file}:2" and sys.path == before


def test_plug_in_variant_of_a_built_in_model(tmp_path, monkeypatch):
    monkeypatch.setattr(MODELS, "_entries", {})  # as in a fresh process, where no model is registered yet
    for name in [name for name in sys.modules if name == "taskmask.models"]:
        monkeypatch.delitem(sys.modules, name)
    text = "from taskmask.registry import MODELS\nMODELS.variant('pico', of='tiny', layers=1)"
    (tmp_path / "small.py").write_text(text)
    load_user_dir(str(tmp_path / "small.py"))
    assert MODELS.get("pico").preset["layers"] == 1


def test_plug_in_folder_with_relative_imports(tmp_path):
    (tmp_path / "a.py").write_text("from .helper import NAME\nfrom . import helper\n" + GOOD.format("of_folder"))
    (tmp_path / "helper.py").write_text("RUNS = globals().get('RUNS', 0) + 1\nNAME = 'x'")
    before = list(sys.path)
    load_user_dir(str(tmp_path))
    assert "of_folder" in MASKERS.names() and sys.path == before and "helper" not in sys.modules


def test_plug_in_folder_with_an_init(tmp_path):
    (tmp_path / "__init__.py").write_text("SHARED = 5\nfrom . import b")
    (tmp_path / "a.py").write_text("from . import SHARED\nassert SHARED == 5\n" + GOOD.format("of_package"))
    (tmp_path / "b.py").write_text("import sys\nassert 'BEEN_HERE' not in globals()\nBEEN_HERE = 1\n")
    load_user_dir(str(tmp_path))
    assert "of_package" in MASKERS.names()


@pytest.mark.fault(26)
def test_a_plug_in_shadows_nothing(tmp_path):
    (tmp_path / "statistics.py").write_text("import statistics\nassert statistics.mean([1, 3]) == 2\nmean = None")
    (tmp_path / "random.py").write_text("from .statistics import mean\nimport random\nrandom.random()")
    load_user_dir(str(tmp_path))
    load_user_dir(str(tmp_path / "statistics.py"))
    import statistics

    assert statistics.mean([2, 4]) == 3


@pytest.mark.fault(25)
@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("x = 1\ndef f(:\n", 2, "SyntaxError"),
        ("\n\nimport no_such_module\n", 3, "No module named 'no_such_module'"),
        ("def f():\n    return 1 / 0\nf()\n", 2, "ZeroDivisionError"),
        ("import json\njson.loads('{')\n", 2, "JSONDecodeError"),
        ("import sys\nsys.exit(0)\n", 2, "SystemExit"),
        ("x = '\0'\n", None, "null bytes"),
    ],
)
@pytest.mark.parametrize("folder", [False, True])
def test_a_plug_in_that_does_not_run_names_its_line(tmp_path, text, line, says, folder):
    file = tmp_path / "mine.py"
    file.write_text(text)
    for _ in range(2):  # the second time as the first
        with pytest.raises(RegistryError) as caught:
            load_user_dir(str(tmp_path if folder else file))
        assert str(caught.value).startswith(f"{file}:{line}: " if line else str(tmp_path)) and says in str(caught.value)
    file.write_text("mended = True")
    load_user_dir(str(tmp_path if folder else file))


def test_a_plug_in_in_another_encoding(tmp_path):
    (tmp_path / "mine.py").write_bytes(b"x = '\xff'\n")
    with pytest.raises(RegistryError, match="SyntaxError"):
        load_user_dir(str(tmp_path / "mine.py"))


@pytest.mark.fault(25)
def test_a_mistake_at_registration_keeps_its_own_words(tmp_path):
    (tmp_path / "mine.py").write_text(GOOD.format("uniform"))
    with pytest.raises(RegistryError, match=r"'uniform' is registered twice"):
        load_user_dir(str(tmp_path / "mine.py"))


def test_what_anybody_may_change_is_warned_of(tmp_path, capfd):
    (tmp_path / "mine").mkdir()
    file = tmp_path / "mine" / "a.py"
    for number, (path, mode) in enumerate(
        [(file, 0o646), (tmp_path / "mine", 0o757), (file, 0o664), (tmp_path, 0o1777)]
    ):
        (tmp_path / "mine").chmod(0o755)
        file.write_text(f"NUMBER = {number}")
        file.chmod(0o644)
        path.chmod(mode)
        for named in (file, tmp_path / "mine"):
            load_user_dir(str(named))
            shown = capfd.readouterr().err
            if mode & 0o1002 == 2:
                assert shown.count("\n") == 1 and f"taskmask: warning: anybody may change {path}, " in shown
            else:
                assert not shown
            for name in [name for name in sys.modules if name.startswith("taskmask_user_")]:
                del sys.modules[name]


def test_what_was_loaded_is_known_by_its_content(tmp_path, monkeypatch):
    monkeypatch.setattr("taskmask.registry.plugins._user_dirs", {})
    seen = set()
    for text in ("A = 1", "A = 2", "A = 1"):
        (tmp_path / "a.py").write_text(text)
        load_user_dir(str(tmp_path))
        assert user_dirs() == (str(tmp_path),)
        seen.add(user_dir_checksums()[str(tmp_path)])
        for name in [name for name in sys.modules if name.startswith("taskmask_user_")]:
            del sys.modules[name]
    assert len(seen) == 2 and all(len(checksum) == 64 for checksum in seen)


def test_no_such_plug_in(tmp_path):
    (tmp_path / "notes.txt").write_text("hello")
    for path, says in [("gone.py", "does not exist"), ("", "holds no .py file"), ("notes.txt", "is no .py file")]:
        with pytest.raises(RegistryError, match=says) as caught:
            load_user_dir(str(tmp_path / path))
        assert str(tmp_path) in str(caught.value) and "--user-dir" in str(caught.value)
