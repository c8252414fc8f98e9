"""The loop: exact losses, learning, and gradients that are not finite."""

import math

import numpy as np
import pytest
import torch
from training_help import arm, last, rows, same, train_until

from taskmask.checkpoints import checkpoint
from taskmask.errors import DataError, DivergedError, Interrupted
from taskmask.training.data_loader import BatchMaker, on_device
from taskmask.training.objective import weighted_total
from taskmask.training.train import train
from taskmask_cli.preprocess import main as preprocess

WORDS = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]


def gradients_of(trainer):
    """The gradients of the first step, and the sums of its losses."""
    group = next(trainer.steps())
    trainer.objective.eval()  # no dropout: its numbers belong to a micro-batch
    counts, _ = trainer._agree(group, 1)
    total = {}
    for _, batch in group:
        sums = trainer.objective(batch)
        weighted_total(sums, counts, trainer.objective.criterion.weights).backward()
        total = {name: total.get(name, 0.0) + float(value.detach()) for name, value in sums.items()}
    return {n: p.grad for n, p in trainer.objective.named_parameters()}, total, counts, group


def test_accumulation_is_one_big_batch(trainer, monkeypatch):
    small = trainer("small", train={"micro_batches_per_step": 4, "max_tokens": 64})
    gradients, sums, counts, group = gradients_of(small)
    ids = np.concatenate([ticket.ids for ticket, _ in group])
    assert len({len(ticket.ids) for ticket, _ in group}) > 1 or len(ids) > 4
    big = trainer("big", train={"max_tokens": 4096})
    ticket = next(big.steps())[0][0]
    rng = type(ticket.rng)(ticket.rng.seed, 1, ids, 0.0)
    whole = type(ticket)(ids, rng, 0, ticket.after)
    batch = on_device(BatchMaker(big.parts, "train", big.settings).make(whole), big.device)
    monkeypatch.setattr(big, "steps", lambda: iter([[(whole, batch)]]))
    expected, expected_sums, expected_counts, _ = gradients_of(big)
    assert counts == expected_counts
    assert sums == pytest.approx(expected_sums, rel=1e-6)
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradient, expected[name], rtol=1e-5, atol=1e-6)


def test_a_loss_is_a_sum_over_a_count():
    sums = {"a": torch.tensor(6.0), "b": torch.tensor(4.0), "seen": torch.tensor(9.0)}
    total = weighted_total(sums, {"a": 3.0, "b": 8.0}, {"a": 1.0, "b": 0.5})
    assert float(total) == 6 / 3 + 0.5 * 4 / 8
    assert float(weighted_total({"a": torch.tensor(0.0)}, {"a": 0.0}, {"a": 1.0})) == 0


def test_a_run_that_has_nothing_to_learn_ends_and_says_so(settings, tmp_path):
    """As with a threshold that no score is above: a loss of 0 would look like a success."""
    with pytest.raises(DataError, match=r"in 4 steps nothing was to be predicted; expected .*taskmask inspect"):
        train(settings(masker={"ratio": 0.0}, train={"steps": 9, "max_bad_steps": 4}))
    assert [row["step"] for row in rows(tmp_path / "run") if row["kind"] == "train"] == [1, 2, 3]


def test_nothing_masked_has_an_undefined_loss_and_changes_no_weight(settings, tmp_path):
    summary = train(settings(masker={"ratio": 0.0}, train={"steps": 3}, optim={"weight_decay": 0.0}))
    logged = rows(tmp_path / "run")
    assert [row["loss"] for row in logged] == [None] * 5 and summary.skipped_steps == 0
    assert [row["grad_norm"] for row in logged if row["kind"] == "train"] == [0] * 3
    weights = last(tmp_path / "run")["model"]
    assert all(torch.isfinite(tensor).all() for tensor in weights.values())


