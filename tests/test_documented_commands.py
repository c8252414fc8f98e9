"""What the documentation says is what the program takes: every command of it is parsed by the real command lines."""

import inspect
import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import torch.distributed.run as torchrun
from plug_in_help import plug_ins_taken_back

import taskmask
from taskmask import config
from taskmask.config import settings
from taskmask.config.settings import Settings
from taskmask.data.batch import TokenBatch
from taskmask.data.rng import RowRng
from taskmask.inference.loaded_model import Pretrained
from taskmask.maskers.base import build_masker
from taskmask.maskers.policy import read_policy
from taskmask.registry import MASKERS, REGISTRIES, load_user_dir
from taskmask.tokenizer.tokenizer import Vocabulary, train_vocabulary
from taskmask_cli import annotate, collocations, convert, evaluate, main, predict, preprocess, spans, train
from taskmask_cli import check as check_command
from taskmask_cli import compare as compare_command
from taskmask_cli import inspect as inspect_command
from taskmask_cli import list as list_command

ROOT = Path(__file__).parent.parent
FILES = [ROOT / "README.md", *sorted(ROOT.glob("examples/*/README.md")), *sorted(ROOT.glob("examples/**/*.sh"))]
TEXTS = {str(file.relative_to(ROOT)): file.read_text(encoding="utf-8") for file in FILES}
COMMAND_LINES = (
    train,
    evaluate,
    predict,
    annotate,
    collocations,
    spans,
    convert,
    check_command,
    compare_command,
    inspect_command,
    list_command,
    preprocess,
)
TEXTS |= {f"{module.__name__}.EPILOG": module.EPILOG for module in COMMAND_LINES}
TEXTS["taskmask_cli.main.HELP"] = main.HELP
MY_MASKER = ROOT / "examples" / "custom_masker" / "my_masker.py"
VERBS = "|".join(main.VERBS)
# at the start of a line, after a pipe or a path, or in `ticks`; what follows ends at the tick or with the line
COMMAND = re.compile(
    rf"(?:^\s*|\|\s+|\.venv/bin/|(?P<tick>`))"
    rf"(?P<words>(?:taskmask-train|taskmask-preprocess|taskmask (?:{VERBS})|torchrun)\b(?(tick)[^`\n]*|.*))",
    re.MULTILINE,
)


class Reached(Exception):
    """The command line was accepted, and what it would do begins."""


def commands_of(name, text):
    """Yields the words of every command in a text, variables replaced, once for each value of a loop.

    A variable has the first plain value that the text gives it.
    """
    folder = str(ROOT / Path(name).parent)
    text = re.sub(r"\\\n\s*", " ", text).replace('$(dirname "${BASH_SOURCE[0]}")', folder).replace("$here", folder)
    loops = {variable: values.split() for variable, values in re.findall(r"for (\w+) in ([^;$]+);", text)}
    given = dict(reversed(re.findall(r"\b(\w+)=([^\s$\"']+)", text)))
    for match in COMMAND.finditer(text):
        loop = next((variable for variable in loops if f"${variable}" in match["words"]), None)
        for value in loops.get(loop, [""]):
            values = given | {loop: value}
            line = re.sub(r"\$\{?(\w+)\}?", lambda name: values.get(name[1], "dummy"), match["words"])  # noqa: B023
            words = shlex.split(line, comments=True)
            end = next((place for place, word in enumerate(words) if word in ("|", ">", "<", "&&", "||", ";")), None)
            yield words[:end]


COMMANDS = [(name, shlex.join(words)) for name, text in TEXTS.items() for words in commands_of(name, text)]


@pytest.fixture(scope="module", autouse=True)
def plug_ins():
    """The maskers that the documentation tells of, for the time of these tests."""
    with plug_ins_taken_back():
        load_user_dir(str(MY_MASKER))
        load_user_dir(str(ROOT / "examples" / "custom_masker" / "package" / "first_letters.py"))
        MASKERS.variant("mine", of="uniform")
        yield


