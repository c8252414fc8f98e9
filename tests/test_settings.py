"""All settings of a run: sections, order, choices, contradictions, and the way out and in again."""

import dataclasses
import json
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskmask import config
from taskmask.config import settings
from taskmask.config.settings import SECTIONS, Settings, help_text
from taskmask.errors import ConfigError
from taskmask.registry import TASKS
from taskmask.tasks.base import Task
from taskmask_cli import main as front


def parse(*words):
    return settings.parse(config.read_flags([str(word) for word in words]))


def errors_of(*words):
    with pytest.raises(ConfigError) as caught:
        parse(*words)
    return str(caught.value)


def test_defaults():
    made = parse()
    assert made == Settings.of() == Settings.of({})
    assert (made.task.name, made.model.name, made.masker.name, made.criterion.name) == (
        "masked_lm", "mini", "uniform", "masked_lm",
    )  # fmt: skip
    with pytest.raises(dataclasses.FrozenInstanceError):
        made.train.steps = 5


def test_flags():
    made = parse("--data", "bin", "--run", "runs/a", "--masker", "span", "--masker.p", "0.5", "--masker.never",
    "the", "of",
                 "--optim.lr", "1e-3", "--run.compile", "--optim.warmup_steps", "none")  # fmt: skip
    assert made.data.path == "bin" and made.run.folder == "runs/a" and made.run.compile
    assert made.masker.options.p == 0.5 and made.masker.options.never == ("the", "of")
    assert made.optim.lr == 1e-3 and made.optim.warmup_steps is None


def test_left_to_right_later_wins(tmp_path):
    (tmp_path / "a.toml").write_text("[train]\nsteps = 5\nseed = 5\n[optim]\nwarmup_steps = 2\n")
    (tmp_path / "b.json").write_text('{"train": {"steps": 6}}')
    files = [("--config", str(tmp_path / "a.toml")), ("--config", str(tmp_path / "b.json")), ("--train.steps", "7")]
    for order, steps in [((0, 1, 2), 7), ((0, 2, 1), 6), ((2, 1, 0), 5)]:
        made = parse(*[word for i in order for word in files[i]])
        assert (made.train.steps, made.train.seed, made.optim.warmup_steps) == (steps, 5, 2)


def test_in_python():
    run, masker = {"folder": "r", "threads": 1}, {"p": 0.5, "name": "span"}
    made = Settings.of(data="bin", run=run, masker=masker, optim={"lr": 1})
    words = ["--data", "bin", "--run", "r", "--run.threads", "1", "--masker", "span", "--masker.p", "0.5"]
    assert made == parse(*words, "--optim.lr", "1")
    changed = Settings.of(made.to_dict(), optim={"clip": 0.5}, masker="uniform")
    assert changed.optim == dataclasses.replace(made.optim, clip=0.5) and changed.data == made.data
    assert changed.masker.name == "uniform"
    with pytest.raises(ConfigError, match=r"Settings\.of: unknown option train.stepz"):
        Settings.of(train={"stepz": 5})
    for wrong in (None, 3, ["span"]):
        with pytest.raises(ConfigError, match=r"Settings\.of: masker is .*; expected one of .*mix, .*span"):
            Settings.of(masker=wrong)


def test_help_has_every_fixed_setting():
    text = help_text([])
    for section, cls in settings.FIXED.items():
        for field, (_, _, help) in config.fields_of(cls).items():
            assert help and f"  --{section}{'' if field == settings.MAIN_FIELD.get(section) else '.' + field} " in text


def test_help_imports_no_torch():
    program = "import sys; from taskmask.config.settings import help_text; help_text([]); print('torch' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", program], text=True) == "False\n"


def test_another_component_drops_the_options_of_the_earlier_one(tmp_path):
    (tmp_path / "run.json").write_text(json.dumps(parse("--masker", "span", "--masker.ratio", "0.4").to_dict()))
    made = parse("--config", tmp_path / "run.json", "--masker", "uniform")
    assert made.masker == parse("--masker", "uniform").masker
    assert parse("--masker", "span", "--masker.p", "0.5", "--masker", "uniform").masker.options.ratio == 0.15
    same = parse("--config", tmp_path / "run.json", "--masker", "span")
    assert same.masker.options.ratio == 0.4


def test_a_flag_before_the_choice_counts_too(tmp_path):
    (tmp_path / "run.json").write_text(json.dumps(parse("--masker.ratio", "0.4").to_dict()))
    for before in ([], ["--config", tmp_path / "run.json"]):
        for words in (["--masker.p", "0.5", "--masker", "span"], ["--masker", "span", "--masker.p", "0.5"]):
            made = parse(*before, *words)
            assert made.masker.options.p == 0.5 and made.masker.options.ratio == 0.15
    assert "masker.p" in errors_of("--config", tmp_path / "run.json", "--masker.p", "0.5", "--masker", "whole_word")


