"""An experiment as a whole: nothing is trained twice, a stop changes nothing, what fails is told, budgets are equal."""

import json
import math
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from compare_help import STAGES, merged, run_counted, values, write_data, write_experiment
from plug_in_help import plug_ins_taken_back

from taskmask.analysis.compare import predictions
from taskmask.analysis.compare import stage as running
from taskmask.analysis.compare.results import Cost
from taskmask.analysis.compare.runner import compare, name_folders, plan
from taskmask.checkpoints import checkpoint
from taskmask.errors import ConfigError, DivergedError, Interrupted
from taskmask.registry import components, plugins
from taskmask.training.run_folder import lock
from taskmask.training.trainer import Trainer


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Equal bits need equal numbers of threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory):
    """The tiny experiment, done: its file, its folder, its results and what was trained."""
    folder = tmp_path_factory.mktemp("whole")
    file = write_experiment(folder, data)
    with pytest.MonkeyPatch.context() as patch:
        return file, folder / "out", *run_counted(file, folder / "out", patch)


@pytest.fixture
def copied(whole, tmp_path):
    """A copy of the experiment that is done: its folder."""
    shutil.copytree(whole[1], tmp_path / "out", symlinks=True)
    return tmp_path / "out"


def test_everything_is_found(whole):
    _, _, results, trained = whole
    assert len(trained) == len(set(trained)) == STAGES
    assert (results.name, results.baseline, results.seeds, results.budget) == ("tiny", "uniform", (1, 2), "steps")
    assert list(results.policies) == ["uniform", "words"] and not results.failures
    (task,) = results.tasks
    assert (task.name, task.metric, task.is_lower_better, task.split) == ("half", "accuracy", False, "test")
    found = {(one.of, one.policy, one.share): set(one.measures) for one in results.scores}
    shares = [("", 0.0), *((policy, share) for policy in results.policies for share in (0.5, 1.0))]
    assert found == {("half", *share): {1, 2} for share in shares}
    models = {(one.of, one.policy, one.share) for one in results.language_models}
    assert models == {(m, p, 1.0) for m in ("uniform", "whole_word", "span") for p in results.policies}
    assert [asked.name for asked in results.maskers] == ["uniform", "whole_word", "span"]
    for measured in values(results).values():
        assert all(math.isfinite(value) for name, value in measured.items() if name in ("loss", "accuracy"))
    json.dumps(results.repeat, allow_nan=False)


def test_costs_are_those_of_the_logs(whole):
    _, folder, results, _ = whole
    for policy in results.policies:
        for seed, cost in results.costs[policy].items():
            run = folder / "by-name" / "policies" / policy / f"seed-{seed}" / "intermediate"
            last = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()][-2]
            assert (cost.updates, cost.tokens, cost.targets) == (4, last["tokens"], last["targets"])
            assert cost.flops > 0 and cost.seconds > 0
    assert set(results.finetuning["half"]) == {(p, s) for p in results.policies for s in (1, 2)}
    assert isinstance(results.pretraining, Cost) and results.pretraining.updates == 3


def test_policies_with_other_tasks_and_criteria(data, tmp_path, monkeypatch):
    """Labels beside the masks, or alone: what is a language model is asked as one, whatever it learned besides."""
    joint = {"task": {"name": "joint_mlm", "label": "label"}, "criterion": {"name": "joint", "mlm_weight": 0.5}}
    alone = {"task": {"name": "joint_mlm", "label": "label", "read": "clean", "mlm": False}}
    file = write_experiment(
        tmp_path, data, "joint", seeds=[1], points=1, policies={"words": None, "v1": joint, "v4": alone}
    )
    results, _ = run_counted(file, tmp_path / "out", monkeypatch)
    assert not results.failures and {one.policy for one in results.scores} == {"", "uniform", "v1", "v4"}
    assert {one.policy for one in results.language_models} == {"uniform", "v1"}
    compare(file, tmp_path / "out")
    assert "v4" in (tmp_path / "out" / "report.md").read_text()


def test_a_second_run_trains_and_asks_nothing(whole, monkeypatch):
    file, folder, results, _ = whole

    def examine(*_, **__):
        raise AssertionError("a model was asked again")

    monkeypatch.setattr(predictions, "examine", examine)
    again, trained = run_counted(file, folder, monkeypatch)
    assert trained == [] and values(again) == values(results)
    assert again.costs == results.costs and again.finetuning == results.finetuning