@pytest.fixture
def run(tmp_path, monkeypatch):
    """run(words) parses a command as the program does; returns the settings, where it has some."""
    (tmp_path / "settings.json").write_text(json.dumps(Settings.of().to_dict()))
    made = []

    def trains(chosen, *_, **__):
        made.append(chosen)
        raise Reached

    def evaluates(runs, data, split, overrides, advance):
        assert runs and split in ("train", "valid", "test")
        trains(settings.parse(overrides))

    def annotates(source, data, columns, splits, overrides, **_):
        assert source and data and columns
        trains(settings.parse(overrides))

    def reached(*_, **__):
        raise Reached

    def inspects(data, maskers, **_):
        assert all(read_policy(text) for text in maskers)
        raise Reached

    monkeypatch.setattr("taskmask.training.train.train", trains)
    monkeypatch.setattr("taskmask.training.dry_run.dry_run", trains)
    monkeypatch.setattr("taskmask.inference.multi_seed.train_seeds", trains)
    monkeypatch.setattr("taskmask.inference.multi_seed.evaluate_runs", evaluates)
    monkeypatch.setattr("taskmask.inference.annotate.annotate", annotates)
    monkeypatch.setattr("taskmask.analysis.inspect.inspection.inspect", inspects)
    monkeypatch.setattr("taskmask.data.dataset.Dataset.open", reached)  # of spans and collocations
    monkeypatch.setattr("taskmask.analysis.compare.runner.compare", reached)
    monkeypatch.setattr("taskmask.analysis.compare.runner.plan", reached)
    monkeypatch.setattr("taskmask.analysis.check.harness.check_masker", reached)
    monkeypatch.setattr("taskmask.hf.convert.from_hf", reached)
    monkeypatch.setattr("taskmask.hf.convert.to_hf", reached)
    monkeypatch.setattr("taskmask.inference.loaded_model.load", reached)
    monkeypatch.setattr(list_command, "list_dataset", reached)

    def file_of(flag, word):
        """A file of the repository as it is; for one that the user is to have, one that is there."""
        if word.startswith("examples/") or Path(word).is_absolute():
            return str(ROOT / word)
        return {"--config": str(tmp_path / "settings.json"), "--user-dir": str(MY_MASKER)}[flag]

    def run(words):
        if words[0] == "torchrun":
            launch = torchrun.parse_args(words[1:])
            assert launch.module and launch.training_script == "taskmask_cli.main"
            words = ["taskmask", *launch.training_script_args]
        if words[0] != "taskmask":
            words = ["taskmask", *words[0].split("-")[1:], *words[1:]]
        for place, flag in enumerate(words[:-1]):
            if flag in ("--config", "--user-dir"):
                words[place + 1] = file_of(flag, words[place + 1])
        if words[1] == "preprocess":
            preprocess.make_parser().parse_all(words[2:])
            return None
        try:
            assert main.main(words[1:]) == 0
        except Reached:
            return made[0] if made else None
        assert words[1] == "list" or "--help" in words
        return None

    return run


def test_the_commands_are_found():
    """So that the other tests look at something: a few that are known, and the number of all."""
    silent = set(TEXTS) - {name for name, _ in COMMANDS}
    with_scripts_alone = {f"examples/{name}/README.md" for name in ("pseudo_labels", "wikipedia")}
    assert silent == {"examples/environment.sh"} | with_scripts_alone
    assert len(COMMANDS) > 40
    found = {command.split()[0] for _, command in COMMANDS}
    assert found == {"taskmask", "taskmask-train", "taskmask-preprocess", "torchrun"}
    assert {f"taskmask {verb}" for verb in main.VERBS} <= {" ".join(command.split()[:2]) for _, command in COMMANDS}
    assert sum("torchrun" in text for text in TEXTS.values()) == len({n for n, c in COMMANDS if "torchrun" in c}) == 4
    everywhere = [command for _, command in COMMANDS]
    assert "taskmask evaluate --from dummy/run --masker whole_word" in everywhere  # of a loop
    assert any("HOST:29500 -m" in command for command in everywhere)  # over two lines


@pytest.mark.parametrize(("name", "command"), COMMANDS)
def test_every_command_is_accepted(name, command, run):
    run(shlex.split(command))


def test_a_wrong_command_is_not(run):
    for command in (
        "taskmask-train --data x --run y --masker.p 0.5",
        "taskmask train --data x --ru y",
        "taskmask-preprocess --train a.txt",
        "taskmask evaluate --from x --masker spam",
        "taskmask list maskers",
        "taskmask predict --from x --best 3 text",
        "torchrun --nproc-per-node 8 -m -- taskmask_cli.main train --steps 3",
    ):
        with pytest.raises(taskmask.TaskmaskError):
            run(shlex.split(command))
    with pytest.raises(SystemExit):  # torchrun takes --run for its own --run-path
        run(shlex.split("torchrun --nproc-per-node 8 -m taskmask_cli.main train --data x --run y"))


def test_what_a_command_says_is_what_is_set(run):
    chosen = run(
        shlex.split("torchrun --nproc-per-node 8 -m -- taskmask_cli.main train --data a --run b --masker span")
    )
    assert (chosen.data.path, chosen.run.folder, chosen.masker.name) == ("a", "b", "span")


