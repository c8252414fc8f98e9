"""Numbers that are not finite, spikes, memory that runs out: steps are skipped by all alike, or the run ends."""

import json
import math

import pytest
import torch
from training_help import Launch, arm, last, make, rows, same, tables

from taskmask.checkpoints import checkpoint
from taskmask.errors import DivergedError
from taskmask.inference import loaded_model
from taskmask.system import failpoints
from taskmask.training.nan_debug import first_bad_place
from taskmask.training.optim import SPIKE_WINDOW, is_spike
from taskmask.training.precision import autocast
from taskmask.training.train import train

EVERY = {"train": {"micro_batches_per_step": 2, "valid_every": 0}, "run": {"save_every": 1, "keep_last": 99}}


@pytest.fixture
def order(monkeypatch):
    monkeypatch.setattr(failpoints, "_times", failpoints.collections.Counter())
    return lambda text: monkeypatch.setenv("TASKMASK_FAULT", text)


def states(folder):
    return {checkpoint.step_of(file): checkpoint.load(file) for file in checkpoint.all_of(folder)}


@pytest.mark.fault(30)
@pytest.mark.parametrize("ranks", [1, 2])
def test_a_nan_in_one_process_is_a_step_skipped_by_all(ranks, data, tmp_path):
    launch = Launch(tmp_path, tables(data, tmp_path / "run", **EVERY), ranks, order=f"nan@step.loss#3,rank={ranks - 1}")
    assert launch.wait() == [0] * ranks, launch.text()
    found = states(tmp_path / "run")
    step = 3 if ranks == 2 else 2  # two micro-batches a step
    same(found[step - 1]["model"], found[step]["model"])
    assert found[6]["progress"]["skipped_steps"] == 1 and found[6]["progress"]["bad_steps"] == 0
    assert any(not torch.equal(w, found[step + 1]["model"][name]) for name, w in found[step]["model"].items())


@pytest.mark.fault(30)
@pytest.mark.parametrize("ranks", [1, 2])
def test_nan_after_nan_ends_with_5_and_a_crash_checkpoint(ranks, data, tmp_path):
    tables_of = tables(data, tmp_path / "run", **{**EVERY, "train": {**EVERY["train"], "max_bad_steps": 2}})
    orders = ";".join(f"nan@step.loss#{n},rank={ranks - 1}" for n in range(5, 20))
    launch = Launch(tmp_path, tables_of, ranks, order=orders)
    assert launch.wait() == [5] * ranks, launch.text()
    ending = launch.text().strip().splitlines()[-1]
    assert ending.startswith("taskmask: error: train.max_bad_steps: 2 steps in a row were skipped, to step ")
    assert "Traceback" not in launch.text() and "crash.pt" in ending and "optim.lr" in ending
    crash = checkpoint.load(tmp_path / "run" / "crash.pt")
    good = checkpoint.all_of(tmp_path / "run")[-1]
    same(crash["model"], checkpoint.load(good)["model"])
    assert json.loads((tmp_path / "run" / "exit.json").read_text())["exit_code"] == 5
    assert loaded_model.load(str(tmp_path / "run" / "crash.pt")).step == crash["step"]


def test_the_module_of_the_first_bad_number_is_named(settings, tmp_path, monkeypatch):
    from taskmask.modules.layers import FeedForward

    original, calls = FeedForward.forward, []

    def forward(self, x):
        calls.append(x)
        return original(self, x) * (math.inf if len(calls) > 6 else 1)

    monkeypatch.setattr(FeedForward, "forward", forward)
    with pytest.raises(DivergedError, match=r"not finite in the output of model\.\S*feed_forward \(process 0\)"):
        train(settings(**{**EVERY, "train": {**EVERY["train"], "max_bad_steps": 2}}))
    assert loaded_model.load(str(tmp_path / "run" / "crash.pt")).step == 5