def test_the_report_is_written_and_says_how_to_repeat_it(whole):
    file, folder, *_ = whole
    results = compare(file, folder)
    texts = {kind: (folder / f"report.{kind}").read_text() for kind in ("html", "md", "csv")}
    assert all(policy in text for policy in results.policies for text in texts.values())
    assert torch.__version__ in texts["html"] and results.repeat["data"]
    before = (folder / "report.md").read_bytes()
    compare(file, folder)
    assert (folder / "report.md").read_bytes() == before


@pytest.mark.parametrize(
    ("changes", "stages"),
    [
        ({"policies": {"words": {"masker": {"name": "whole_word", "ratio": 0.3}}}}, 2 * 3),
        ({"policies": {"words": None, "complete words": None, "renamed": {"masker": "whole_word"}}}, 0),
        ({"policies": {"more": {"masker": "span"}}}, 2 * 3),
        ({"seeds": [2, 1, 3]}, 7),
        ({"tasks": {"half": {"train": {"steps": 3}}}}, 2 * (1 + 2 * 2)),
        ({"intermediate": {"train": {"steps": 2}}}, 2 * 2 * 3),
        ({"run": {"log_every": 1, "save_every": 1}}, 0),
        ({"points": 1}, 0),
        ({"tasks": {"other": {"task": "classification", "train": {"steps": 2, "max_tokens": 256}}}}, 2 * 5),
        ({"tasks": {"half": {"split": "valid"}}}, 0),
    ],
    ids=["policy", "name", "policy more", "seed more", "task", "steps", "run", "points", "task more", "split"],
)
def test_a_change_trains_what_depends_on_it(changes, stages, data, copied, monkeypatch):
    file = write_experiment(copied.parent, data, **changes)
    results, trained = run_counted(file, copied, monkeypatch)
    assert len(trained) == stages, trained
    assert all(one.measures.keys() == set(results.seeds) for one in results.scores)


def test_moved_data_are_the_same_data_and_other_data_are_not(data, copied, tmp_path, monkeypatch):
    file = write_experiment(tmp_path, shutil.copytree(data, tmp_path / "moved"))
    assert run_counted(file, copied, monkeypatch)[1] == []
    before = {stage.digest for stage in plan(file)[1]}
    other = write_data(tmp_path / "other", "bin", "--vocab-size", "283")
    assert not before & {stage.digest for stage in plan(write_experiment(tmp_path, other))[1]}


def test_stopped_and_gone_on_with_is_the_same(whole, data, tmp_path, monkeypatch):
    original, steps = Trainer.step, []

    def stops(self, micro_batches):
        steps.append(1)
        if len(steps) in (2, 9):  # in the pre-training, and in an intermediate stage
            self.stop.noted = "a test"
        return original(self, micro_batches)

    monkeypatch.setattr(Trainer, "step", stops)
    file = write_experiment(tmp_path, data, seeds=[1], policies={"words": None})
    for _ in range(2):
        with pytest.raises(Interrupted, match="the same command goes on"):
            run_counted(file, tmp_path / "out", monkeypatch)
    results, _ = run_counted(file, tmp_path / "out", monkeypatch)
    assert values(results).items() <= values(whole[2]).items()
    counted = ("updates", "tokens", "targets", "flops")
    for policy in results.policies:
        for seed, cost in results.costs[policy].items():
            assert [getattr(cost, n) for n in counted] == [getattr(whole[2].costs[policy][seed], n) for n in counted]


def test_what_is_damaged_or_removed_is_made_anew(whole, copied, monkeypatch):
    file, _, results, _ = whole
    tuned = copied / "by-name" / "policies" / "words" / "seed-1" / "finetuning-half"
    (kept,) = tuned.glob("answers-half-*.npz")
    kept.write_bytes(kept.read_bytes()[:100])
    (tuned / "stage.json").write_text("{")
    between = copied / "by-name" / "policies" / "words" / "seed-2" / "intermediate"
    next(f for f in checkpoint.all_of(between) if checkpoint.step_of(f) == 2).unlink()
    found, trained = run_counted(file, copied, monkeypatch)
    assert values(found) == values(results)
    assert sorted(set(trained)) == sorted([tuned.resolve().name, between.resolve().name])
    assert [checkpoint.step_of(file) for file in checkpoint.all_of(between)] == [2, 4]


