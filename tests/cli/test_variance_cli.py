"""taskmask variance, as its user meets it."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch

from taskmask import load
from taskmask.analysis.gradients import Gradients, collect, draws_of, windows
from taskmask.analysis.inspect import read_policies, spread
from taskmask.analysis.variance import summarised, variance
from taskmask.data.columns import Dataset
from taskmask.data.draws import Draw
from taskmask.data.source import Examples, RowSource
from taskmask.errors import ConfigError
from taskmask.registry import TASKS
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
        gradients = Gradients(loaded.objective(loaded.settings, task), task, torch.device("cpu"), project)
        policies = [*read_policies(texts, loaded.vocab), windows(0.15, loaded.vocab)]
        gradients.source = source
        return gradients, collect(gradients, policies, source, np.arange(4), draws, 1)

    return run


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
    with pytest.raises(FileExistsError):
        main([*words, "--tensorboard", str(folder / "file")])
    assert "independent" in capsys.readouterr().out  # what was measured is not lost


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
    uniform, contiguous, explored = summarised(found[:-1], gradients.names)
    uniform, contiguous, explored = (one.figures.masks[0] for one in (uniform, contiguous, explored))
    assert abs(contiguous) < 1e-6 * uniform and 0 < explored < uniform / 4


def test_what_is_kept_of_a_row_is_of_its_gradients(measured):
    """Products of mean gradients with the baseline's, and their distances from the mean over rows, group by group."""
    texts = ("uniform", "fully_explored masks=3")
    gradients, found = measured(*texts)
    assert gradients.names[0] == "embeddings" and {"layers 0", "heads"} <= set(gradients.names)
    policies, means = read_policies(texts, gradients.task.vocab), []
    for number, policy in enumerate(policies):
        means.append([])
        for row in range(4):
            rows = gradients.source[np.array([row])]
            made, out = draws_of(policy.masker, rows, 3, 1, number), torch.empty(3, gradients.size)
            of_draws = []
            for draw in made:
                shares = gradients.of(rows, policy.masker, draw, out).sum(1)
                of_draws.append(torch.as_tensor(shares / shares.sum()).float() @ out[: len(shares)])
            means[-1].append(torch.stack(of_draws).mean(0))
    for number, one in enumerate(found[:2]):
        for group, place in enumerate(gradients.slices.values()):
            ours, first = (torch.stack(of)[:, place].double() for of in (means[number], means[0]))
            assert one.with_baseline[group] == pytest.approx((ours * first).sum(1).numpy(), rel=1e-3, abs=1e-9)
            if gradients.names[group] not in gradients.sketches:
                away = ((ours - ours.mean(0)) ** 2).sum(1)
                assert one.away[group] == pytest.approx(away.numpy(), rel=1e-3, abs=1e-9)


def test_gradients_are_those_of_training(measured, trained, data):
    """The views of an update, each weighed by its targets, add up to the gradient of the batch that training sees."""
    gradients, _ = measured("uniform")
    loaded = load(trained)
    task = gradients.task
    task.config = loaded.settings.task.options  # masked tokens are replaced in several ways, each view in its own
    rows = RowSource(Dataset.open(data).split("train"), loaded.vocab, 32, "complete", ())[np.array([2])]
    task.masker, draw = read_policies(["fully_explored masks=3"], loaded.vocab)[0].masker, Draw(1, 1, rows.ids)
    batch = task.make_batch(rows, draw).map(torch.from_numpy)
    gradients.objective.zero_grad()
    (gradients.objective(batch)["mlm"] / len(batch.targets["mlm"])).backward()
    expected = torch.cat([p.grad.view(-1) for group in gradients.groups.values() for p in group])
    vectors = torch.empty(3, gradients.size)
    masks = gradients.of(rows, task.masker, draw, vectors)
    assert (masks.sum(0) == rows.maskable[0]).all()
    shares = torch.as_tensor(masks.sum(1) / masks.sum(), dtype=torch.float32)
    torch.testing.assert_close(shares @ vectors, expected, rtol=1e-4, atol=1e-6)


def test_joint_models_are_measured_by_their_masked_tokens_alone(tmp_path, tiny, capsys):
    lines = [f"{label}\tthe function returns a list of {label} values when its argument is {i}" for i in range(60)
             for label in ("good", "bad")]  # fmt: skip
    (tmp_path / "train.tsv").write_text("label\ttext\n" + "\n".join(lines) + "\n")
    data, run = str(tmp_path / "data"), str(tmp_path / "run")
    words = ["--train", str(tmp_path / "train.tsv"), "--valid", str(tmp_path / "train.tsv"), "--out", data]
    assert preprocess.main([*words, "--vocab-size", "300", "--workers", "0"]) == 0
    assert train.main(["--data", data, "--run", run, "--task", "joint_mlm", *tiny, "--task.random_share", "0.2"]) == 0
    (found,) = asked(capsys, "--from", run, "--masker", "uniform", "--masker", "fully_explored masks=3")
    uniform, explored = found["policies"]
    assert found["about"].endswith("of joint_mlm masked language modelling alone")
    assert explored["targets"] > 2 * uniform["targets"] and uniform["targets"] < 32 * 0.16
    texts = Examples(Dataset.open(data).split("train"), load(run).vocab, 32)  # a row each, as in training
    tokens = texts.lengths[spread(len(texts), 6)].sum()
    assert len(texts) == 120 and f"split train: 6 rows, {tokens} tokens, " in found["about"]
    assert explored["independent"][0] < 1


def test_a_variant_is_measured_on_rows_like_those_it_was_trained_on(data, tiny, tmp_path):
    TASKS.variant("often_masked", of="masked_lm", mask_share=0.9)
    run = str(tmp_path / "run")
    assert train.main(["--data", data, "--run", run, "--task", "often_masked", *tiny]) == 0
    loaded = load(run)
    rows = RowSource(Dataset.open(data).split("train"), loaded.vocab, loaded.settings.data.length, "complete", ())
    tokens = rows.lengths[spread(len(rows), 4)].sum()
    assert f"split train: 4 rows, {tokens} tokens" in variance(run, ["uniform"], rows=4, draws=2).about


def test_sketches_say_nearly_the_same(measured):
    gradients, exact = measured("uniform", "fully_explored masks=3")
    _, short = measured("uniform", "fully_explored masks=3", project=2048)
    for one, other in zip(exact, short, strict=True):
        diagonal = np.einsum("grdkdk->grdk", one.products.sum(0)[None])
        error = abs(one.products.sum(0) - other.products.sum(0)).max()
        assert error < 0.15 * diagonal.max()
    uniform, expected = (summarised(found[:-1], gradients.names)[0].figures.masks[0] for found in (short, exact))
    assert uniform == pytest.approx(expected, rel=0.3)


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
        "import resource, sys\nfrom taskmask.analysis.variance import variance\n"
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
