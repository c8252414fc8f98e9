"""The laws of everything that is registered: it builds, is documented, stands in --help, and its settings come back."""

import dataclasses
import io
import json
import shlex

import numpy as np
import pytest
import torch
from task_data_help import question_columns, ragged, tagged_columns, text_columns, write

from taskmask import config
from taskmask.config import settings
from taskmask.config.settings import Settings
from taskmask.data.batch import TokenBatch
from taskmask.data.dataset import Column, Dataset
from taskmask.data.rng import RowRng
from taskmask.errors import ConfigError
from taskmask.maskers.base import build_masker
from taskmask.modules.heads_spec import HeadSpec
from taskmask.registry import CRITERIA, MASKERS, MODELS, REGISTRIES, TASKS
from taskmask.tokenizer.tokenizer import Vocabulary, train_vocabulary
from taskmask.training.build import build_data, build_objective
from taskmask.training.eval_loop import Found, metrics_of
from taskmask_cli import main as front
from taskmask_cli import train

EVERY = [(kind, name) for kind, registry in REGISTRIES.items() for name in registry.names()]
every_component = pytest.mark.parametrize(("kind", "name"), EVERY)
LENGTH = 40


@pytest.fixture(scope="module")
def vocab():
    return Vocabulary(train_vocabulary(["the quick brown foxes jump over the lazy dogs"] * 20, 290, "bpe"))


@pytest.fixture(scope="module")
def rows(vocab):
    """Two rows of different lengths."""
    contents = vocab.encode(["the quick foxes", "the lazy dogs jump over the foxes"])
    tokens = np.full((2, LENGTH), vocab.pad)
    for row, content in zip(tokens, contents, strict=True):
        row[: len(content) + 2] = [vocab.bos, *content, vocab.eos]
    return TokenBatch(tokens, (tokens != vocab.pad).sum(axis=1), np.array([3, 4]), vocab)


def options_of(kind, name):
    entry = REGISTRIES[kind].get(name)
    return entry.config(**entry.preset)


def test_every_registry_is_here():
    assert {kind for kind, _ in EVERY} == {"task", "model", "criterion", "masker"} == set(REGISTRIES)


@every_component
def test_it_is_documented_and_its_options_are_frozen(kind, name):
    entry = REGISTRIES[kind].get(name)
    assert "**Source:**" in entry.load().__doc__ and entry.headline and entry.doc
    file, _, line = entry.place.rpartition(":")
    assert file.endswith(".py") and int(line) > 0
    with pytest.raises(dataclasses.FrozenInstanceError):
        options_of(kind, name).anything = 1


@pytest.mark.parametrize("name", MODELS.names())
def test_every_model_builds_and_answers(name, vocab):
    """In its own size, but on a device where tensors have no content."""
    with torch.device("meta"):
        model = MODELS.get(name).load()(
            options_of("model", name), vocab_size=vocab.size, max_length=LENGTH, heads={"mlm": HeadSpec("lm")}
        )
        tokens, positions = torch.zeros(2, LENGTH, dtype=torch.int64), torch.zeros(3, dtype=torch.int64)
        more = {"target": tokens[:, :9]} if model.reads_target else {}
        outputs = model.eval()(tokens, positions={"mlm": positions}, **more)
    assert {name: output.shape for name, output in outputs.items()} == {"mlm": (3, vocab.size)}


@pytest.mark.parametrize("name", MASKERS.names())
def test_every_masker_builds_and_chooses(name, vocab, rows):
    masker = build_masker(name, options_of("masker", name), vocab)
    columns = {column: RowRng(0, 0, rows.ids).uniform(column, LENGTH) for column in masker.columns}
    rows = dataclasses.replace(rows, columns=columns)
    masks = [masker(rows, RowRng(seed, 1, rows.ids)) for seed in range(20)]
    assert all(mask.shape == (masker.views, *rows.shape) for mask in masks) and np.any(masks)


@pytest.mark.parametrize("name", CRITERIA.names())
def test_every_criterion_builds(name):
    criterion = CRITERIA.get(name).load()(options_of("criterion", name))
    assert criterion.weights and all(weight > 0 for weight in criterion.weights.values())


def row_columns(vocab, column, values):
    """Four texts with a value each."""
    texts = [
        np.append(ids, vocab.eos) for ids in vocab.encode(["the quick foxes", "the lazy dogs jump", "dogs", "over"])
    ]
    return {"tokens": (Column("ragged", vocab.token_dtype), ragged(texts)), "label": (column, np.array(values))}