def test_a_stage_that_diverges_is_told_and_the_rest_goes_on(data, tmp_path, monkeypatch, capsys):
    wild = {"masker": "span", "optim": {"lr": 1e30, "clip": 0}, "train": {"max_bad_steps": 1}}
    file = write_experiment(tmp_path, data, points=1, policies={"wild": wild, "words": None})
    results, trained = run_counted(file, tmp_path / "out", monkeypatch)
    failed = [(one.stage, one.policy, one.seed) for one in results.failures]
    assert failed == [("intermediate", "wild", 1), ("intermediate", "wild", 2)]
    assert len(trained) == 1 + 2 * (1 + 2 + 1) and results.costs["wild"] == {}
    assert not any(one.policy == "wild" for one in (*results.scores, *results.language_models))
    message = results.failures[0].message
    assert "1 steps in a row were skipped" in message and "not tried again as long as its folder" in message
    assert "intermediate wild, seed 1 has failed" in capsys.readouterr().err
    again, trained = run_counted(file, tmp_path / "out", monkeypatch)
    assert trained == [] and again.failures == results.failures
    shutil.rmtree(results.failures[0].folder)
    assert len(run_counted(file, tmp_path / "out", monkeypatch)[1]) == 1


def test_a_stage_that_learned_nothing_is_told(data, tmp_path, monkeypatch):
    wild = {"masker": "span", "optim": {"lr": 1e30, "clip": 0, "warmup_steps": 0}}
    file = write_experiment(tmp_path, data, points=1, seeds=[1], policies={"wild": wild, "words": None})
    results, _ = run_counted(file, tmp_path / "out", monkeypatch)
    (failure,) = results.failures
    assert failure.policy == "wild" and "all of its 4 steps were skipped" in failure.message


def test_without_the_pretraining_there_is_nothing(data, tmp_path, monkeypatch):
    wild = {"optim": {"lr": 1e30, "clip": 0}, "train": {"max_bad_steps": 1}}
    file = write_experiment(tmp_path, data, pretrain=wild)
    for _ in range(2):
        with pytest.raises(DivergedError, match=r"\[pretrain\]: .*all the rest depends on it"):
            run_counted(file, tmp_path / "out", monkeypatch)


def test_a_checkpoint_to_start_from(whole, data, tmp_path, monkeypatch):
    _, folder, results, _ = whole
    start = folder / "by-name" / "pretraining"
    own = write_experiment(tmp_path, data, seeds=[1], points=1)
    tables = json.loads(own.read_text())
    tables["pretrain"] = {"from": str(start)}
    own.write_text(json.dumps(tables))
    found, trained = run_counted(own, tmp_path / "out", monkeypatch)
    assert len(trained) == 5 and found.pretraining is None and found.repeat["start"]["sha256"]
    assert values(found).items() <= values(results).items()


def few(budget, steps):
    """An experiment with a policy that masks a third of what the other does."""
    rare = {"masker": {"name": "whole_word", "ratio": 0.05}}
    changes = {"budget": budget, "intermediate": {"train": {"steps": steps}}, "policies": {"words": rare}}
    return {**changes, "seeds": [1], "points": 1}


def test_budgets_are_equal_as_planned(data, tmp_path):
    costs, steps = {}, {}
    for budget in ("steps", "targets", "flops"):
        _, stages = plan(write_experiment(tmp_path, data, **few(budget, 300)))
        planned = {stage.policy: stage.planned for stage in stages if stage.kind == "intermediate"}
        steps[budget] = {policy: cost.updates for policy, cost in planned.items()}
        kind = "updates" if budget == "steps" else budget
        costs[budget] = [getattr(cost, kind) for cost in planned.values()]
        assert costs[budget][0] == pytest.approx(costs[budget][1], rel=0.01) and steps[budget]["uniform"] == 300
    assert steps["targets"]["words"] > 2 * steps["flops"]["words"] > 600 == 2 * steps["steps"]["words"]