def test_a_toy_problem_is_learnt(settings, tmp_path):
    """Rows that say one word over and over: a model that looks around a gap can fill it."""
    lines = "".join(" ".join([word] * length) + "\n" for word in WORDS for length in range(6, 18))
    for split in ("train", "valid"):
        (tmp_path / f"{split}.txt").write_text(lines)
    files = ["--train", str(tmp_path / "train.txt"), "--valid", str(tmp_path / "valid.txt"), "--vocab-size", "286"]
    preprocess([*files, "--out", str(tmp_path / "bin"), "--workers", "0"])
    summary = train(
        settings(
            data={"path": str(tmp_path / "bin"), "blocks": "document"},
            train={"steps": 200, "max_tokens": 1024, "valid_every": 0},
            optim={"lr": 1e-2, "warmup_steps": 20},
            run={"log_every": 50},
        )
    )
    assert summary.metrics["accuracy"] > 0.8 and summary.metrics["loss"] < 1


def test_a_bad_gradient_changes_nothing_and_is_counted(settings, tmp_path, monkeypatch):
    train(settings("two", train={"steps": 6}, run={"save_every": 1, "keep_last": 9}))
    with monkeypatch.context() as patch:
        arm("nan", 3, set_attribute=patch.setattr)
        summary = train(settings("bad", train={"steps": 6, "ema": 0.9}, run={"save_every": 1, "keep_last": 9}))
    assert summary.skipped_steps == 1
    files = {checkpoint.step_of(file): checkpoint.load(file) for file in checkpoint.all_of(tmp_path / "bad")}
    same(files[2]["model"], files[3]["model"])
    same(files[2]["average"], files[3]["average"])
    same(files[2]["optimizer"]["state"], files[3]["optimizer"]["state"])
    assert files[3]["progress"]["bad_steps"] == 1 and files[4]["progress"]["bad_steps"] == 0
    seen, name = [files[step]["model"] for step in (1, 2, 4, 5, 6)], "model.layers.0.attention.qkv.weight"
    by_hand = sum(0.9**age * model[name] for age, model in enumerate(reversed(seen))) / sum(0.9**n for n in range(5))
    torch.testing.assert_close(files[6]["average"][name], by_hand)  # of the five updates, not of six steps
    good = {checkpoint.step_of(file): checkpoint.load(file) for file in checkpoint.all_of(tmp_path / "two")}
    same(files[2]["model"], good[2]["model"])
    row = [row for row in rows(tmp_path / "bad") if row["kind"] == "train"][2]
    assert row["loss"] is None and row["grad_norm"] is None and row["skipped_steps"] == 1


def test_a_step_that_was_skipped_does_not_count_in_the_average_after_a_resume(settings, tmp_path, monkeypatch):
    changes = {"train": {"steps": 6, "ema": 0.999}, "run": {"save_every": 1, "keep_last": 9}}
    with monkeypatch.context() as patch:
        arm("nan", 2, set_attribute=patch.setattr)
        assert train(settings("whole", **changes)).skipped_steps == 1
        assert isinstance(train_until(settings("stopped", **changes), "stop", 4, patch), Interrupted)
    train(settings("stopped", **changes))
    same(last(tmp_path / "whole"), last(tmp_path / "stopped"))


def test_a_slow_average_of_a_short_run_is_that_of_its_weights(settings, tmp_path):
    """With a decay of 0.999 the weights it began with would be most of an average that is not corrected."""
    train(
        settings("short", train={"steps": 4, "ema": 0.999}, run={"save_every": 1, "keep_last": 9}, optim={"lr": 1e-2})
    )
    files = [checkpoint.load(file) for file in checkpoint.all_of(tmp_path / "short")]
    for name, average in files[-1]["average"].items():
        mean = sum(file["model"][name] for file in files) / 4
        torch.testing.assert_close(average, mean, atol=2e-4, rtol=1e-3)


def test_an_infinite_loss_with_a_finite_gradient_is_skipped(settings, tmp_path, monkeypatch):
    from taskmask.criteria.masked_lm import MaskedLMCriterion

    original, calls = MaskedLMCriterion.loss, []

    def loss(self, outputs, batch):
        calls.append(batch)
        sums = original(self, outputs, batch)
        return {**sums, "mlm": sums["mlm"] + math.inf} if len(calls) == 2 else sums

    monkeypatch.setattr(MaskedLMCriterion, "loss", loss)
    summary = train(settings(train={"steps": 4, "valid_every": 0}, run={"save_every": 1, "keep_last": 9}))
    first, second, third, _ = (checkpoint.load(file)["model"] for file in checkpoint.all_of(tmp_path / "run"))
    same(first, second)
    assert summary.skipped_steps == 1 and any(not torch.equal(second[name], third[name]) for name in third)
    assert all(row["loss"] is None or math.isfinite(row["loss"]) for row in rows(tmp_path / "run"))


