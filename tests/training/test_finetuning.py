"""What fine-tuning needs: epochs, the metric that decides, layer-wise rates, frozen layers, class weights, seeds."""

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from training_help import Launch, last, make, rows, same, same_runs, tables, train_until, write_labelled

from taskmask.checkpoints import checkpoint
from taskmask.checkpoints.find import find, runs_in
from taskmask.config.settings import Settings
from taskmask.data.add_column import add_column
from taskmask.data.dataset import Column, Dataset
from taskmask.errors import ConfigError, DataError, Interrupted
from taskmask.inference import loaded_model, multi_seed
from taskmask.inference.evaluate import evaluate
from taskmask.training.initialise import initialise
from taskmask.training.optim import adamw, depths, freeze
from taskmask.training.train import in_steps, notes, train
from taskmask_cli import preprocess

TASK = {"task": {"name": "classification"}, "train": {"steps": 30, "valid_every": 10}, "optim": {"lr": 5e-3}}


@pytest.fixture
def classified(settings, labelled):
    """classified("name", train={...}) are the settings of a classification."""

    def build(name="run", **changes):
        merged = {**TASK, **{k: {**TASK.get(k, {}), **v} if isinstance(v, dict) else v for k, v in changes.items()}}
        merged["data"] = {"path": str(labelled), **changes.get("data", {})}
        return settings(name, **merged)

    return build


@pytest.fixture
def built(trainer, labelled):
    """built(optim={...}) is a Trainer for a classification."""
    return lambda **changes: trainer("run", task="classification", data={"path": str(labelled)}, **changes)


@pytest.fixture(scope="module")
def solved(labelled, tmp_path_factory):
    """A run that has learned the labels."""
    folder = tmp_path_factory.mktemp("solved") / "run"
    train(make(labelled, folder, **{**TASK, "train": {"steps": 60, "valid_every": 20}}))
    return folder


def test_it_learns_and_names_its_best_by_the_metric_of_the_task(solved):
    best = checkpoint.best_of(solved, "max")
    assert checkpoint.score_of(best) > 0.9 and "_accuracy-" in best.name
    assert find(str(solved)) == best
    valid = [row for row in rows(solved) if row["kind"] == "valid"]
    assert {"loss", "accuracy", "macro_f1", "micro_f1", "matthews"} <= set(valid[0])


def test_every_metric_has_an_interval_around_it(solved):
    found = evaluate(str(solved), split="test")
    assert set(found["intervals"]) == {"loss", "accuracy", "macro_f1", "micro_f1", "matthews"}
    for name, (low, high) in found["intervals"].items():
        assert low <= found[name] <= high
    assert found == evaluate(str(solved), split="test")


def test_another_metric_decides_where_it_is_asked_for(classified, tmp_path):
    train(classified("loss", train={"steps": 20, "metric": "loss"}))
    assert "_loss-" in find(str(tmp_path / "loss")).name
    scores = [checkpoint.score_of(file) for file in checkpoint.all_of(tmp_path / "loss")]
    assert checkpoint.score_of(find(str(tmp_path / "loss"))) == min(s for s in scores if s is not None)
    with pytest.raises(ConfigError, match=r"train\.metric: is 'acuracy'; expected one of .*accuracy.*did you mean"):
        train(classified("typo", train={"metric": "acuracy"}))


def test_it_stops_early_on_the_metric(classified):
    summary = train(classified("stops", train={"steps": 500, "valid_every": 5, "patience": 2}, optim={"lr": 1e-30}))
    assert summary.step == 15


def test_epochs_become_steps_and_a_validation_each(classified, trainer):
    settings = classified("epochs", train={"epochs": 2.0, "valid_every": None})
    parts = trainer("x", task="classification", data={"path": settings.data.path}).parts
    resolved = in_steps(settings, parts)
    once = in_steps(classified("one", train={"epochs": 1.0, "valid_every": None}), parts).train.steps
    assert abs(resolved.train.steps - 2 * once) <= 1 and resolved.train.valid_every == once
    assert in_steps(classified("plain", train={"valid_every": None}), parts).train.valid_every == 500
    with pytest.raises(ConfigError, match=r"optim\.warmup_steps: is 400; expected fewer than train\.steps"):
        in_steps(classified("late", train={"epochs": 2.0}, optim={"warmup_steps": 400}), parts)