def test_budgets_are_equal_as_spent(data, tmp_path, monkeypatch, capsys):
    results, _ = run_counted(write_experiment(tmp_path, data, **few("targets", 20)), tmp_path / "out", monkeypatch)
    uniform, words = (results.costs[policy][1] for policy in ("uniform", "words"))
    assert words.targets == pytest.approx(uniform.targets, rel=0.1) and words.tokens > 2 * uniform.tokens
    steps = results.repeat["steps"]
    assert steps["uniform"] == 20 and words.updates == steps["words"]
    assert f"masked tokens, which are so many steps: uniform 20, words {steps['words']}" in capsys.readouterr().err


def test_two_experiments_do_not_share_a_folder(whole, data, tmp_path, monkeypatch):
    with pytest.raises(ConfigError, match=r"holds experiment 'tiny', and .* is 'other'; name another folder"):
        run_counted(write_experiment(tmp_path, data, "other"), whole[1], monkeypatch)
    run = whole[1] / "by-name" / "pretraining"
    with pytest.raises(ConfigError, match="holds a run, no experiment"):
        run_counted(whole[0], run, monkeypatch)


def test_two_processes_are_not_at_work_in_one_folder(whole, monkeypatch):
    with lock(whole[1]), pytest.raises(ConfigError, match="another process is at work in it"):
        run_counted(whole[0], whole[1], monkeypatch)


def test_a_plug_in_counts_where_it_is_used_alone(data, tmp_path):
    code = "from taskmask import register_masker as known\n"
    code += "@known('mine')\ndef mine(batch, rng):\n    return batch.maskable\n"
    (tmp_path / "mine.py").write_text(code)
    file = write_experiment(tmp_path, data, policies={"mine": {"masker": "mine"}})
    plugins.load_user_dir(str(tmp_path / "mine.py"))
    before = {stage.digest: stage for stage in plan(file)[1]}
    (tmp_path / "again").mkdir()
    (tmp_path / "again" / "mine.py").write_text(code + "# changed\n")
    with plug_ins_taken_back():
        components.MASKERS._entries.pop("mine")
        plugins._user_dirs.clear()
        plugins.load_user_dir(str(tmp_path / "again" / "mine.py"))
        after = {stage.digest for stage in plan(file)[1]}
    assert {stage.policy for digest, stage in before.items() if digest not in after} == {"mine"}


def test_a_variant_depends_on_the_file_of_what_it_varies(data, tmp_path):
    code = "from taskmask import register_masker as known\n@known('base')\n"
    code += "def base(batch, rng, *, ratio: float = 0.2):\n    return batch.maskable\n"
    variant = "from taskmask.registry import MASKERS\nMASKERS.variant('much', of='base', ratio=0.5)\n"
    digests = []
    for place, end in (("one", ""), ("two", ""), ("three", "# changed\n")):
        (tmp_path / place).mkdir()
        (tmp_path / place / "base.py").write_text(code + end)
        (tmp_path / place / "variant.py").write_text(variant)
        file = write_experiment(tmp_path, data, policies={"much": {"masker": "much"}})
        with plug_ins_taken_back():
            plugins._user_dirs.clear()
            for name in ("base.py", "variant.py"):
                plugins.load_user_dir(str(tmp_path / place / name))
            digests.append({stage.digest for stage in plan(file)[1] if stage.policy == "much"})
    assert digests[0] == digests[1] and not digests[0] & digests[2]


def test_which_checkpoint_counts_is_no_matter_of_the_run(data, tmp_path):
    _, stages = plan(write_experiment(tmp_path, data, run={"keep_best": 0}))
    assert {stage.settings.run.keep_best for stage in stages if stage.kind != "intermediate"} == {1}


def test_the_file_may_change_or_go_while_it_runs(data, tmp_path, monkeypatch):
    file = write_experiment(tmp_path, data, seeds=[1], points=1, policies={"words": None})
    original = running.train

    def train(settings, **named):
        file.unlink(missing_ok=True)
        return original(settings, **named)

    monkeypatch.setattr(running, "train", train)
    results = compare(file, tmp_path / "out")
    assert results.repeat["experiment"]["seeds"] == [1] and (tmp_path / "out" / "report.html").exists()


