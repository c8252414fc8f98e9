"""Evaluation: frozen masks, the trainer's own figures, and the average of the weights."""

import pytest
import torch
from training_help import rows

from taskmask.checkpoints import checkpoint
from taskmask.errors import CheckpointError, ConfigError, DataError
from taskmask.inference.evaluate import evaluate
from taskmask.inference.loaded_model import load
from taskmask.training.train import train


@pytest.fixture
def run(settings, tmp_path):
    train(settings(train={"ema": 0.5, "valid_every": 3}, run={"keep_last": 9, "save_every": 3}, optim={"lr": 1e-2}))
    return tmp_path / "run"


def test_it_gives_the_trainers_own_validation_of_every_checkpoint(run):
    logged = {row["step"]: row for row in rows(run) if row["kind"] == "valid"}
    files = checkpoint.all_of(run)
    assert [checkpoint.step_of(file) for file in files] == [3, 6] and set(logged) == {3, 6}
    for file in files:
        result = evaluate(str(file))
        expected = logged[checkpoint.step_of(file)]
        for name in ("loss", "perplexity", "accuracy"):
            assert result[name] == expected[name]
        assert checkpoint.score_of(file) == pytest.approx(result["loss"], rel=1e-5)
    assert evaluate(str(run)) == evaluate(str(run)), "frozen masks: twice the same"


@pytest.mark.parametrize("budget", [64, 999, 100_000])
def test_the_token_budget_and_workers_do_not_matter(budget, run):
    plain = evaluate(str(run))
    other = evaluate(str(run), train={"max_tokens": budget}, run={"workers": int(budget == 64)})
    assert other["targets"] == plain["targets"] and other["accuracy"] == plain["accuracy"]
    assert other["tokens"] == plain["tokens"] and other["rows"] == plain["rows"]
    assert other["loss"] == pytest.approx(plain["loss"], rel=1e-6)


def test_the_seed_of_the_run_does_not_matter(run):
    assert evaluate(str(run), train={"seed": 99}) == evaluate(str(run))


def test_the_average_is_what_is_used(run):
    file = checkpoint.all_of(run)[-1]
    state = checkpoint.load(file)
    name = "model.embeddings.tokens.weight"
    assert not torch.equal(state["model"][name], state["average"][name])
    assert torch.equal(load(str(file)).objective(load(str(file)).settings, load(str(file)).task()).state_dict()[name],
                       state["average"][name])  # fmt: skip
    state["average"] = None
    live = run / "checkpoints" / "step-7.pt"
    checkpoint.save(live, state)
    assert evaluate(str(live))["loss"] != evaluate(str(file))["loss"]


def test_another_masker_split_and_the_callback(run):
    seen = []
    result = evaluate(str(run), split="train", masker={"name": "span"}, advance=seen.append)
    assert result["masker"]["name"] == "span" and result["split"] == "train"
    assert sum(seen) == result["rows"]


def test_what_does_not_fit_is_named(run, other_vocabulary, tmp_path):
    with pytest.raises(CheckpointError, match="was trained with vocabulary"):
        evaluate(str(run), data=str(other_vocabulary))
    with pytest.raises(DataError, match="dev"):
        evaluate(str(run), split="dev")
    with pytest.raises(CheckpointError, match="does not fit the model"):
        evaluate(str(run), model={"width": 64})
    with pytest.raises(CheckpointError, match=r"does not fit the model.*size mismatch"):
        evaluate(str(run), data={"length": 64})
    with pytest.raises(ConfigError):
        evaluate(str(run), masker={"name": "unknown"})
    with pytest.raises(CheckpointError, match="no such checkpoint"):
        evaluate(str(tmp_path / "nothing"))
    with pytest.raises(CheckpointError, match="is no run folder"):
        evaluate(str(tmp_path))