def test_a_run_of_epochs_resumes(classified, tmp_path, monkeypatch):
    changes = {"train": {"epochs": 2.0, "valid_every": None, "steps": 10_000}, "run": {"save_every": 2}}
    train(classified("whole", **changes))
    stopped = classified("stopped", **changes)
    assert isinstance(train_until(stopped, "stop", 3, monkeypatch), Interrupted)
    train(stopped)
    same_runs(tmp_path / "whole", tmp_path / "stopped")
    assert last(tmp_path / "whole")["progress"]["position"]["epoch"] == 2


def test_depths_of_a_model(built):
    found = depths(built(model={"layers": 3}).objective)
    assert found["model.embeddings.tokens.weight"] == 0 and found["model.layers.2.attention.qkv.weight"] == 3
    assert {depth for name, depth in found.items() if "heads" in name} == {4}


def test_learning_rates_fall_layer_by_layer(built):
    trainer = built(model={"layers": 2}, optim={"layer_decay": 0.5, "weight_decay": 0.1})
    by_parameter = {p: group for group in trainer.updater.optimizer.param_groups for p in group["params"]}
    for name, parameter in trainer.objective.named_parameters():
        group, depth = by_parameter[parameter], depths(trainer.objective)[name]
        assert group["scale"] == (1 if depth == 3 else 0.5 ** (4 - depth))
        assert group["weight_decay"] == (0.1 if parameter.dim() > 1 else 0.0)
    for batch in trainer.steps():
        trainer.step(batch)
        break
    assert {g["lr"] / g["scale"] for g in trainer.updater.optimizer.param_groups} == {trainer.updater.rate}


def test_without_decay_the_groups_are_two_and_alike(built):
    groups = adamw(built().objective, built().settings.optim).param_groups
    assert [group["scale"] for group in groups] == [1.0, 1.0]


def test_frozen_layers_stay(classified, tmp_path, built):
    before = {name: p.clone() for name, p in built(model={"layers": 2}).objective.named_parameters()}
    train(classified("frozen", model={"layers": 2}, optim={"freeze": 1, "lr": 1e-2}, train={"steps": 5}))
    after = last(tmp_path / "frozen")["model"]
    depth = depths(built(model={"layers": 2}).objective)
    for name, tensor in before.items():
        assert torch.equal(tensor, after[name]) == (depth[name] <= 1), name
    with pytest.raises(ConfigError, match=r"optim\.freeze: is 7; expected at most 2"):
        freeze(built(model={"layers": 2}).objective, 7)


def test_a_head_for_other_labels_is_new(solved, labelled, data, classified, tmp_path, trainer):
    renamed = write_labelled(tmp_path, data, ("one", "two", "three"))
    fresh = trainer("fresh", task="classification", data={"path": str(renamed)})
    report = initialise(fresh.objective, str(solved), fresh.parts)
    assert report["new"] and all(name.startswith("model.heads.label.") for name in report["new"])
    again = trainer("again", task="classification", data={"path": str(labelled)})
    assert initialise(again.objective, str(solved), again.parts)["new"] == []


def test_another_dataset_is_met_with_the_labels_of_the_model(solved, labelled, data, tmp_path):
    """Other ids for the same names (a class that does not occur), and a name that the model does not know."""
    for name in ("same", "fewer", "more"):
        (tmp_path / name).mkdir()
    same = evaluate(str(solved), split="test")
    other = write_labelled(tmp_path / "same", data, ("early", "late", "middle"))
    assert evaluate(str(solved), str(other), split="test")["accuracy"] == same["accuracy"]
    folder = tmp_path / "fewer"
    fewer = write_labelled(folder, data, ("late", "late", "late"), (9, 9, 30))
    assert evaluate(str(solved), str(fewer), split="test")["accuracy"] < 0.9
    unknown = write_labelled(tmp_path / "more", data, ("early", "late", "midle"))
    with pytest.raises(DataError, match=r"label 'midle' of \d+ rows is unknown.*did you mean 'middle'"):
        evaluate(str(solved), str(unknown), split="test")