@pytest.mark.fault(23, 24)
def test_all_errors_at_once_each_with_a_hint():
    text = errors_of("--masker", "spam", "--train.steps", "x", "--train.sead", "3", "--optim.lr", "-1",
    "--model.wide", "3",
                     "--trainn.steps", "4", "--data.length", "2", "--run.folder")  # fmt: skip
    lines = text.splitlines()
    assert lines[0] == "8 settings are wrong:" and len(lines) == 9
    for says in (
        "unknown masker 'spam'; expected one of",
        "did you mean 'span'?",
        "--train.steps: train.steps is 'x'; expected integer",
        "unknown option train.sead",
        "did you mean 'train.seed'?",
        "optim.lr: is -1.0; expected more than 0",
        "did you mean 'model.width'?",
        "did you mean 'train.steps'?",
        "data.length: is 2; expected at least 3 tokens",
        "--run.folder: run.folder has no value; expected text",
    ):
        assert says in text


@pytest.mark.fault(23)
@pytest.mark.parametrize(
    ("flag", "hint"),
    [
        ("--lr", "optim.lr"),
        ("--steps", "train.steps"),
        ("--ratio", "masker.ratio"),
        ("--maskr", "masker"),
        ("--layers", "model.layers"),
    ],
)
def test_a_flag_without_its_section(flag, hint):
    assert errors_of(flag, "3").endswith(f"did you mean {hint!r}?")


@pytest.mark.fault(24)
@pytest.mark.parametrize(
    "words",
    [
        "--train.steps 0", "--train.steps 1.5", "--train.seed -1", "--train.max_tokens 0", "--train.ema 1",
        "--train.micro_batches_per_step 0", "--train.precision fp64", "--train.patience -1", "--train.max_bad_steps 0",
        "--optim.lr 0", "--optim.lr nan", "--optim.lr inf", "--optim.beta2 1", "--optim.epsilon 0", "--optim.clip -1",
        "--optim.schedule step", "--optim.warmup_steps -1", "--optim.lr_end 1", "--data.length 2", "--data.blocks page",
        "--run.log_every 0", "--run.keep_last 0", "--run.workers -1", "--run.timeout_minutes 0", "--run.compile maybe",
        "--run.threads 9999", "--run.workers 2000",
        "--masker.ratio 1.5", "--masker.ratio -0.1", "--masker span --masker.p 0", "--masker span --masker.longest 0",
        "--masker.never the --masker.always the", "--task.mask_share 0.9 --task.random_share 0.2",
        "--model.width 30 --model.heads 4", "--train.max_tokens 100", "--optim.warmup_steps 10000", "--train 5",
        "--task",
        "--model.name none", "--criterion mse", "--train.seed 99999999999999999999",
    ],
)  # fmt: skip
def test_wrong_values_are_one_clear_error(words):
    text = errors_of(*words.split())
    assert "\n" not in text and len(text) < 400
    assert [word for word in words.split() if word.startswith("--")][-1].lstrip("-").removesuffix(".name") in text


def test_a_wrong_section_raises_no_false_contradiction():
    assert errors_of("--train.steps", "x", "--optim.warmup_steps", "20000").count("wrong") == 0
    assert "lr_end" not in errors_of("--optim.lr", "-1")


def test_a_task_that_masks_nothing(monkeypatch):
    class Plain(Task):
        """Masks nothing."""

        default_criterion = "masked_lm"

    monkeypatch.setitem(
        TASKS._entries, "plain", dataclasses.replace(TASKS.get("masked_lm"), name="plain", target=Plain)
    )
    made = parse("--task", "plain")
    assert made.masker is None and "masker" not in made.to_dict() and Settings.of(made.to_dict()) == made
    assert "\nmasker" not in help_text(config.read_flags(["--task", "plain"]))
    for words in (["--masker", "span"], ["--masker.ratio", "0.3"]):
        assert "task plain masks nothing" in errors_of("--task", "plain", *words)


def test_a_wrong_help_is_an_error_too():
    with pytest.raises(ConfigError, match="unknown masker 'spam'"):
        help_text(config.read_flags(["--masker", "spam"]))


FIELDS = ["train.steps", "masker.ratio", "masker.name", "model.layers", "optim.lr", "x", "", ".", "train."]
keys = st.sampled_from([*SECTIONS, *FIELDS])
values = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.sampled_from(["span", "tiny"])
)
values |= st.lists(st.text(max_size=3), max_size=3) | st.dictionaries(st.text(max_size=3), st.integers(), max_size=2)