def test_too_many_bad_gradients_end_the_run(settings, tmp_path, monkeypatch):
    for step in (3, 4, 6, 7, 8):
        arm("nan", step, set_attribute=monkeypatch.setattr)
    chosen = settings(train={"steps": 20, "max_bad_steps": 3}, run={"save_every": 1, "keep_last": 99})
    with pytest.raises(DivergedError, match=r"3 steps in a row were skipped, to step 8.*lower optim\.lr") as error:
        train(chosen)
    assert error.value.exit_code == 5
    files = checkpoint.all_of(tmp_path / "run")
    assert checkpoint.step_of(files[-1]) == 7, "what diverged is not saved"
    same(checkpoint.load(files[4])["model"], checkpoint.load(files[-1])["model"])


def test_a_validation_that_is_not_finite_is_never_the_best(settings, tmp_path, monkeypatch):
    from taskmask.tasks.masked_lm import MaskedLM

    original, calls = MaskedLM.metrics, []

    def metrics(self, totals):
        calls.append(totals)
        found = original(self, totals)
        return {**found, "loss": math.nan} if len(calls) in (1, 4) else found

    monkeypatch.setattr(MaskedLM, "metrics", metrics)
    chosen = settings(train={"valid_every": 2}, run={"log_every": 6, "save_every": 2, "keep_last": 9})
    train(chosen)
    files = checkpoint.all_of(tmp_path / "run")
    assert math.isfinite(checkpoint.load(files[-1])["progress"]["best"])
    assert [checkpoint.step_of(file) for file in files] == [2, 4, 6]
    assert [checkpoint.score_of(file) is None for file in files] == [True, False, True]
    assert "_loss-" in checkpoint.best_of(tmp_path / "run", "min").name


def test_seeds_give_different_runs_and_the_same_seed_the_same(settings, tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        train(settings(name, train={"seed": seed, "steps": 2}))
    same(last(tmp_path / "a")["model"], last(tmp_path / "b")["model"])
    assert rows(tmp_path / "a")[0]["loss"] != rows(tmp_path / "c")[0]["loss"]


def test_rows_too_long_for_the_budget_are_found_before_the_first_step(settings, tmp_path, monkeypatch):
    from taskmask.data.sequences.base import RowSource

    original = RowSource.__init__

    def longer(self, split, *arguments, **options):
        original(self, split, *arguments, **options)
        self.lengths = self.lengths * (100 if split.name == "valid" else 1)

    monkeypatch.setattr(RowSource, "__init__", longer)
    with pytest.raises(DataError):
        train(settings())
    assert not (tmp_path / "run").exists()


def test_in_a_thread_there_are_no_signal_handlers(settings):
    import threading

    found = []
    thread = threading.Thread(target=lambda: found.append(train(settings(train={"steps": 2}))))
    thread.start()
    thread.join()
    assert found[0].step == 2


def test_without_a_validation_split(settings, data, tmp_path):
    text = data.parent / "train.txt"
    preprocess(["--train", str(text), "--out", str(tmp_path / "bin"), "--vocab", str(data), "--workers", "0"])
    summary = train(settings(data={"path": str(tmp_path / "bin")}))
    assert summary.metrics == {}
    assert summary.best_checkpoint.endswith("step-6.pt")


@pytest.mark.slow
def test_compiled_and_plain_agree_to_rounding(settings, tmp_path):
    for name, on in (("plain", False), ("compiled", True)):
        train(settings(name, run={"compile": on}, train={"steps": 2}))
    a, b = rows(tmp_path / "plain"), rows(tmp_path / "compiled")
    assert [row["loss"] for row in a] == pytest.approx([row["loss"] for row in b], rel=1e-4)
    assert last(tmp_path / "plain")["model"].keys() == last(tmp_path / "compiled")["model"].keys()