def test_what_people_should_know_of_the_rows(trainer, labelled, tmp_path, data):
    parts = trainer("short", task="classification", data={"path": str(labelled), "length": 4}).parts
    assert any("rows are cut to data.length 4" in note for note in notes(parts))
    absent = write_labelled(tmp_path, data, rows=(3, 30, 30))
    found = notes(trainer("absent", task="classification", data={"path": str(absent)}).parts)
    assert any("classes never occur in split train" in note for note in found)


def test_class_weights_shape_training_alone(classified, tmp_path):
    for name, weights in (("plain", ()), ("balanced", ("balanced",)), ("named", ("middle=20", "early=0.5"))):
        changes = {"train": {"steps": 1, "valid_every": 1}, "optim": {"lr": 1e-30}}
        train(classified(name, criterion={"name": "classification", "class_weights": weights}, **changes))
    first = {name: rows(tmp_path / name) for name in ("plain", "balanced", "named")}
    assert len({log[0].get("objective", log[0]["loss"]) for log in first.values()}) == 3  # what each minimises
    assert len({log[0]["loss"] for log in first.values()}) == 1  # the plain loss, in the log of training, too
    assert len({log[1]["loss"] for log in first.values()}) == 1 and "objective" not in first["named"][1]
    with pytest.raises(ConfigError, match=r"criterion\.class_weights: names 'midle'.*did you mean 'middle'"):
        train(classified("typo", criterion={"name": "classification", "class_weights": ("midle=2",)}))
    with pytest.raises(
        ConfigError, match=r"criterion\.class_weights: holds 'middle'; expected balanced, or CLASS=WEIGHT"
    ):
        classified("form", criterion={"name": "classification", "class_weights": ("middle",)})


def test_regression_learns_a_number(settings, labelled, tmp_path):
    tables = {"task": {"name": "regression", "label": "number"}, "data": {"path": str(labelled)}}
    train(settings("number", **tables, train={"steps": 60, "valid_every": 30}, optim={"lr": 5e-3}))
    found = evaluate(str(tmp_path / "number"))
    assert found["pearson"] > 0.8 and found["spearman"] > 0.6 and found["mse"] == pytest.approx(found["loss"])
    low, high = found["intervals"]["pearson"]
    assert low < found["pearson"] < high
    answer = loaded_model.load(str(tmp_path / "number")).predict(["amber amber", "walnut garden"])
    assert answer[0]["number"] < answer[1]["number"]
    with pytest.raises(DataError, match=r"column 'label' holds int32, no numbers.*--number label"):
        train(settings("wrong", **{**tables, "task": "regression"}))


@pytest.mark.parametrize("value", [np.inf, -np.inf])
def test_a_number_that_is_infinite_is_named(value, settings, labelled, tmp_path):
    split = Dataset.open(labelled).split("train")
    numbers = np.array(split.values("number"))
    numbers[3], numbers[4] = np.nan, value
    shutil.copytree(labelled, tmp_path / "data")
    add_column(tmp_path / "data", "train", "number", Column("row", "float32"), [numbers], overwrite=True)
    tables = {"task": {"name": "regression", "label": "number"}, "data": {"path": str(tmp_path / "data")}}
    with pytest.raises(DataError, match=rf"bin, row 4 of split train: column number: the value is {value}; expected"):
        train(settings("number", **tables))