@pytest.fixture(scope="module")
def datasets(vocab, tmp_path_factory):
    """A dataset for every task."""
    tags = ["O", "B-ANIMAL"]
    sentences = [(["the", "foxes"], tags), (["dogs", "jump", "over"], ["B-ANIMAL", "O", "O"])]
    questions = [
        ("the quick brown foxes jump", "what jump", ["foxes"]),
        ("the lazy dogs", "the", ["lazy dogs", "dogs"]),
    ]
    columns = {
        "masked_lm": row_columns(vocab, Column("row", "int32"), [0, 1, 0, 1]),
        "classification": row_columns(vocab, Column("row", "int32"), [0, 1, 0, 1]),
        "joint_mlm": row_columns(vocab, Column("row", "int32"), [0, 1, -1, 1]),
        "word_importance": row_columns(vocab, Column("row", "int32"), [0, 1, 0, 1]),
        "meta_masking": row_columns(vocab, Column("row", "int32"), [0, 1, 0, 1]),
        "regression": row_columns(vocab, Column("row", "float32"), [0.5, 1, 2, -1]),
        "tagging": tagged_columns(vocab, sentences, tags),
        "span": question_columns(vocab, questions),
        "denoising": row_columns(vocab, Column("row", "int32"), [0, 1, 0, 1]),
        "seq2seq": text_columns(vocab, [("the quick foxes jump", ["dogs", "the dogs"], ["dogs", "over"])] * 3),
    }
    labels = {"classification": {"label": ["bad", "good"]}, "tagging": {"tags": tags}}
    labels["joint_mlm"] = labels["classification"]
    labels["word_importance"] = labels["meta_masking"] = labels["classification"]
    for name in [name for name in TASKS.names() if TASKS.get(name).of == "joint_mlm"]:
        logits = (Column("row", "float16", width=2), np.zeros((4, 2), np.float16))
        columns[name] = {**columns["joint_mlm"], "pseudo": columns["joint_mlm"]["label"], "logits": logits}
        labels[name] = {"pseudo": ["bad", "good"]}
    folder = tmp_path_factory.mktemp("datasets")
    for name, split in columns.items():
        write(folder / name, vocab, {"train": split}, labels.get(name))
    return folder


def settings_for(name, datasets):
    """Settings of a task, with a small model of the kind that it needs."""
    small = {"layers": 1, "width": 16, "heads": 2}
    return Settings.of(
        task=name,
        data={"path": str(datasets / name), "length": 120},
        model={"name": TASKS.get(name).load().default_model, **small},
    )


MEASURED_BY_BATCH = {"meta_masking"}  # an inner step is one of many rows: no row has a loss of its own
UNMASKED = {"pseudo_one_hot", "pseudo_v4_kl"}  # they learn no masks, and fill none


@pytest.mark.parametrize("name", TASKS.names())
def test_every_task_trains_with_its_own_masker_and_criterion(name, datasets):
    chosen = settings_for(name, datasets)
    parts = build_data(chosen, ["train"])
    task, source = parts.task, parts.sources["train"]
    rows = source[np.arange(len(source))]
    batch = task.make_batch(rows, RowRng(1, 1, rows.ids)).map(torch.from_numpy)
    objective = build_objective(chosen, task).eval()  # so that losses can be compared
    sums, counts = objective(batch), objective.criterion.count(batch)
    weights = objective.criterion.weights
    assert set(counts) == set(weights) <= set(sums) and batch.num_tokens == task.views * rows.lengths.sum()
    assert all(sums[name].isfinite() and sums[name].requires_grad for name in weights)
    assert all(counts.values()) == (name not in UNMASKED) and any(counts.values())
    totals = {**{k: v.item() for k, v in sums.items()}, **{f"{k}_count": v for k, v in counts.items()}}
    assert "loss" in task.metrics(totals) and task.direction("loss") == "min"
    with torch.no_grad():
        outputs = objective.model(**batch.inputs)
        answers = task.answers(outputs, batch, objective.criterion.each(outputs, batch))
    metrics = metrics_of(task, Found(totals, answers), source)
    assert {"loss", task.best} <= set(metrics) and all(np.isfinite(value) for value in metrics.values())
    if name not in MEASURED_BY_BATCH:
        measure = task.measure(answers, source)
        assert len({len(values) for values in answers.values()}) == 1 and set(answers["ids"]) <= set(rows.ids.tolist())
        assert metrics["loss"] == pytest.approx(measure.value()["loss"], rel=1e-4) and measure.size
    lines = task.show(batch.map(np.asarray))
    assert len(lines) == len(task.show(batch.map(np.asarray), outputs)) == len(rows.ids) * task.views and all(lines)


@pytest.mark.parametrize("name", TASKS.names())
def test_every_task_says_what_it_annotates_and_predicts(name, datasets):
    chosen = settings_for(name, datasets)
    task = build_data(chosen, ["train"]).task
    model = build_objective(chosen, task).eval().model
    dataset = Dataset.open(chosen.data.path)
    source = task.source(dataset.split("train"), chosen.data, dataset, False)
    rows = source[np.arange(len(source))]
    columns, done = task.annotations(), []

    def ask(batch):
        given = batch.map(torch.from_numpy)
        return model(**given.inputs), given

    record = {field: "the <mask> dogs jump" for field in task.fields}
    with torch.no_grad():
        found = task.annotate_rows(ask, source, rows.ids, tuple(columns), 300, done.append) if columns else {}
    assert set(found) == set(columns)
    for what, column in columns.items():
        of_rows = (len(rows.ids), column.width)[: 1 + (column.width > 1)]
        assert np.stack(found[what]).shape == (rows.shape if column.kind == "aligned" else of_rows)
    assert not columns or sum(done) == rows.lengths.sum()
    if name in UNMASKED:
        with pytest.raises(ConfigError, match="fills no masks"):
            task.predict(model, [record], 3, 120)
        return
    with torch.no_grad():
        answers = task.predict(model, [record, record], 3, 120)
    assert len(answers) == 2 and answers[0] == answers[1]
    assert json.loads(json.dumps(answers[0], allow_nan=False)) == answers[0] and any(task.say(record, answers[0]))


