"""taskmask variance, as its user meets it."""

import copy
import json
import subprocess
import sys

import numpy as np
import pytest
import torch

from taskmask import load
from taskmask.analysis.inspect.inspection import read_policies, spread
from taskmask.analysis.variance.gradients import Gradients, Subject, collect
from taskmask.analysis.variance.measure import summarised, variance
from taskmask.analysis.views import draws_of
from taskmask.data.dataset import Dataset
from taskmask.data.rng import RowRng
from taskmask.data.sequences.base import Examples, RowSource
from taskmask.errors import ConfigError, StorageError
from taskmask.registry import TASKS
from taskmask.stats.gradient_moments import Added, forms_of
from taskmask_cli import main as front
from taskmask_cli import preprocess, train
from taskmask_cli.variance import main

FEW = ["--rows", "6", "--draws", "2"]


def asked(capsys, *words):
    capsys.readouterr()
    assert main([*words, *FEW, "--json"]) == 0
    out, err = capsys.readouterr()
    assert err == "" and out.count("\n") == 1
    return json.loads(out, parse_constant=pytest.fail)["checkpoints"]


@pytest.fixture
def measured(trained, data):
    """Measures policies on a few rows, masked tokens always being replaced by <mask>: nothing but masks varies."""

    def run(*texts, project=0, draws=3):
        loaded = load(trained)
        task = loaded.task()
        task.config = type(task.config)(mask_share=1.0, random_share=0.0)
        source = RowSource(Dataset.open(data).split("train"), loaded.vocab, loaded.settings.data.length, "complete", ())
        gradients = Gradients(loaded.objective(loaded.settings, task), torch.device("cpu"), project)
        subjects = []
        for policy in read_policies(texts, loaded.vocab):
            own = copy.copy(task)
            own.masker = policy.masker
            subjects.append(Subject(policy.name, own, forms_of(own.views)))
        gradients.source, gradients.subjects = source, subjects
        return gradients, collect(gradients, subjects, source, np.arange(4), draws, 1)

    return run


@pytest.fixture(scope="module")
def labelled(tmp_path_factory):
    """A dataset of 120 texts with labels."""
    folder = tmp_path_factory.mktemp("labelled")
    lines = [f"{label}\tthe function returns a list of {label} values when its argument is {i}" for i in range(60)
             for label in ("good", "bad")]  # fmt: skip
    (folder / "train.tsv").write_text("label\ttext\n" + "\n".join(lines) + "\n")
    files = ["--train", str(folder / "train.tsv"), "--valid", str(folder / "train.tsv"), "--out", str(folder / "data")]
    assert preprocess.main([*files, "--vocab-size", "300", "--workers", "0"]) == 0
    return str(folder / "data")


def test_the_tables_and_the_page(trained, tmp_path, capsys):
    page = tmp_path / "pages" / "variance.html"
    assert main(["--from", trained, "--from", trained, *FEW, "--html", str(page)]) == 0
    out = capsys.readouterr().out
    for wanted in (
        "uniform",
        "whole_word",
        "span",
        "fully_explored",
        "independent",
        "group",
        "whole, a pass",
        "theory",
        str(page),
    ):
        assert wanted in out
    text = page.read_text()
    assert "<svg" in text and "Over training" in text and "<script" not in text


def test_histograms_for_tensorboard(trained, tmp_path, capsys):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder = tmp_path / "board"
    (found,) = asked(capsys, "--from", trained, "--masker", "uniform", "--masker", "fully_explored masks=3")
    words = ["--from", trained, *FEW, "--masker", "uniform", "--masker", "fully_explored masks=3"]
    assert main([*words, "--tensorboard", str(folder)]) == 0
    assert f"tensorboard --logdir {folder}" in capsys.readouterr().out
    board = EventAccumulator(str(folder)).Reload()
    (histogram,) = board.Histograms("variance of a pass, rows/fully_explored masks=3")
    (scalar,) = board.Scalars("variance of a pass/fully_explored masks=3")
    rows = histogram.histogram_value
    assert histogram.step == scalar.step == found["step"] and rows.num == 6
    assert rows.sum / rows.num == pytest.approx(scalar.value, rel=1e-6) == found["policies"][1]["mask_pass"][0]
    (folder / "file").touch()
    capsys.readouterr()
    with pytest.raises(StorageError, match="cannot be written: Not a directory"):
        main([*words, "--tensorboard", str(folder / "file")])
    assert not capsys.readouterr().out  # it was tried before the work