def test_several_seeds(classified, tmp_path, capfd):
    chosen = classified("many", train={"steps": 10})
    summaries = multi_seed.train_seeds(chosen, [3, 1])
    folders = [str(tmp_path / "many" / f"seed-{seed}") for seed in (3, 1)]
    assert [one.folder for one in summaries] == folders
    assert runs_in(str(tmp_path / "many")) == folders[::-1]
    assert json.loads((tmp_path / "many" / "seed-3" / "settings.json").read_text())["train"]["seed"] == 3
    reached = multi_seed.report(folders, chosen.data.path, chosen.run.folder)
    assert [one.split for one in reached] == ["valid", "test"]
    accuracy = reached[0].metrics["accuracy"]
    single = [evaluate(folder)["accuracy"] for folder in folders]
    assert accuracy.runs == pytest.approx(single) and accuracy.mean == pytest.approx(np.mean(single))
    assert (
        accuracy.deviation == pytest.approx(np.std(single, ddof=1)) and accuracy.low <= accuracy.mean <= accuracy.high
    )
    saved = json.loads((tmp_path / "many" / "summary.json").read_text())
    assert saved["splits"][0]["metrics"]["accuracy"]["runs"] == list(accuracy.runs)
    lines = multi_seed.table(reached)
    assert lines[0].split() == ["split", "metric", "mean", "deviation", "95", "%", "interval", "runs"]
    sizes = " and ".join(["2 seeds", ", ".join(f"{one.examples} examples of {one.split}" for one in reached)])
    assert lines[-3].startswith(f"95 % intervals over {sizes}: ") and "Korn and Graubard 1998" in lines[-2]
    assert lines[-1].startswith("note: 2 seeds are few: the intervals rest on Student's t with 1 degree of freedom;")
    capfd.readouterr()
    multi_seed.train_seeds(chosen, [3, 1])
    assert capfd.readouterr().err.count("already finished") == 2
    with pytest.raises(ConfigError, match="names a seed twice"):
        multi_seed.train_seeds(chosen, [1, 1])
    best = max((checkpoint.score_of(file), file) for run in folders[::-1] for file in checkpoint.all_of(Path(run)))[0]
    loaded = loaded_model.load(str(tmp_path / "many"))  # of several seeds, the best
    assert checkpoint.score_of(loaded.file) == best and "many holds 2 seeds; this uses" in capfd.readouterr().err
    assert loaded.predict(["a text"])[0].keys() >= {"label", "probability"}
    shown = repr(loaded)
    assert len(shown) < 800 and shown.count("\n") < 8 and "task classification" in shown and "tensor" not in shown
    with pytest.raises(ConfigError, match="holds a run of one seed"):
        multi_seed.train_seeds(classified("many/seed-1"), [1, 2])


def test_a_metric_without_a_value_is_said_to_be_undefined():
    from taskmask.stats.bootstrap import OverRuns

    nan = math.nan
    reached = multi_seed.Reached("test", 1, {"pearson": OverRuns(nan, nan, nan, nan, (nan,))}, [{}])
    assert reached.to_dict()["metrics"]["pearson"] == {
        "mean": None, "deviation": None, "low": None, "high": None, "runs": [None]
    }  # fmt: skip
    assert "undefined" in multi_seed.table([reached])[1]


@pytest.mark.parametrize("freeze", [None, 0])
def test_two_processes_are_one_with_two_micro_batches(freeze, labelled, tmp_path):
    """With class weights, whose sums over processes divide the loss, and metrics of answers from both."""
    changes = {
        **TASK,
        "train": {"steps": 8, "micro_batches_per_step": 2, "valid_every": 4},
        "criterion": {"name": "classification", "class_weights": ["balanced"], "label_smoothing": 0.1},
        "optim": {"lr": 5e-3, "layer_decay": 0.8, "freeze": freeze},
    }
    train(make(labelled, tmp_path / "alone", **changes))
    launch = Launch(tmp_path, tables(labelled, tmp_path / "run", **changes), ranks=2)
    assert launch.wait() == [0, 0], launch.text()
    one, two = (last(tmp_path / name) for name in ("alone", "run"))
    for part in ("step", "model", "optimizer"):
        same(one[part], two[part])
    for a, b in zip(rows(tmp_path / "alone"), rows(tmp_path / "run"), strict=True):
        assert a["kind"] == b["kind"] and list(a) == list(b)
        assert {k: v for k, v in a.items() if k != "kind"} == pytest.approx(
            {k: v for k, v in b.items() if k != "kind"}, rel=1e-6
        )