ADVISED = [*((name, name, ()) for name in TASKS.names()), ("joint_mlm", "tagging", ("label", "tags"))]
ADVISED += [("pseudo_one_hot", "tagging", ("label", "tags")), ("span", "span", ("question", ""))]


@pytest.mark.parametrize(("name", "data", "option"), ADVISED)
def test_what_train_advises_works(name, data, option, datasets, tmp_path, capsys, monkeypatch):
    """Every command that `taskmask-train` prints at its end is run; only the data to fine-tune on is a placeholder."""
    run = tmp_path / "my run"
    small = ["--model.layers", "1", "--model.width", "16", "--model.heads", "2", "--data.length", "120"]
    words = ["--data", str(datasets / data), "--run", str(run), "--task", name, *small, "--train.steps", "1"]
    words += ["--train.max_tokens", "500", *([f"--task.{option[0]}", option[1]] if option else [])]
    task = TASKS.get(name).load()
    words += ["--model", task.default_model, *(["--model.decoder_layers", "1"] if task.gives_target else [])]
    assert train.main([*words, "--run.tensorboard", "false"]) == 0
    advice = capsys.readouterr().err.partition("next:\n")[2].splitlines()
    assert len(advice) == 2
    for line in advice:
        given, _, command = line.rpartition(" | ")
        program, *arguments = shlex.split(command)
        if program == "taskmask-train":  # the next step of labels alone
            assert name in UNMASKED and arguments[5] == ("tagging" if data == "tagging" else "classification")
            continue
        monkeypatch.setattr("sys.stdin", io.StringIO(shlex.split(given)[-1] if given else ""))
        assert program == "taskmask" and front.main(arguments) == 0, line
        assert capsys.readouterr().out


def parse(*words):
    return settings.parse(config.read_flags([str(word) for word in words]))


@every_component
def test_it_survives_the_round_trip(kind, name, tmp_path):
    chosen = parse(f"--{kind}", name, "--run", "r", "--train.ema", "0.1")
    (tmp_path / "settings.json").write_text(json.dumps(chosen.to_dict(), allow_nan=False))
    assert Settings.of(chosen.to_dict()) == chosen == parse("--config", tmp_path / "settings.json")
    assert Settings.of(chosen.to_dict()).to_dict() == chosen.to_dict()
    assert getattr(chosen, kind).name == name and getattr(chosen, kind).options == options_of(kind, name)


def changed_values(cls, preset):
    """A value other than the default for every option that has an easy one."""
    for name, (kind, default, _) in config.fields_of(cls).items():
        value = preset.get(name, default)
        if kind is bool:
            yield name, not value
        elif kind in (int, float) and not isinstance(value, bool):
            yield name, kind(value * 2) if value else kind(1)
        elif isinstance(value, str) and config.type_name(kind).count("|"):
            yield name, config.type_name(kind).split("|")[-1]


@every_component
def test_every_option_goes_through_flags_and_files(kind, name):
    entry = REGISTRIES[kind].get(name)
    for field, value in changed_values(entry.config, entry.preset):
        words = [f"--{kind}", name, f"--{kind}.{field}", str(value).lower() if isinstance(value, bool) else str(value)]
        try:
            made = parse(*words)
        except ConfigError as error:  # out of its range, and said so
            assert f"{kind}.{field}: " in str(error)
            continue
        assert getattr(getattr(made, kind).options, field) == value
        assert Settings.of(made.to_dict()) == made


@every_component
def test_it_is_in_help_with_its_options(kind, name, capsys):
    entry = REGISTRIES[kind].get(name)
    assert train.main(["--help", f"--{kind}", name]) == 0
    text = capsys.readouterr().out
    lines = text.replace("\n" + " " * 42, " ").splitlines()  # broken lines joined
    (choices,) = [line for line in lines if line.startswith(f"  --{kind} NAME ")]
    assert choices.endswith(f"[{name}]") and all(other in choices for other in REGISTRIES[kind].names())
    assert f"\n{kind} {name}: {entry.headline}\n" in text
    for field, (_, _, help) in config.fields_of(entry.config).items():
        assert f"  --{kind}.{field} " in text and help
    assert [line for line in text.partition("\nexamples:")[0].splitlines() if len(line) > 120] == []