def test_figures(trained, capsys):
    words = ["--from", trained, "--masker", "uniform", "--masker", "fully_explored masks=3"]
    (found,) = asked(capsys, *words)
    uniform, explored = found["policies"]
    assert uniform["mask_pass"] == uniform["independent"] == uniform["whole_pass"] == [1, 1, 1]
    assert uniform["bias"] == [0, 0, 0]
    assert explored["passes"] == 3 and explored["independent"][0] < 1
    for name in ("masks", "rows"):
        groups = [figures[name] for figures in uniform["by_group"].values()]
        assert sum(values[0] for values in groups) == pytest.approx(uniform[name][0])
        assert all(low < value < high for value, low, high in groups)
    masks, rows = ([one[name][0] for one in (uniform, explored)] for name in ("masks", "rows"))
    assert explored["whole_pass"][0] == pytest.approx(3 * (masks[1] + rows[1]) / (masks[0] + rows[0]))
    assert explored["share"][0] == pytest.approx(masks[1] / (masks[1] + rows[1]))
    assert found["distances"][0]["correlation"][0] == 1 and found["distances"][0]["theory"] == 1
    assert asked(capsys, *words) == [found]  # nothing of it is left to chance


def test_a_partition_that_never_changes_has_no_variance(measured):
    gradients, found = measured("uniform", "fully_explored masks=4 partition=contiguous", "fully_explored masks=4")
    uniform, contiguous, explored = summarised(found, gradients.names)
    uniform, contiguous, explored = (one.figures.masks[0] for one in (uniform, contiguous, explored))
    assert abs(contiguous) < 1e-6 * uniform and 0 < explored < uniform / 4


def test_what_is_kept_of_a_row_is_of_its_gradients(measured):
    """The means of sums and counts of each row, and their covariances, group by group."""
    gradients, found = measured("uniform", "fully_explored masks=3")
    for number, (subject, sums) in enumerate(zip(gradients.subjects, found, strict=True)):
        for row in range(4):
            rows = gradients.source[np.array([row])]
            made = draws_of(subject.task.masker, rows, 3, 1, number)
            out = torch.empty(3, subject.task.views, 1, gradients.size)
            counts = np.stack([gradients.of(rows, subject.task, d, o) for d, o in zip(made, out, strict=True)])
            whole, counts = out.sum((1, 2)).double().numpy(), counts.sum((1, 2))
            assert sums.counts[row, 0] == counts.mean()
            assert sums.count_covariances[row, 0, 0, 0] == pytest.approx(counts.var(ddof=1))
            for group, place in enumerate(gradients.slices.values()):
                away = whole[:, place] - whole[:, place].mean(0)
                rounded = 1e-6 * np.sum(whole[:, place] ** 2)  # the products of fp32
                assert sums.covariances[group, row, 0, 0, 0] == pytest.approx(
                    np.sum(away**2) / 2, rel=1e-3, abs=rounded
                )
                if gradients.names[group] not in gradients.sketches:
                    assert sums.means[group][row, 0] == pytest.approx(whole[:, place].mean(0), rel=1e-3, abs=1e-6)
                    crossed = (counts - counts.mean()) @ away / 2
                    assert sums.cross[group][row, 0, 0, 0] == pytest.approx(crossed, rel=1e-3, abs=1e-5)


def test_gradients_are_those_of_training(measured, trained, data):
    """The sums of the views of an update are those of the batch that training sees."""
    gradients, _ = measured("uniform")
    loaded = load(trained)
    task = loaded.task()  # masked tokens are replaced in several ways, each view in its own
    rows = RowSource(Dataset.open(data).split("train"), loaded.vocab, 32, "complete", ())[np.array([2])]
    task.masker, rng = read_policies(["fully_explored masks=3"], loaded.vocab)[0].masker, RowRng(1, 1, rows.ids)
    batch = task.make_batch(rows, rng).map(torch.from_numpy)
    gradients.objective.zero_grad()
    gradients.objective(batch)["mlm"].backward()
    expected = torch.cat([p.grad.view(-1) for group in gradients.groups.values() for p in group])
    vectors = torch.empty(3, 1, gradients.size)
    counts = gradients.of(rows, task, rng, vectors)
    assert counts.sum() == rows.maskable.sum() == len(batch.targets["mlm"])
    torch.testing.assert_close(vectors.sum((0, 1)), expected, rtol=1e-4, atol=1e-5)


def test_joint_models_are_measured_by_both_of_their_losses(labelled, tmp_path, tiny, capsys):
    run = str(tmp_path / "run")
    options = ["--task", "joint_mlm", "--task.random_share", "0.2", "--criterion.label_weight", "0.5"]
    assert train.main(["--data", labelled, "--run", run, *options, *tiny]) == 0
    (found,) = asked(capsys, "--from", run, "--masker", "uniform", "--masker", "fully_explored masks=3")
    uniform, explored = found["policies"]
    assert found["about"].endswith("loss of joint_mlm: mlm + 0.5 pseudo")
    assert explored["targets"] - 1 > 2 * (uniform["targets"] - 1) and uniform["targets"] < 1 + 32 * 0.16
    texts = Examples(Dataset.open(labelled).split("train"), load(run).vocab, 32)  # a row each, as in training
    tokens = texts.lengths[spread(len(texts), 6)].sum()
    assert len(texts) == 120 and f"split train: 6 rows, {tokens} tokens, " in found["about"]
    assert explored["independent"][0] < 1


