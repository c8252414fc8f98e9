"""One loss: the log, validation, evaluation and its interval, and the best checkpoint speak of the same figure."""

import json
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from task_data_help import ragged, write
from training_help import rows

from taskmask.checkpoints import checkpoint
from taskmask.config.settings import Settings
from taskmask.criteria.masked_lm import MaskedLMCriterion
from taskmask.data.dataset import Column
from taskmask.inference.evaluate import evaluate
from taskmask.inference.loaded_model import load
from taskmask.registry import CRITERIA, TASKS, NoOptions
from taskmask.tokenizer.tokenizer import Vocabulary, train_vocabulary
from taskmask.training.train import train
from taskmask_cli import evaluate as command

TEXTS = ["the quick brown foxes jump", "over the lazy dogs", "dogs jump", "the lazy foxes jump over dogs"] * 4
MODEL = {"name": "tiny", "layers": 1, "width": 16, "heads": 2}


@pytest.fixture(scope="module")
def vocab():
    return Vocabulary(train_vocabulary(["the quick brown foxes jump over the lazy dogs"] * 20, 290, "bpe"))


@pytest.fixture(scope="module")
def folder(vocab, tmp_path_factory):
    """Texts with labels of rows and of tokens; in "gone" the texts of the split valid are all "the", without labels."""
    path = tmp_path_factory.mktemp("losses")
    texts = [np.append(ids, vocab.eos) for ids in vocab.encode(TEXTS)]
    columns = {
        "tokens": (Column("ragged", vocab.token_dtype), ragged(texts)),
        "label": (Column("row", "int32"), np.arange(len(texts)) % 3 - 1),
        "tags": (Column("aligned", "int32", of="tokens"), np.concatenate([np.arange(len(t)) % 3 - 1 for t in texts])),
    }
    kept = [np.append(ids, vocab.eos) for ids in vocab.encode(["the"] * 5)]
    gone = {
        "tokens": (Column("ragged", vocab.token_dtype), ragged(kept)),
        "label": (Column("row", "int32"), np.array([0, -1, -1, -1, -1])),
        "tags": (Column("aligned", "int32", of="tokens"), np.full(sum(map(len, kept)), -1)),
    }
    for name, valid in (("data", columns), ("gone", gone)):
        write(path / name, vocab, {"train": columns, "valid": valid}, {"label": ["bad", "good"], "tags": ["O", "X"]})
    return path


def settings(folder, run, data="data", **sections):
    train_of = {"steps": 6, "valid_every": 2, "max_tokens": 200, **sections.pop("train", {})}
    return Settings.of(
        data={"path": str(folder / data), "length": 40},
        model=sections.pop("model", MODEL),
        run={"folder": str(run), "log_every": 2, "save_every": 2, "keep_last": 9, "tensorboard": False},
        optim={"lr": 1e-2, "warmup_steps": 1},
        train=train_of,
        **sections,
    )