class TestBlame:
    """The place of the first number that is not finite."""

    @pytest.fixture
    def ready(self, trainer):
        made = trainer()
        return made.objective, next(made.steps())[0][1]

    def place(self, ready):
        objective, batch = ready
        return first_bad_place(objective, batch, autocast(torch.device("cpu"), "fp32"))

    def test_nothing(self, ready):
        assert self.place(ready) == ""

    def test_a_weight(self, ready):
        name, weight = list(ready[0].named_parameters())[4]
        weight.data[0] = math.inf
        assert self.place(ready) == f"in weight {name}"

    def test_an_output(self, ready):
        names = [name for name, _ in ready[0].named_modules()]
        name = next(name for name in names if name.endswith("feed_forward"))
        module = ready[0].get_submodule(name)
        handle = module.register_forward_hook(lambda module, arguments, output: output * math.nan)
        assert self.place(ready) == f"in the output of {name}"
        handle.remove()
        assert self.place(ready) == ""

    def test_a_gradient(self, ready):
        name, weight = list(ready[0].named_parameters())[-1]
        weight.register_hook(lambda gradient: gradient * math.nan)
        assert self.place(ready) == f"in the gradient of {name}"


@pytest.mark.fault(31)
def test_what_a_spike_is():
    calm = [1.0 + 0.01 * (i % 7) for i in range(SPIKE_WINDOW)]
    assert is_spike(1000.0, calm, 6.0) and not is_spike(1.06, calm, 6.0)
    assert not is_spike(1000.0, calm, 0.0), "off"
    assert not is_spike(1000.0, calm[: SPIKE_WINDOW // 2 - 1], 6.0), "too few to tell"
    assert not is_spike(0.001, calm, 6.0), "a small gradient does no harm"


@pytest.mark.fault(31)
def test_a_spike_is_skipped_where_asked_and_the_resumed_run_skips_alike(settings, tmp_path, monkeypatch):
    """The loss of one step is a thousand times what it was."""
    from taskmask.criteria.masked_lm import MaskedLMCriterion

    spike = SPIKE_WINDOW // 2 + 10
    original, calls = MaskedLMCriterion.loss, []

    def loss(self, outputs, batch):
        sums = original(self, outputs, batch)
        calls.append(len(calls))
        return {**sums, "mlm": sums["mlm"] * (1000 if len(calls) == spike else 1)}

    changes = {"train": {"steps": spike + 3, "valid_every": 0, "max_tokens": 64, "skip_spikes": 6.0}}
    changes["run"] = {"save_every": spike - 1, "keep_last": 99, "log_every": 1}
    with monkeypatch.context() as patch:
        patch.setattr(MaskedLMCriterion, "loss", loss)
        assert train(settings("whole", **changes)).skipped_steps == 1
        calls.clear()
        off = {**changes, "train": {**changes["train"], "skip_spikes": 0.0}}
        assert train(settings("off", **off)).skipped_steps == 0
        calls.clear()
        arm("stop", spike, set_attribute=patch.setattr)
        with pytest.raises(Exception, match="the same command goes on"):
            train(settings("stopped", **changes))
    with monkeypatch.context() as patch:
        calls[:] = range(spike - 1)
        patch.setattr(MaskedLMCriterion, "loss", loss)
        train(settings("stopped", **changes))
    same(last(tmp_path / "whole"), last(tmp_path / "stopped"))
    skipped = [row["skipped_steps"] for row in rows(tmp_path / "whole") if row["kind"] == "train"]
    assert skipped.index(1) == spike - 1 and rows(tmp_path / "whole") == rows(tmp_path / "stopped")


@pytest.mark.fault(32)
def test_fp16_that_overflows_for_ever_ends_at_the_floor(settings, tmp_path, order):
    order(";".join(f"nan@step.loss#{n}" for n in range(1, 60)))
    with pytest.raises(
        DivergedError, match=r"overflow fp16 even at a loss scale of 0.0625; .*lower optim\.lr"
    ) as error:
        train(settings(train={"precision": "fp16", "steps": 60, "max_bad_steps": 60, "valid_every": 0}))
    assert error.value.exit_code == 5 and (tmp_path / "run" / "crash.pt").exists()


@pytest.mark.fault(34)
@pytest.mark.parametrize("place", ["step.forward", "step.backward"])
def test_out_of_memory_is_a_step_skipped_and_counted(place, settings, tmp_path, order, capfd):
    order(f"memory@{place}#4")
    summary = train(settings(**EVERY))
    assert summary.skipped_steps == 1 and summary.step == 6
    found = states(tmp_path / "run")
    same(found[1]["model"], found[2]["model"])
    assert "step 2 is skipped, not enough memory in process 0" in capfd.readouterr().err


@pytest.mark.fault(34)
def test_out_of_memory_in_one_process_is_a_step_skipped_by_all(data, tmp_path):
    launch = Launch(tmp_path, tables(data, tmp_path / "run", **EVERY), 2, order="memory@step.forward#3,rank=1")
    assert launch.wait() == [0, 0], launch.text() + launch.text(1)
    found = states(tmp_path / "run")
    same(found[2]["model"], found[3]["model"])
    assert found[6]["progress"]["skipped_steps"] == 1
    assert "step 3 is skipped, not enough memory in process 1" in launch.text(1)


@pytest.mark.fault(34)
def test_out_of_memory_again_and_again_is_budgeted(data, tmp_path):
    config = tables(data, tmp_path / "run", **{**EVERY, "train": {"max_bad_steps": 3, "valid_every": 0}})
    launch = Launch(tmp_path, config, order=";".join(f"memory@step.forward#{n}" for n in range(2, 9)))
    assert launch.wait() == [5] and "3 steps in a row were skipped, to step 4, the last one for want of memory" in (
        launch.text()
    )
    assert "a lower train.max_tokens" in launch.text() and "not finite" not in launch.text().splitlines()[-1]


@pytest.mark.fault(34)
def test_a_rehearsal_without_enough_memory_fails(settings, tmp_path, order):
    from taskmask.training.dry_run import dry_run

    order("memory@step.forward#2")
    with pytest.raises(DivergedError, match=r"1 of 4 steps were skipped; .*lower train\.max_tokens"):
        dry_run(settings())


@pytest.mark.fault(34)
def test_a_lack_of_memory_leaves_the_loss_scale_alone(settings, tmp_path, order):
    order("memory@step.forward#2")
    train(settings(train={"precision": "fp16", "steps": 4, "valid_every": 0}))
    assert last(tmp_path / "run")["loss_scale"]["value"] == 2.0**15


@pytest.mark.fault(34)
def test_out_of_memory_in_the_update_ends_with_5_and_the_same_command_goes_on(data, tmp_path):
    config = tables(data, tmp_path / "run", **EVERY)
    launch = Launch(tmp_path, config, order="memory@step.update#4")
    assert launch.wait() == [5] and "in the middle of an update" in launch.text().splitlines()[-1]
    assert [checkpoint.step_of(file) for file in checkpoint.all_of(tmp_path / "run")] == [1, 2, 3]
    assert Launch(tmp_path, config).wait() == [0]
    train(make(data, tmp_path / "whole", **EVERY))
    same(last(tmp_path / "whole"), last(tmp_path / "run"))


@pytest.mark.fault(34, 67)
@pytest.mark.parametrize("fault, code", [("memory", 7), ("full", 7), ("error", 1)])
def test_an_error_in_a_validation_loses_no_step(fault, code, data, tmp_path):
    config = tables(data, tmp_path / "run", train={"steps": 6, "valid_every": 3}, run={"save_every": 100})
    launch = Launch(tmp_path, config, order=f"{fault}@validation.batch#2")
    assert launch.wait() == [code] and "the validation failed; step " in launch.text()
    (file,) = [file for file in checkpoint.all_of(tmp_path / "run") if checkpoint.score_of(file) is None]
    assert f"step {checkpoint.step_of(file)} is saved" in launch.text()
    assert Launch(tmp_path, config).wait() == [0]
    train(make(data, tmp_path / "whole", train={"steps": 6, "valid_every": 3}, run={"save_every": 100}))
    same(last(tmp_path / "whole"), last(tmp_path / "run"))