def test_what_is_frozen_has_no_gradient(data, tiny, tmp_path, capsys):
    run = str(tmp_path / "run")
    assert train.main(["--data", data, "--run", run, *tiny, "--optim.freeze", "0"]) == 0
    (found,) = asked(capsys, "--from", run, "--masker", "uniform")
    assert "embeddings" not in found["policies"][0]["by_group"] and "layers 0" in found["policies"][0]["by_group"]


def test_a_run_without_masks_is_refused(labelled, tmp_path, tiny, capsys):
    run = str(tmp_path / "run")
    for options in (["classification"], ["joint_mlm", "--task.mlm", "false"]):
        assert train.main(["--data", labelled, "--run", f"{run}-{options[0]}", *tiny, "--task", *options]) == 0
        capsys.readouterr()
        assert front.run(main, ["--from", f"{run}-{options[0]}"]) == 4
        err = capsys.readouterr().err
        assert f"was trained for {options[0]} without masks; expected a task that masks tokens" in err


def test_a_variant_is_measured_on_rows_like_those_it_was_trained_on(data, tiny, tmp_path):
    TASKS.variant("often_masked", of="masked_lm", mask_share=0.9)
    run = str(tmp_path / "run")
    assert train.main(["--data", data, "--run", run, "--task", "often_masked", *tiny]) == 0
    loaded = load(run)
    rows = RowSource(Dataset.open(data).split("train"), loaded.vocab, loaded.settings.data.length, "complete", ())
    tokens = rows.lengths[spread(len(rows), 4)].sum()
    assert f"split train: 4 rows, {tokens} tokens" in variance(run, ["uniform"], rows=4, draws=2).about


def test_sketches_say_nearly_the_same(measured):
    _, exact = measured("uniform")
    _, short = measured("uniform", project=2048)
    assert Added.of(short[0]).masks().mean() == pytest.approx(Added.of(exact[0]).masks().mean(), rel=0.1)


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ([], 2, "--from: no model is named; add --from RUN"),
        (["--from", "nowhere"], 4, "nowhere"),
        (["--from", "RUN", "--draws", "1"], 2, "--draws: is 1; expected 2 or more"),
        (["--from", "RUN", "--rows", "1"], 2, "--rows: is 1; expected 2 or more"),
        (["--from", "RUN", "--masker", "spam"], 2, "unknown masker 'spam'"),
        (["--from", "RUN", "--split", "dev"], 3, "dev"),
    ],
)
def test_wrong_command_lines(words, code, message, trained, capsys):
    assert front.run(main, [trained if word == "RUN" else word for word in words]) == code
    err = capsys.readouterr().err
    assert message in err and err.count("\n") == 1 and "Traceback" not in err


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is told in kilobytes on Linux alone")
def test_memory_does_not_grow_with_the_rows(data, tiny, tmp_path):
    """Of each row 10 gradients are made: were they kept, those of twelve more rows would show."""
    run = str(tmp_path / "run")
    wide = ["--model.width", "256", "--model.layers", "1", "--train.steps", "1"]
    assert train.main(["--data", data, "--run", run, *tiny, *wide]) == 0
    weights = sum(weight.numel() for weight in load(run).weights.values())
    program = (
        "import resource, sys\nfrom taskmask.analysis.variance.measure import variance\n"
        "variance(sys.argv[1], ['uniform'], rows=int(sys.argv[2]), draws=2)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    )
    few, many = (
        int(subprocess.run([sys.executable, "-c", program, run, rows], check=True, capture_output=True).stdout) * 1024
        for rows in ("2", "14")
    )
    kept = 12 * 2 * 5 * 4 * weights
    assert kept > 400e6 and many - few < 0.2 * kept


def test_gradients_for_which_there_is_no_room_are_refused_with_what_to_do(trained, capsys):
    assert front.run(main, ["--from", trained, "--draws", "100000000"]) == 7
    err = capsys.readouterr().err
    assert "not enough memory for 700,000,000 gradients of " in err and "shorten them with --project 4096" in err
    assert err.count("\n") == 1


def test_it_shows_itself_in_notebooks(trained):
    seen = variance(trained, ["uniform"], rows=3, draws=2)
    assert "<iframe" in seen._repr_html_()
    with pytest.raises(ConfigError, match="--rows: is 0"):
        variance(trained, rows=0)