@pytest.mark.parametrize("file", sorted(ROOT.glob("examples/*/settings.toml")), ids=lambda file: file.parent.name)
def test_settings_of_the_examples(file):
    assignments = config.read_file(file)
    tables = settings.parse(assignments).to_dict()
    assert len(assignments) > 5
    for assignment in assignments:
        section, _, field = assignment.key.partition(".")
        assert tables[section][field] == assignment.value


@pytest.mark.parametrize("name", TEXTS)
def test_every_setting_that_is_named_exists(name):
    classes = {section: [cls] for section, cls in settings.FIXED.items()}
    classes |= {kind: [r.get(n).config for n in r.names()] for kind, r in REGISTRIES.items()}
    sections = "|".join(classes)
    named = re.findall(rf"(?:--|`)({sections})\.(\w+)", TEXTS[name])
    known = {(section, field) for section in classes for cls in classes[section] for field in config.fields_of(cls)}
    assert set(named) - known - {("run", "restart")} == set()


@pytest.mark.parametrize("name", [name for name in TEXTS if name.startswith(("README", "examples"))])
def test_every_path_that_is_named_exists(name):
    text = re.sub(r"\$\w+/[\w./]+", "", TEXTS[name])
    paths = re.findall(r"(?<![\w/])(?:examples|tests|taskmask|taskmask_cli)/[\w./-]*\w", text)
    paths += [f"{Path(name).parent}/{path}" for path in re.findall(r"\]\((?!http)([^)]+)\)", text)]
    assert [path for path in paths if not (ROOT / path).exists()] == []


README = TEXTS["README.md"]
OWN_POLICY, OWN_TEST, PYTHON = re.findall(r"```python\n(.+?)```", README, re.DOTALL)


def test_the_readme_lists_every_masker():
    built_in = {name for name in MASKERS.names() if str(ROOT / "taskmask") in MASKERS.where(name)}
    assert {name for name, _ in re.findall(r"^\| `(\w+)` \|(.*)$", README, re.MULTILINE)} == built_in


def test_the_policy_of_the_readme_is_that_of_the_example(tmp_path, monkeypatch):
    (tmp_path / "my_masker.py").write_text(OWN_POLICY)
    vocab = Vocabulary(train_vocabulary(["the quick brown foxes jump over the lazy dogs"] * 20, 310, "bpe"))
    content = vocab.encode(["the unforgettable foxes jump over lazy dogs quickly"])[0]
    tokens = np.tile([vocab.bos, *content, vocab.eos], (50, 1))
    rows = TokenBatch(tokens, np.full(50, tokens.shape[1]), np.arange(50), vocab)

    def masks(power):
        options = MASKERS.get("long_words").config(ratio=0.3, power=power)
        return build_masker("long_words", options, vocab)(rows, RowRng(1, 1, rows.ids))

    assert MASKERS.where("long_words").startswith(str(MY_MASKER))
    example = {power: masks(power) for power in (0.0, 1.0, 3.0)}
    assert not np.array_equal(example[1.0], example[3.0])
    monkeypatch.setattr(MASKERS, "_entries", {k: v for k, v in MASKERS._entries.items() if k != "long_words"})
    load_user_dir(str(tmp_path / "my_masker.py"))
    assert MASKERS.where("long_words").startswith(str(tmp_path))
    assert all(np.array_equal(masks(power), expected) for power, expected in example.items())


def test_the_test_of_the_readme_passes(monkeypatch):
    monkeypatch.chdir(MY_MASKER.parent)
    names: dict = {}
    exec(OWN_TEST, names)
    names["test_my_masker"]()


def test_the_python_of_the_readme_calls_what_there_is(monkeypatch):
    """Its calls fit the functions; what they would do is in test_python_api.py."""
    called = []

    def stub(name, answer):
        signature = inspect.signature(getattr(taskmask, name))

        def call(*arguments, **named):
            called.append((name, signature.bind(*arguments, **named).arguments))
            return answer

        monkeypatch.setitem(vars(taskmask), name, call)

    fill_mask, predict = Pretrained.fill_mask, Pretrained.predict

    class Model:
        def fill_mask(self, *arguments, **named):
            inspect.signature(fill_mask).bind(self, *arguments, **named)
            return called.append(("fill_mask", arguments))

        def predict(self, *arguments, **named):
            inspect.signature(predict).bind(self, *arguments, **named)
            return called.append(("predict", arguments))

    for name, answer in {"train": None, "evaluate": {}, "load": Model()}.items():
        stub(name, answer)
    exec(PYTHON, {})
    assert [name for name, _ in called] == ["train", "load", "fill_mask", "evaluate", "load", "predict"]
    chosen = called[0][1]["settings"]
    assert (chosen.train.steps, chosen.masker.name, chosen.data.path) == (2000, "span", "data-bin")