def of_command(run, capsys):
    """What `taskmask evaluate --json` prints."""
    capsys.readouterr()
    assert command.main(["--from", str(run), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("label", ["label", "tags"])
def test_the_joint_loss_is_weighted_everywhere(label, folder, tmp_path, capsys):
    criterion = {"name": "joint", "mlm_weight": 0.1, "label_weight": 3.0}
    train(settings(folder, tmp_path / "run", task={"name": "joint_mlm", "label": label}, criterion=criterion))
    lines = rows(tmp_path / "run")
    for line in lines:
        assert line["loss"] == pytest.approx(0.1 * line["mlm_loss"] + 3 * line["label_loss"], rel=1e-6), line["kind"]
    valid = {line["step"]: line["loss"] for line in lines if line["kind"] == "valid"}
    files = checkpoint.all_of(tmp_path / "run")
    assert {checkpoint.step_of(f): checkpoint.score_of(f) for f in files} == pytest.approx(valid, rel=1e-5)
    best = checkpoint.best_of(tmp_path / "run", "min")
    assert valid[checkpoint.step_of(best)] == min(valid.values())
    result, printed = evaluate(str(tmp_path / "run")), of_command(tmp_path / "run", capsys)
    low, high = result["intervals"]["loss"]
    assert result["loss"] == min(valid.values()) and low < result["loss"] < high
    assert printed["loss"] == pytest.approx(result["loss"], rel=1e-6) and printed["intervals"]["loss"] == [low, high]
    assert set(load(str(tmp_path / "run")).predict(["the <mask> dogs"], 2)[0]) == {"text", "masks", "filled"}


class Focal(MaskedLMCriterion):
    """Another loss of the same outputs."""

    def loss(self, outputs, batch):
        chance = -F.cross_entropy(outputs["mlm"].float(), batch.targets["mlm"], reduction="none")
        return {**super().loss(outputs, batch), "mlm": (-((1 - chance.exp()) ** 2) * chance).sum()}


class FocalOfEach(Focal):
    """It also gives the loss of each target."""

    weights = {"mlm": 0.5}  # noqa: RUF012

    def each(self, outputs, batch):
        chance = -F.cross_entropy(outputs["mlm"].float(), batch.targets["mlm"], reduction="none")
        return {"mlm": -((1 - chance.exp()) ** 2) * chance}

    def loss(self, outputs, batch):
        return {**super().loss(outputs, batch), "mlm": self.each(outputs, batch)["mlm"].sum()}


class TwoPasses(MaskedLMCriterion):
    """It makes its own passes."""

    def forward(self, model, batch):
        one, two = (self.loss(model(**batch.inputs), batch) for _ in range(2))
        return {**one, "mlm": one["mlm"] + two["mlm"]}


@pytest.mark.parametrize("kind", [Focal, FocalOfEach, TwoPasses])
def test_the_loss_of_a_criterion_of_ones_own_is_the_one_that_is_trained(kind, folder, tmp_path, capsys, monkeypatch):
    """Its interval is around the same value; it is undefined if the criterion gives sums alone."""
    monkeypatch.setattr(CRITERIA, "_entries", dict(CRITERIA._entries))
    CRITERIA.register("own", config=NoOptions)(kind)
    train(settings(folder, tmp_path / "run", task="masked_lm", criterion="own", train={"steps": 2}))
    (valid,) = (line for line in rows(tmp_path / "run") if line["kind"] == "valid")
    result, printed = evaluate(str(tmp_path / "run")), of_command(tmp_path / "run", capsys)
    assert result["loss"] == valid["loss"] == pytest.approx(printed["loss"], rel=1e-6)
    low, high = result["intervals"]["loss"]
    if kind is FocalOfEach:
        assert low < result["loss"] < high
    else:
        assert math.isnan(low) and math.isnan(high) and printed["intervals"]["loss"] == [None, None]
    low, high = result["intervals"]["accuracy"]
    assert low <= result["accuracy"] <= high


UNDEFINED = {
    "masked_lm": {"task": "masked_lm"},
    "denoising": {
        "task": {"name": "denoising", "output": "spans"},
        "model": {"name": "bart_mini", "layers": 1, "decoder_layers": 1, "width": 16, "heads": 2},
    },
    "joint_mlm": {"task": {"name": "joint_mlm", "label": "label"}, "train": {"metric": "mlm_loss"}},
}


@pytest.mark.parametrize("name", UNDEFINED)
def test_nothing_to_predict_is_undefined_and_never_best(name, folder, vocab, tmp_path, capsys):
    masker = {"name": "uniform", "never": [vocab.piece(int(id)) for id in vocab.encode(["the"])[0]]}
    sections = {**UNDEFINED[name], "masker": masker, "train": {"patience": 1, **UNDEFINED[name].get("train", {})}}
    metric = sections["train"].get("metric", "loss")
    summary = train(settings(folder, tmp_path / "run", "gone", **sections))
    text = capsys.readouterr().err
    assert summary.step == 6, "nothing to compare is no reason to stop early"
    assert f"{metric} undefined" in text and f"undefined: {metric}" in text and "(best)" not in text
    for line in (line for line in rows(tmp_path / "run") if line["kind"] == "valid"):
        assert line[metric] is None and line["best"] is False
    assert all(checkpoint.score_of(file) is None for file in checkpoint.all_of(tmp_path / "run"))
    assert checkpoint.step_of(checkpoint.best_of(tmp_path / "run", "min")) == 6
    result, printed = evaluate(str(tmp_path / "run")), of_command(tmp_path / "run", capsys)
    assert math.isnan(result[metric]) and printed[metric] is None and printed["intervals"][metric] == [None, None]
    assert command.main(["--from", str(tmp_path / "run")]) == 0
    out, err = capsys.readouterr()
    line = next(line for line in out.splitlines() if line.split()[1:2] == [metric])
    assert line.split()[2:] == ["undefined", "undefined"] and "warning: split valid: " in err


@pytest.mark.parametrize("name", TASKS.names())
def test_every_task_calls_sums_over_nothing_undefined(name, vocab):
    entry = TASKS.get(name)
    task = entry.make(entry.config(**entry.preset), vocab, None, {"label": ["bad", "good"], "pseudo": ["bad", "good"]})
    totals = dict.fromkeys(["mlm", "pseudo", "label", "span", "seq2seq", "meta", "task"], 0.0)
    totals |= {f"{kind}_{end}": 0.0 for kind in totals for end in ("count", "correct", "rows")}
    found = task.metrics(totals)
    assert "loss" in found and all(math.isnan(value) for value in found.values())


def test_a_joint_loss_without_labels_is_that_of_the_masks(folder, vocab):
    """As in training, where a step without a label trains the masks alone."""
    task = TASKS.get("joint_mlm").make(TASKS.get("joint_mlm").config(), vocab, None, {"label": ["bad", "good"]})
    task.weights = {"mlm": 0.5, "pseudo": 2.0}
    totals = {"mlm": 6.0, "mlm_count": 3, "mlm_correct": 1, "pseudo": 0.0, "pseudo_count": 0, "pseudo_correct": 0}
    found = task.metrics(totals)
    assert found["loss"] == 1.0 and found["mlm_loss"] == 2.0 and math.isnan(found["label_loss"])
    shaped = {**totals, "pseudo": 8.0, "pseudo_plain": 6.0, "pseudo_count": 2}
    assert task.metrics(shaped)["loss"] == 1.0 + 6.0 and task.metrics(shaped)["objective"] == 1.0 + 8.0
    assert torch.tensor(found["label_accuracy"]).isnan()