@given(st.lists(st.tuples(keys, values), max_size=5))
def test_fuzz_only_config_errors(pairs):
    try:
        made = settings.parse([config.Assignment(key, value, "--" + key) for key, value in pairs])
    except ConfigError:
        return
    assert Settings.of(made.to_dict()) == made


@given(st.dictionaries(st.sampled_from(SECTIONS) | st.text(max_size=4), values, max_size=4))
def test_fuzz_python_tables(tables):
    try:
        made = Settings.of(tables)
    except ConfigError:
        return
    assert Settings.of(made.to_dict()) == made


def test_choices_are_the_names_and_what_is_no_default():
    chosen = Settings.of(data="bin", run="r", model={"name": "tiny", "layers": 3}, masker="span", optim={"lr": 1e-3})
    assert chosen.choices() == {
        "data.path": "bin",
        "task": "masked_lm",
        "model": "tiny",
        "model.layers": 3,
        "masker": "span",
        "criterion": "masked_lm",
        "optim.lr": 1e-3,
    }


@pytest.mark.fault(23)
def test_unknown_options_end_with_2_and_the_nearest_on_the_command_line_and_in_files(tmp_path, capsys):
    (tmp_path / "a.toml").write_text("[masker]\nratoi = 0.2\n[trian]\nsteps = 3\n")
    flags = ["--optim.lrr", "3", "--model.layer", "3", "--masker.ratoi", "0.2"]
    for words, near in ((flags, ["optim.lr", "model.layers", "masker.ratio"]),
                        (["--config", str(tmp_path / "a.toml")], ["masker.ratio", "train"])):  # fmt: skip
        assert front.run(front.main, ["train", *words]) == 2
        shown = capsys.readouterr().err
        assert all(f"did you mean '{name}" in shown for name in near) and "Traceback" not in shown


@pytest.mark.fault(24)
def test_contradictions_end_with_2_all_at_once_before_the_data_is_opened(tmp_path, capsys):
    words = "--masker.ratio 1.5 --model.width 30 --model.heads 4 --optim.lr_end 1 --train.patience 3"
    words += f" --train.valid_every 0 --data {tmp_path}/nothing --run {tmp_path}/run"
    assert front.run(front.main, ["train", *words.split()]) == 2
    shown = capsys.readouterr().err
    for part in ("4 settings are wrong", "masker.ratio: is 1.5", "model.heads: is 4, which does not divide",
                 "optim.lr_end", "train.patience: is 3"):  # fmt: skip
        assert part in shown
    words = "--train.max_tokens 100 --train.steps 10 --optim.warmup_steps 10"
    words += f" --data {tmp_path}/nothing --run {tmp_path}/run"
    assert front.run(front.main, ["train", *words.split()]) == 2
    shown = capsys.readouterr().err
    assert "2 settings are wrong" in shown and "train.max_tokens: is 100; expected at least data.length, 128" in shown
    assert "optim.warmup_steps: is 10; expected fewer than train.steps, 10" in shown
    assert "nothing" not in shown and not list(tmp_path.iterdir())


def test_another_task_drops_the_masker_and_criterion_of_an_earlier_file(tmp_path):
    """Those that the file chose for its task; what other files and flags say stays, or is an error."""
    first, second, third = tmp_path / "first.toml", tmp_path / "second.toml", tmp_path / "third.toml"
    rest = '[masker]\nname = "span"\nratio = 0.3\n[criterion]\nname = "masked_lm"\n[optim]\nlr = 0.5\n'
    first.write_text('[task]\nname = "masked_lm"\n' + rest)
    third.write_text("[criterion]\nlabel_smoothing = 0.1\n")
    second.write_text('[task]\nname = "classification"\n' + third.read_text())
    chosen = parse("--config", first, "--config", second)
    assert chosen.masker is None and chosen.optim.lr == 0.5
    assert chosen.criterion.options.label_smoothing == 0.1
    by_flag = parse("--config", first, "--task", "classification")
    assert by_flag.masker is None and by_flag.criterion.name == "classification"
    assert parse("--config", third, "--task", "classification").criterion.options.label_smoothing == 0.1
    in_python = Settings.of(parse("--config", first).to_dict(), task="classification")
    assert in_python.masker is None and in_python.optim.lr == 0.5
    first.write_text(rest)
    with pytest.raises(ConfigError, match="masks nothing"):
        parse("--config", first, "--task", "classification")
    with pytest.raises(ConfigError, match="masks nothing"):
        parse("--masker", "span", "--task", "classification")