def test_the_report_of_another_file_is_not_replaced_in_silence(whole, copied, data, capsys, monkeypatch):
    run_counted(write_experiment(copied.parent / "elsewhere", data), copied, monkeypatch)
    assert "warning: " in (said := capsys.readouterr().err) and "which this one replaces; else name --run DIR" in said
    run_counted(copied.parent / "elsewhere" / "tiny.json", copied, monkeypatch)
    assert "which this one replaces" not in capsys.readouterr().err


def test_links_by_name_are_made_anew_and_other_files_stay(tmp_path, data):
    by_name = tmp_path / "by-name"
    (by_name / "policies" / "gone" / "seed-1").mkdir(parents=True)
    (by_name / "policies" / "gone" / "seed-1" / "intermediate").symlink_to(tmp_path / "nowhere")
    (by_name / "mine").mkdir()
    (by_name / "mine" / "notes.txt").write_text("mine")
    name_folders(by_name, plan(write_experiment(tmp_path, data))[1])
    assert (by_name / "mine" / "notes.txt").read_text() == "mine" and (by_name / "pretraining").is_symlink()
    assert not (by_name / "policies" / "gone").exists()


PROGRAM = """
import json, os, sys
sys.path.insert(0, {tests!r})
sys.modules["taskmask.analysis.compare.export"] = __import__("compare_help").no_report()
from compare_help import values
from taskmask.analysis.compare.runner import compare
found = values(compare(sys.argv[1], sys.argv[2]))
if os.environ["RANK"] == "0":
    json.dump(found, open(sys.argv[3], "w"))
"""


@pytest.mark.slow
def test_two_processes_are_as_one(data, tmp_path, monkeypatch):
    share = {"train": {"micro_batches_per_step": 2, "max_tokens": 128}}
    wild = {"masker": "span", "optim": {"lr": 1e30, "clip": 0}, "train": {"max_bad_steps": 1}}
    changes = {"pretrain": share, "intermediate": share, "tasks": {"half": share}, "seeds": [1], "points": 1}
    file = write_experiment(tmp_path, data, **merged(changes, {"policies": {"wild": wild, "words": None}}))
    program = tmp_path / "program.py"
    program.write_text(PROGRAM.format(tests=str(Path(__file__).parent.parent)))
    words = [str(program), str(file), str(tmp_path / "two"), str(tmp_path / "found.json")]
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--", *words]
    ended = subprocess.run(launch, capture_output=True, text=True, timeout=240)
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr.count("intermediate wild, seed 1 has failed") == 1 == ended.stderr.count("[1/6] pre-training")
    found = json.loads((tmp_path / "found.json").read_text())
    alone = values(run_counted(file, tmp_path / "one", monkeypatch)[0])
    assert found.keys() == alone.keys()
    for name, measured in alone.items():
        assert found[name]["loss"] == pytest.approx(measured["loss"], rel=1e-3), name
    again, trained = run_counted(file, tmp_path / "two", monkeypatch)  # gone on with in another number of processes
    assert trained == [] and values(again) == found


def test_stages_that_say_auto_have_one_number_format(monkeypatch, tmp_path):
    """Those that are trained later, perhaps on another machine, take that of those that are there."""
    from types import SimpleNamespace

    from taskmask.analysis.compare import runner as engine

    def stage(name, precision):
        settings = SimpleNamespace(train=SimpleNamespace(precision=precision))
        cost = SimpleNamespace(flops=1)
        return SimpleNamespace(
            digest=name, folder=tmp_path / name, settings=settings, before=None, planned=cost, kind=""
        )

    stages, given = [stage("a", "fp16"), stage("b", "auto"), stage("c", "auto")], []
    for one, precision in zip(stages, ("fp16", "bf16"), strict=False):
        one.folder.mkdir()
        (one.folder / "settings.json").write_text(json.dumps({"train": {"precision": precision}}))
    ended = SimpleNamespace(failure="")
    monkeypatch.setattr(engine, "run_stage", lambda stage, start, kept, said, is_first: given.append(kept) or ended)
    engine.walk(stages, {"a": ended, "b": ended}, SimpleNamespace(start=None), False)
    assert given == ["bf16"]
