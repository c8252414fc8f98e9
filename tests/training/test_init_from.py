"""Starting from the weights of another run."""

import pytest
import torch
from training_help import last

from taskmask.checkpoints import checkpoint
from taskmask.config.settings import Settings
from taskmask.errors import CheckpointError
from taskmask.training.initialise import initialise
from taskmask.training.train import train

NAME = "model.embeddings.tokens.weight"


@pytest.fixture
def first(settings, tmp_path):
    train(settings("first", train={"steps": 4, "ema": 0.5}, optim={"lr": 1e-2}))
    return tmp_path / "first"


def test_weights_are_taken_by_name_and_told(first, trainer):
    fresh = trainer("second")
    report = initialise(fresh.objective, str(first), fresh.parts)
    state = checkpoint.load(checkpoint.best_of(first, "min"))
    assert report["new"] == report["left"] == [] and set(report["taken"]) == set(state["model"])
    for name, tensor in fresh.objective.state_dict().items():
        assert torch.equal(tensor, state["average"].get(name, state["model"][name]))


def test_a_run_starts_from_them_and_only_once(first, settings, tmp_path, capfd, monkeypatch):
    second = settings("second", train={"steps": 2, "init_from": str(first)}, optim={"lr": 1e-30, "weight_decay": 0.0})
    train(second)
    assert "weights taken over" in capfd.readouterr().err
    average = checkpoint.load(checkpoint.best_of(first, "min"))["average"]
    torch.testing.assert_close(last(tmp_path / "second")["model"][NAME], average[NAME])
    monkeypatch.setattr(
        "taskmask.training.train.initialise", lambda *arguments: pytest.fail("a resume takes its own weights")
    )
    train(second)


def rewrite(run, change):
    """Changes the weights of the last checkpoint of a run."""
    file = checkpoint.best_of(run, "min")
    state = checkpoint.load(file)
    for part in ("model", "average"):
        change(state[part])
    checkpoint.save(file, state)


def test_heads_may_be_new_and_strange_weights_are_left(first, trainer):
    def change(weights):
        weights["model.heads.other.weight"] = weights.pop("model.heads.mlm.dense.weight")

    rewrite(first, change)
    fresh = trainer("second")
    before = fresh.objective.state_dict()["model.heads.mlm.dense.weight"].clone()
    report = initialise(fresh.objective, str(first), fresh.parts)
    assert report["new"] == ["model.heads.mlm.dense.weight"] and report["left"] == ["model.heads.other.weight"]
    assert torch.equal(fresh.objective.state_dict()["model.heads.mlm.dense.weight"], before)


def test_a_missing_weight_of_the_trunk_is_refused(first, settings):
    rewrite(first, lambda weights: weights.pop(NAME))
    with pytest.raises(CheckpointError, match=f"lacks {NAME}"):
        train(settings("second", train={"init_from": str(first)}))


@pytest.mark.parametrize(
    "changes", [{"model": {"width": 16}}, {"data": {"length": 64}}, {"model": {"layers": 2}}], ids=str
)
def test_another_shape_is_refused(changes, first, settings):
    with pytest.raises(CheckpointError, match=r"has model|lacks model") as error:
        train(settings("second", train={"init_from": str(first)}, **changes))
    assert "--data.length 32" in str(error.value)


def test_shorter_rows_take_the_first_positions(first, settings, tmp_path):
    train(settings("second", train={"steps": 1, "init_from": str(first)}, data={"length": 16}, optim={"lr": 1e-30}))
    name = "model.embeddings.positions.weight"
    average = checkpoint.load(checkpoint.best_of(first, "min"))["average"]
    torch.testing.assert_close(last(tmp_path / "second")["model"][name], average[name][:16])


def test_model_and_length_come_with_them_where_they_are_not_given(first, settings):
    tables = settings("second").to_dict()
    given = Settings.of(
        {k: v for k, v in tables.items() if k not in ("model", "data")}, train={"init_from": str(first)}
    )
    assert given.model == settings("first").model and given.data.length == settings("first").data.length
    other = Settings.of(train={"init_from": str(first)}, model={"name": "tiny", "dropout": 0.3}, data={"length": 9})
    assert other.model.name == "tiny" and other.model.options.dropout == 0.3 and other.data.length == 9
    assert Settings.of(train={"init_from": "nowhere"}).model.name == "mini"


def test_another_vocabulary_is_refused(first, settings, other_vocabulary):
    with pytest.raises(CheckpointError, match="was trained with vocabulary") as error:
        train(settings("second", train={"init_from": str(first)}, data={"path": str(other_vocabulary)}))
    assert "taskmask-preprocess --vocab" in str(error.value)


@pytest.mark.parametrize("source", ["nothing", "empty"])
def test_nothing_to_start_from(source, settings, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError, match=source):
        train(settings("second", train={"init_from": str(tmp_path / source)}))


def test_fresh_weights_depend_on_the_seed_alone(trainer):
    a, b = trainer("a"), trainer("b", train={"seed": 2})
    torch.rand(7)
    again = trainer("c", masker={"name": "span"}, train={"max_tokens": 512})
    assert torch.equal(a.objective.state_dict()[NAME], again.objective.state_dict()[NAME])
    assert not torch.equal(a.objective.state_dict()[NAME], b.objective.state_dict()[NAME])
