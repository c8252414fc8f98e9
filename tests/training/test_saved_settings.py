"""A run opens without the code of its masker: for predictions, conversions, other trainings, and other maskers."""

import pytest
from plug_in_help import plug_ins_taken_back

from taskmask.analysis.inspect.inspection import inspect
from taskmask.analysis.variance.measure import variance
from taskmask.checkpoints import checkpoint
from taskmask.errors import CheckpointError, ConfigError
from taskmask.hf.convert import to_hf
from taskmask.inference import loaded_model
from taskmask.inference.annotate import annotate
from taskmask.inference.evaluate import evaluate
from taskmask.registry import load_user_dir
from taskmask.training.train import train

MASKER = """
from taskmask import register_masker

@register_masker("every_nth")
def every_nth(batch, rng, *, n: int = 7):
    return batch.maskable & (rng.uniform("nth", batch.shape[1]) < 1 / n)
"""


@pytest.fixture
def run(settings, tmp_path):
    """A run whose masker is of a plug-in that is not loaded any more."""
    (tmp_path / "mine.py").write_text(MASKER)
    with plug_ins_taken_back():
        load_user_dir(str(tmp_path / "mine.py"))
        train(settings("run", masker={"name": "every_nth", "n": 5}, train={"steps": 2}))
    return str(tmp_path / "run")


def test_it_predicts_and_keeps_the_name_and_options_of_the_masker(run):
    loaded = loaded_model.load(run)
    assert loaded.fill_mask("the <mask> fox", top=2)[0][0].keys() == {"token", "piece", "probability"}
    assert {"name": "every_nth", "n": 5}.items() <= loaded.settings.to_dict()["masker"].items()
    assert loaded.changed([]).settings.masker.name == "every_nth"


def test_it_is_evaluated_with_another_masker_only(run, tmp_path):
    found = evaluate(run, masker={"name": "uniform", "ratio": 0.2})
    assert found["masker"]["name"] == "uniform" and found["masker"]["ratio"] == 0.2 and found["targets"] > 0
    with pytest.raises(ConfigError, match=r"unknown masker 'every_nth'; .*--user-dir FILE"):
        evaluate(run)
    load_user_dir(str(tmp_path / "mine.py"))
    assert {"name": "every_nth", "n": 5}.items() <= evaluate(run)["masker"].items()


def test_it_is_converted_and_the_card_names_its_masker(run, tmp_path):
    pytest.importorskip("safetensors")
    to_hf(run, str(tmp_path / "hf"))
    card = (tmp_path / "hf" / "README.md").read_text(encoding="utf-8")
    assert "every_nth: ratio 0.15" in card and "n 5" in card and '"name": "every_nth"' in card


def test_others_start_from_it(run, settings, tmp_path):
    train(settings("second", train={"steps": 1, "init_from": run}))
    assert len(checkpoint.all_of(tmp_path / "second")) == 1


def test_it_is_inspected_and_measured_with_other_maskers_only(run):
    seen = inspect(source=run, maskers=["uniform"], sample=20, draws=2)
    assert seen.observed[0].policy == "uniform" and seen.hardness
    with pytest.raises(ConfigError, match=r"unknown masker 'every_nth'"):
        inspect(source=run, sample=20, draws=2)
    assert variance(run, ["uniform", "whole_word"], rows=4, draws=2).step == 2


TASK = """
from taskmask import register_task
from taskmask.tasks.classification import Classification, ClassificationConfig

@register_task("masking_classifier", config=ClassificationConfig)
class MaskingClassifier(Classification):
    "A classifier that may mask what it reads."
    default_masker, default_criterion = "uniform", "classification"
"""


def test_it_annotates_and_its_own_data_is_left_out(settings, labelled, copy, tmp_path):
    (tmp_path / "mine.py").write_text(MASKER)
    (tmp_path / "task.py").write_text(TASK)
    load_user_dir(str(tmp_path / "task.py"))
    with plug_ins_taken_back():
        load_user_dir(str(tmp_path / "mine.py"))
        masker = {"name": "every_nth", "n": 5}
        train(settings("run", data=str(labelled), task="masking_classifier", masker=masker, train={"steps": 2}))
    with pytest.raises(ConfigError, match="unknown masker 'every_nth'"):
        evaluate(str(tmp_path / "run"))
    found = annotate(str(tmp_path / "run"), str(copy), {"mine": "label"}, ["train"])
    assert found.columns == {"mine": "label"}
    assert not [note for note in found.notes if "own data is not at" in note]


def test_a_task_that_writes_no_columns_is_what_annotate_names(run, copy):
    with pytest.raises(ConfigError, match="task masked_lm writes no columns"):
        annotate(run, str(copy), {"mine": "label"}, ["train"])


def rewrite(run, change):
    """Changes the settings in the only checkpoint of a run."""
    (file,) = checkpoint.all_of(run)
    state = checkpoint.load(file)
    change(state["settings"])
    checkpoint.save(file, state)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda tables: tables["model"].update(name="mine"), "unknown model 'mine'"),
        (lambda tables: tables["task"].update(power=2), "power"),
        (lambda tables: tables["masker"].update({"a b": 1}), "every_nth"),
        (lambda tables: tables["masker"].update({"class": 1}), "every_nth"),
        (lambda tables: tables["masker"].update(n=float("nan")), "every_nth"),
        (lambda tables: tables["masker"].update(name=3), "3"),
    ],
)
def test_what_is_unknown_beside_the_masker_is_an_error(run, tmp_path, change, says):
    rewrite(tmp_path / "run", change)
    with pytest.raises(CheckpointError, match=rf"needs a component or an option that is not here: .*{says}"):
        loaded_model.load(run)


def test_a_masker_with_other_options_now_is_as_unknown(settings, tmp_path):
    train(settings("run", train={"steps": 1}))
    rewrite(tmp_path / "run", lambda tables: tables["masker"].update(power=2))
    loaded = loaded_model.load(str(tmp_path / "run"))
    assert loaded.settings.to_dict()["masker"]["power"] == 2 and loaded.predict(["the <mask>"])
    with pytest.raises(ConfigError, match=r"masker\.power"):
        evaluate(str(tmp_path / "run"))