def test_a_test_split_without_labels_ends_no_training(data, tmp_path, classified, capfd):
    """As many benchmarks publish theirs."""
    path = write_labelled(tmp_path, data)
    (tmp_path / "plain.tsv").write_text("text\tplace\namber\tbasin\n")
    files = [f"--{split}={tmp_path / name}" for split, name in
             (("train", "train.tsv"), ("valid", "valid.tsv"), ("test", "plain.tsv"))]  # fmt: skip
    words = ["--out", str(path), "--overwrite", "--vocab", str(data), "--text", "text", "place", "--workers", "0"]
    assert preprocess.main([*files, *words]) == 0
    chosen = classified("run", data={"path": str(path)}, train={"steps": 2})
    train(chosen)
    reached = multi_seed.report([chosen.run.folder], str(path), chosen.run.folder)
    assert [one.split for one in reached] == ["valid"]
    assert "split test is not measured" in capfd.readouterr().err


def test_figures_of_a_task_without_answers_have_no_intervals(settings, tmp_path, monkeypatch):
    from taskmask.tasks.masked_lm import MaskedLM

    monkeypatch.setattr(MaskedLM, "answers", lambda *_: {})
    train(settings("run", train={"steps": 2}))
    reached = multi_seed.evaluate_runs([str(tmp_path / "run")])
    assert reached.metrics["loss"].mean > 0 and math.isnan(reached.metrics["loss"].low)


def test_small_weights_of_classes_are_weights_alike(classified, tmp_path):
    """All alike they change nothing, however small: the loss is a mean by weights."""
    for name, weight in (("one", "1"), ("small", "0.001")):
        weights = [f"{label}={weight}" for label in ("early", "late", "middle")]
        criterion = {"name": "classification", "class_weights": weights}
        train(classified(name, criterion=criterion, train={"steps": 3, "valid_every": 3}))
    one, small = rows(tmp_path / "one")[0], rows(tmp_path / "small")[0]
    assert small["objective"] == pytest.approx(one["objective"], rel=1e-4) == pytest.approx(one["loss"], rel=1e-4)
    assert small["grad_norm"] == pytest.approx(one["grad_norm"], rel=1e-4)
    assert small["loss"] == pytest.approx(one["loss"], rel=1e-4)


def test_the_model_stays_when_its_source_is_gone(settings, tmp_path, classified, data, labelled):
    first = tmp_path / "first"
    train(settings("first", train={"steps": 1}))
    tables = {k: v for k, v in classified("second").to_dict().items() if k not in ("model", "data")}
    tables = {
        **tables,
        "data": {"path": str(labelled)},
        "train": {**tables["train"], "init_from": str(first), "steps": 2},
    }
    begun = Settings.of(tables)
    assert begun.model == settings("first").model
    train(begun)
    first.rename(tmp_path / "moved")
    assert Settings.of(tables) == begun
    assert train(Settings.of(tables, train={"steps": 3})).step == 3


def test_classes_from_a_column_of_numbers(classified, labelled, solved, data, tmp_path):
    with pytest.raises(DataError, match="column 'number' holds no labels"):
        train(classified("wrong", task={"label": "number"}))
    for name in ("train", "valid"):
        lines = ['{"text": "amber", "label": 1.5}', '{"text": "basin", "label": 2}']
        (tmp_path / f"{name}.jsonl").write_text("\n".join(lines) + "\n")
    files = [f"--{name}={tmp_path / name}.jsonl" for name in ("train", "valid")]
    out = str(tmp_path / "bin")
    words = ["--out", out, "--vocab", str(data), "--number", "label", "--workers", "0"]
    assert preprocess.main([*files, *words]) == 0
    with pytest.raises(DataError, match="column 'label' holds no labels"):
        evaluate(str(solved), out)


def test_other_data_is_prepared_with_the_vocabulary_of_a_run(solved, labelled, tmp_path):
    (tmp_path / "more.txt").write_text("amber basin candle\n")
    words = ["--train", str(tmp_path / "more.txt"), "--vocab", str(solved), "--out", str(tmp_path / "bin")]
    assert preprocess.main([*words, "--workers", "0"]) == 0
    assert Dataset.open(tmp_path / "bin").vocabulary_sha256 == Dataset.open(labelled).vocabulary_sha256
