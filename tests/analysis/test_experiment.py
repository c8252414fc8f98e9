"""The experiment file: what it says is what the stages get, and all that is wrong with it is said before they begin."""

import json
import re
import tomllib
from pathlib import Path

import pytest
from compare_help import EXPERIMENT, merged, write_data, write_experiment

from taskmask.analysis.compare.experiment_file import read
from taskmask.analysis.compare.runner import headlines, plan
from taskmask.errors import CheckpointError, ConfigError, DataError, TaskmaskError
from taskmask_cli.compare import EPILOG

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("data"))


def refused(tmp_path, data, **changes):
    """The message about an experiment with changes in it, without its path."""
    file = write_experiment(tmp_path, data, **changes)
    with pytest.raises(TaskmaskError) as found:
        plan(file, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    return str(found.value).replace(str(file), "FILE").replace(str(data), "DATA")


WRONG = {
    "key": ({"seds": [1]}, "FILE: unknown key 'seds'; expected seeds, .*; did you mean 'seeds'"),
    "section": (
        {"optim": {"lr": 1}},
        r"unknown key 'optim'; .*; settings stand in a stage: \[intermediate.optim\], say",
    ),
    "seed twice": ({"seeds": [1, 2, 1]}, "FILE: seeds names 1 twice: 1 2 1"),
    "no seed": ({"seeds": []}, r"FILE: seeds is \[\]; expected one or more whole numbers from 0"),
    "seed below 0": ({"seeds": [-1]}, r"seeds is \[-1\]; expected one or more whole numbers from 0"),
    "half a seed": ({"seeds": [1.5]}, "FILE: seeds is '1.5'; expected integer"),
    "seed true": ({"seeds": [True]}, "FILE: seeds is 'True'; expected integer"),
    "baseline": (
        {"baseline": "unifrom"},
        "baseline is 'unifrom'; expected one of the policies: uniform, words; did you",
    ),
    "budget": ({"budget": "time"}, "FILE: budget is 'time'; expected one of steps, targets, flops"),
    "points": ({"points": 0}, "FILE: points is 0; expected at least 1"),
    "points of steps": (
        {"points": 3},
        "FILE: points is 3; expected a divisor of the 4 steps of the intermediate stage",
    ),
    "no policy": ({"policies": None}, "FILE: names no policy; add"),
    "no task": ({"tasks": None}, "FILE: names no labelled task; add"),
    "no start": ({"pretrain": None}, r"FILE: names nothing to begin with; \[pretrain\] from"),
    "two starts": ({"pretrain": {"from": "x"}}, r"FILE, \[pretrain\]: names a checkpoint with from, and settings"),
    "policy no table": ({"policies": {"words": 3}}, r"FILE, \[policies.words\]: is 3; expected a table of settings"),
    "policy a word": (
        {"policies": {"words": "whole_word"}},
        r'\[policies.words\]: is \'whole_word\'; .*; words = { masker = "whole_word" }',
    ),
    "name": ({"policies": {"../up": {}}}, r"FILE, \[policies\]: is called '../up'; expected letters, digits and"),
    "masker": (
        {"policies": {"words": {"masker": "hole_word"}}},
        r"FILE, \[policies.words\]: unknown masker 'hole_word'.*",
    ),
    "option": (
        {"policies": {"words": {"masker": {"name": "span", "pp": 1}}}},
        r"FILE, \[policies.words\]: unknown option masker.pp; expected one of .*; did you mean 'masker.p'",
    ),
    "type": (
        {"intermediate": {"optim": {"lr": "fast"}}},
        r"FILE, \[intermediate\]: optim.lr is 'fast'; expected number",
    ),
    "value": (
        {"tasks": {"half": {"optim": {"lr": -1}}}},
        r"FILE, \[tasks.half\]: optim.lr: is -1.0; expected more than 0",
    ),
    "steps of a policy": (
        {"policies": {"words": {"train": {"steps": 9}}}},
        r"FILE, \[policies.words\]: sets train.steps; the budget is the same for all policies: set it in \[inter",
    ),
    "epochs": ({"intermediate": {"train": {"epochs": 2}}}, "sets train.epochs; budgets are counted in steps"),
    "patience": (
        {"intermediate": {"train": {"patience": 2}}},
        "sets train.patience; every policy uses its whole budget",
    ),
    "seed of a stage": ({"tasks": {"half": {"train": {"seed": 2}}}}, "sets train.seed; the seeds stand at the top"),
    "init_from": (
        {"pretrain": {"train": {"init_from": "x"}}},
        r"\[pretrain\]: sets train.init_from; a stage begins with",
    ),
    "run of a stage": (
        {"pretrain": {"run": {"threads": 2}}},
        "sets run.threads; section run is the same for all stages",
    ),
    "folder": ({"run": {"folder": "x"}}, r"FILE, \[run\]: sets folder; name it on the command line: --run DIR"),
    "run": ({"run": {"thread": 2}}, r"FILE, \[run\]: unknown option run.thread; .*; did you mean 'run.threads'"),
    "split": ({"tasks": {"half": {"split": 3}}}, r"FILE, \[tasks.half\]: split is 3; expected the name of a split"),
    "same policy": (
        {"policies": {"again": {"masker": {"name": "whole_word", "ratio": 0.15}}}},
        r"FILE, \[policies.again\]: policies words and again say the same, so that one would be compared with itself",
    ),
}


@pytest.mark.parametrize(("changes", "message"), WRONG.values(), ids=WRONG.keys())
def test_what_is_wrong_with_the_file_is_said(changes, message, data, tmp_path):
    found = refused(tmp_path, data, **changes)
    assert re.search(message, found), found
    assert "\n" not in found


def test_all_of_it_is_said_at_once_and_what_is_shared_once(data, tmp_path):
    shared = {"optim": {"lr": "fast"}, "train": {"steps": 4}}
    found = refused(tmp_path, data, seeds=[1, 1], intermediate=shared, policies={"words": {"masker": "no"}}, typo=1)
    assert found.startswith("4 settings are wrong:") and len(found.splitlines()) == 5
    assert found.count("optim.lr is 'fast'") == 1


DATA = {
    "column": (
        {"tasks": {"half": {"task": {"name": "classification", "label": "lable"}}}},
        r"FILE, \[tasks.half\]: DATA, split train: there is no column 'lable'.*did you mean 'label'",
    ),
    "task": ({"tasks": {"half": {"task": "tagging"}}}, r"FILE, \[tasks.half\]: DATA"),
    "split": ({"tasks": {"half": {"split": "dev"}}}, r"FILE, \[tasks.half\]: .*'dev'.*expected"),
    "data": ({"tasks": {"half": {"data": "nowhere"}}}, r"FILE, \[tasks.half\]: nowhere"),
    "metric": (
        {"tasks": {"half": {"train": {"metric": "acuracy"}}}},
        r"FILE, \[tasks.half\]: train.metric: is 'acuracy'; expected one of .*accuracy.*did you mean",
    ),
    "another model": (
        {"policies": {"words": {"model": {"width": 64}}}},
        r"FILE, \[policies.words\]: model: has another model than the first stage, .*embeddings.* is \[.*64\]; "
        r"expected \[.*32\]; leave section model out",
    ),
    "other rows": (
        {
            "policies": {"words": {"data": {"length": 16}}},
            "tasks": {"half": {"task": {"name": "masked_lm"}, "masker": "uniform"}},
        },
        r"FILE, \[tasks.half\]: data.length: is 16, which cuts split test into \d+ rows; expected the \d+ rows "
        r"that .*; set data.length in \[tasks.half\]",
    ),
    "steps of a budget": (
        {
            "budget": "targets",
            "points": 1,
            "intermediate": {"optim": {"warmup_steps": 3}},
            "policies": {"words": {"masker": {"name": "whole_word", "ratio": 0.9}}},
        },
        r"FILE, \[policies.words\], whose budget is 1 steps: optim.warmup_steps: is 3; expected fewer than",
    ),
    "warm-up": (
        {"tasks": {"half": {"optim": {"warmup_steps": 900}, "train": {"epochs": 1}}}},
        r"FILE, \[tasks.half\]: optim.warmup_steps: is 900; expected fewer than",
    ),
}


@pytest.mark.parametrize(("changes", "message"), DATA.values(), ids=DATA.keys())
def test_what_does_not_fit_the_data_is_said(changes, message, data, tmp_path):
    found = refused(tmp_path, data, **changes)
    assert re.search(message, found), found


def test_a_policy_that_needs_a_column_that_is_not_there(data, tmp_path):
    from taskmask import MaskerConfig
    from taskmask.maskers.base import Masker, register_masker

    class Scored(Masker):
        """Reads a column."""

        columns = ("score",)

        def select(self, batch, rng):
            return batch.maskable

    class Options(MaskerConfig):
        """Options."""

    register_masker("scored_by", config=Options)(Scored)
    policies = {"scored": {"masker": "scored_by"}, "words": {"masker": {"name": "scored_by", "ratio": 0.3}}}
    with pytest.raises(DataError, match="2 things are wrong") as found:
        plan(write_experiment(tmp_path, data, policies=policies))
    for policy, line in zip(("words", "scored"), str(found.value).splitlines()[1:], strict=True):
        assert f"[policies.{policy}]: {data}, split train: there is no column 'score'; expected one of tokens" in line


def test_another_vocabulary(data, tmp_path):
    other = write_data(tmp_path / "other", "bin", "--vocab-size", "283")
    found = refused(tmp_path, data, tasks={"half": {"data": str(other)}})
    assert "[tasks.half]" in found and "has vocabulary" in found and "taskmask-preprocess --vocab DATA" in found


def test_a_dataset_that_all_stages_share_is_told_once(tmp_path):
    with pytest.raises(DataError) as found:
        plan(write_experiment(tmp_path, "nowhere"))
    assert str(found.value).count("nowhere") == 1 and "\n" not in str(found.value)


def test_a_typo_and_a_start_that_is_none_are_told_together(tmp_path):
    (tmp_path / "both.json").write_text(json.dumps({**EXPERIMENT, "seds": [1], "pretrain": {"from": "nowhere"}}))
    with pytest.raises(ConfigError, match=r"(?s)2 settings are wrong:.*'seds'.*from: nowhere"):
        read(tmp_path / "both.json")


def test_a_budget_that_is_missed_by_the_points_is_told(data, tmp_path):
    often = {"masker": {"name": "whole_word", "ratio": 0.4}}
    changes = {"budget": "targets", "points": 4, "intermediate": {"train": {"steps": 20}}, "policies": {"words": often}}
    lines = headlines(plan(write_experiment(tmp_path, data, **changes))[0])
    assert lines[0].endswith("uniform 20, words 8")
    assert re.fullmatch(r"warning: words gets \d+ % of that, since its steps are a multiple of points, 4", lines[1])


def test_files_that_are_none(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        read(tmp_path / "none.toml")
    (tmp_path / "torn.toml").write_text("seeds = [1")
    with pytest.raises(ConfigError, match="is not valid TOML"):
        read(tmp_path / "torn.toml")
    tables = {**EXPERIMENT, "pretrain": {"from": str(tmp_path)}}
    (tmp_path / "from.json").write_text(json.dumps(tables))
    with pytest.raises(CheckpointError, match=r"from.json, \[pretrain\] from: .*: is no run folder"):
        read(tmp_path / "from.json")


def test_stages_get_what_the_file_says(data, tmp_path):
    changes = {
        "finetune": {"optim": {"lr": 0.25}, "model": {"pool": "mean"}},
        "policies": {"words": {"optim": {"lr": 0.5}, "model": {"dropout": 0.5}}},
        "run": {"log_every": 7, "save_every": 1000},
        "intermediate": {"train": {"steps": 1500}},
        "points": 1,
    }
    planner, stages = plan(write_experiment(tmp_path, data, **changes), tmp_path / "out")
    first, alone, uniform, _, words, tuned = stages[:6]
    assert [s.kind[0] for s in (first, alone, uniform, words, tuned)] == list("pfiif")
    assert words.title == "intermediate words, seed 1" and tuned.title == "fine-tuning half after words, seed 1"
    assert {stage.settings.data.path for stage in stages} == {str(data)}
    assert {(s.settings.model.options.width, s.settings.data.length) for s in stages} == {(32, 32)}
    assert (uniform.settings.optim.lr, words.settings.optim.lr, tuned.settings.optim.lr) == (5e-4, 0.5, 0.25)
    assert words.settings.model.options.dropout == tuned.settings.model.options.dropout == 0.5
    assert tuned.settings.model.options.pool == "mean" and alone.settings.model.options.dropout == 0.1
    assert first.before is None and alone.before is words.before is first and tuned.before is words
    assert (tuned.begins, alone.begins) == (1500, 0) and {s.settings.run.log_every for s in stages} == {7}
    run = words.settings.run
    assert (run.save_every, run.keep_every, run.keep_best) == (750, 1500, 0)  # saves divide the share, for the resume
    assert words.folder == tmp_path / "out" / "stages" / f"intermediate-{words.digest[:12]}"
    assert {stage.seed for stage in stages} == {1, 2} and planner.splits == {"half": "test"}
    assert headlines(planner)[0].startswith("split train: ")


def test_costs_are_planned(data, tmp_path):
    _, stages = plan(write_experiment(tmp_path, data))
    first, alone = stages[:2]
    assert first.planned.updates == 3 and 0 < first.planned.targets < 0.25 * first.planned.tokens < 0.25 * 3 * 256
    assert alone.planned.updates == 4 and first.planned.flops > 0


EXAMPLES = [file for file in sorted(ROOT.glob("examples/*/*.toml")) if "policies" in tomllib.loads(file.read_text())]


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: f"{file.parent.name}/{file.stem}")
def test_experiments_of_the_examples(file, tmp_path):
    tables = tomllib.loads(file.read_text())
    if "from" in tables["pretrain"]:  # a run that the script before it makes
        tables["pretrain"] = {"model": "tiny"}
    (tmp_path / "example.json").write_text(json.dumps(tables))
    found = read(tmp_path / "example.json")
    assert list(found.policies) == list(tables["policies"]) and len(found.seeds) >= 3
    assert found.policies["uniform"].masker.name == "uniform"


def test_the_experiment_of_the_help(tmp_path):
    text = EPILOG.partition("file:\n")[2].partition("\nexamples:")[0]
    (tmp_path / "help.toml").write_text(text)
    found = read(tmp_path / "help.toml")
    assert found.baseline == "uniform" and found.tasks["topic"].task.options.label == "topic"
    assert merged(EXPERIMENT, {}) == EXPERIMENT
