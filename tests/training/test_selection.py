"""Labels that are kept: the sure ones, as many of each class, none of a text that is to be tested."""

import itertools
import json
import re
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from training_help import make

from taskmask.checkpoints import checkpoint
from taskmask.checkpoints.find import find
from taskmask.config.settings import Settings
from taskmask.data.add_column import add_column
from taskmask.data.dataset import Column, Dataset
from taskmask.errors import ConfigError, DataError
from taskmask.inference import annotate as module
from taskmask.inference import loaded_model
from taskmask.inference.label_selection import Selection, balance, select, shares, texts_of, texts_to_test
from taskmask.training.build import build_data
from taskmask.training.train import train
from taskmask_cli.annotate import main
from taskmask_cli.preprocess import main as preprocess
from taskmask_cli.train import main as train_command


def annotated(model, copy, *words):
    columns = ["--column", "guess=label", "sure=confidence"]
    assert main(["--data", str(copy), "--from", model, "--split", "train", *columns, *words]) == 0
    split = Dataset.open(copy).split("train")
    Dataset.open(copy).verify()
    return np.asarray(split.values("guess")), np.asarray(split.values("sure"), np.float64)


def test_only_the_sure_ones(model, copy, capsys):
    before, sure = annotated(model, copy)
    limit = float(np.median(sure))
    after, _ = annotated(model, copy, "--overwrite", "--confident", str(limit))
    assert (after == np.where(sure >= limit, before, -1)).all() and (after < 0).any() and (after >= 0).any()
    assert f"{(after >= 0).sum()} of {len(after)} labels kept" in capsys.readouterr().out


def test_what_lost_its_label_is_left_out_of_what_learns_from_the_column(model, copy, tmp_path, capsys):
    """A model is fine-tuned on the labels that were kept, and measured on rows with one."""
    _, sure = annotated(model, copy)
    limit = str(float(np.median(sure)))
    columns = ["--column", "guess=label", "sure=confidence", "--confident", limit, "--overwrite"]
    assert main(["--data", str(copy), "--from", model, *columns]) == 0
    dataset = Dataset.open(copy)
    for task in ("classification", "meta_masking"):
        chosen = make(copy, tmp_path / task, task={"name": task, "label": "guess"}, train={"steps": 2})
        parts = build_data(chosen, ["train", "valid"])
        for split, source in parts.sources.items():
            labels = np.asarray(dataset.split(split).values("guess"))
            rows = source[np.arange(len(source))]
            assert source.stored.tolist() == np.flatnonzero(labels >= 0).tolist() and (labels < 0).any()
            assert rows.columns["guess"].tolist() == labels[labels >= 0].tolist()
            assert (
                f"split {split}: {(labels < 0).sum()} of {len(labels)} rows have no label in column 'guess'"
                in source.notes[0]
            )
        train_labels = np.asarray(dataset.split("train").values("guess"))
        assert parts.task.class_counts.sum() == (train_labels >= 0).sum()
    assert train(make(copy, tmp_path / "run", task={"name": "classification", "label": "guess"},
                      train={"steps": 2, "valid_every": 2})).step == 2  # fmt: skip
    assert main(["--data", str(copy), "--from", model, *columns[:3], "--confident", "1", "--overwrite"]) == 0
    with pytest.raises(DataError, match=r"no row has a label in column 'guess'.*task\.label"):
        build_data(chosen, ["train"])


def test_as_many_of_each_class(model, copy, capsys):
    before, sure = annotated(model, copy)
    after, _ = annotated(model, copy, "--overwrite", "--balance")
    kept = f"{(after >= 0).sum()} of {len(after)} labels kept, {np.bincount(after[after >= 0]).max()} of each class, "
    assert kept + "as the scarcest has no more" in capsys.readouterr().out
    before, sure, after = (values[before >= 0] for values in (before, sure, after))  # of texts that are not tested
    counts = np.bincount(after[after >= 0])
    assert (
        len(set(counts[counts > 0].tolist())) == 1
        and counts.max() == np.bincount(before)[np.bincount(before) > 0].min()
    )
    for number in np.unique(before):
        kept, left = sure[(before == number) & (after >= 0)], sure[(before == number) & (after < 0)]
        assert len(left) == 0 or kept.min() >= left.max()


@pytest.mark.parametrize("named", [False, True])
def test_no_text_that_is_to_be_tested(named, model, copy, labelled, capsys):
    """The model's own data is left out without a word: of its texts none in valid or test keeps a label."""
    after, _ = annotated(model, copy, *(["--leave-out", str(labelled)] if named else []))
    dataset = Dataset.open(copy)
    vocab = dataset.vocabulary()
    tested = texts_to_test([str(labelled)])
    leaked = np.array([text in tested for text in texts_of(dataset.split("train"), vocab)])
    assert leaked.any() and (after[leaked] == -1).all() and (after[~leaked] >= 0).all()
    assert f"{leaked.sum()} left out" in capsys.readouterr().out


def test_a_split_that_is_named_twice_is_written_once(model, copy, tmp_path):
    words = ["--data", str(copy), "--from", model, "--column", "guess=label", "--split", "train", "train"]
    assert main([*words, "--to-tsv", str(tmp_path / "once.tsv")]) == 0
    kept = (np.asarray(Dataset.open(copy).split("train").values("guess")) >= 0).sum()
    assert len((tmp_path / "once.tsv").read_text().splitlines()) == 1 + kept


def test_labels_become_a_file_to_be_mixed_into_fine_tuning(model, copy, labelled, tmp_path, capsys):
    """What a classic self-training learns from: the labels of people, and the sure ones of a model."""
    after, _ = annotated(model, copy, "--balance", "--to-tsv", str(tmp_path / "pseudo.tsv"))
    dataset = Dataset.open(copy)
    header, *lines = (tmp_path / "pseudo.tsv").read_text().splitlines()
    names = [dataset.labels["guess"][label] for label in after if label >= 0]
    assert header == "guess\ttext" and [line.split("\t")[0] for line in lines] == names
    said = capsys.readouterr().out
    assert f"pseudo.tsv: {len(lines)} rows" in said
    assert f"guess of train, of {len(after):,} rows: " in said and f"without a label {(after < 0).mean():.1%}" in said
    assert preprocess(["--train", str(tmp_path / "pseudo.tsv"), "--out", str(tmp_path / "mixed"), "--workers", "0",
                       "--label", "guess", "--vocab", str(copy)]) == 0  # fmt: skip
    again = Dataset.open(tmp_path / "mixed").split("train")
    old, offsets = dataset.split("train").values("tokens"), dataset.split("train").offsets("tokens")
    kept = [old[offsets[row] : offsets[row + 1]] for row in np.flatnonzero(after >= 0)]
    assert np.array_equal(again.values("tokens"), np.concatenate(kept))


def test_only_what_is_to_be_learned_becomes_a_file(model, copy, tmp_path, capsys):
    """Without --split all splits are annotated; what is to be tested must not get into a file to learn from."""
    words = ["--data", str(copy), "--from", model, "--column", "guess=label", "--overwrite"]
    file = tmp_path / "pseudo.tsv"
    for more, split in ([], "train"), (["--split", "valid"], "valid"):
        assert main([*words, *more, "--to-tsv", str(file)]) == 0
        labels = np.asarray(Dataset.open(copy).split(split).values("guess"))
        rows, said = int((labels >= 0).sum()), capsys.readouterr().out
        assert rows < len(labels) and (rows > 0) == (split == "train")  # without what the model's own data tests on
        assert len(file.read_text().splitlines()) == rows + 1 and f"pseudo.tsv: {rows} rows of {split}\n" in said
        assert re.search(r"\d rows, [\d,]+ tokens, \d+:\d\d \([\d,]+ tokens a second\)\n", said)


def test_both_texts_of_a_pair_become_a_file(labelled, copy, tmp_path):
    task = {"name": "classification", "pair": "place"}
    train(make(labelled, tmp_path / "pair", task=task, train={"steps": 2}))
    file = tmp_path / "pseudo.tsv"
    words = ["--data", str(copy), "--from", str(tmp_path / "pair"), "--column", "guess=label", "--to-tsv", str(file)]
    assert main(words) == 0
    again = ["--train", str(file), "--out", str(tmp_path / "mixed"), "--label", "guess", "--text", "text", "place"]
    assert preprocess([*again, "--workers", "0", "--vocab", str(copy)]) == 0
    old, new = (Dataset.open(path).split("train") for path in (copy, tmp_path / "mixed"))
    kept = np.flatnonzero(np.asarray(old.values("guess")) >= 0)
    for name in ("tokens", "place"):
        values, offsets = old.values(name), old.offsets(name)
        told = [values[offsets[row] : offsets[row + 1]] for row in kept]
        assert np.array_equal(np.concatenate(told), new.values(name)) and 0 < len(kept) < old.rows


@pytest.mark.parametrize("task", [["joint_mlm", "--task.mlm", "false"], ["pseudo_one_hot", "--task.label", "label"]])
def test_what_comes_after_labels_alone(task, labelled, tmp_path, capsys):
    """No mask was learned: no masker is named, and what is advised is a fine-tuning."""
    run = str(tmp_path / "run")
    words = ["--data", str(labelled), "--run", run, "--task", *task, "--train.steps", "2"]
    assert train_command([*words, "--model", "tiny", "--model.layers", "1", "--run.threads", "1"]) == 0
    said = capsys.readouterr().err
    assert f"--task classification --train.init_from {run}" in said and "<mask>" not in said and "--masker" not in said
    assert Settings.of(json.loads((tmp_path / "run" / "settings.json").read_text())).masker is None


def test_labels_of_tokens_are_chosen_alike(labelled):
    """Of tokens as of rows: the sure ones; of a text that is to be tested none."""
    dataset = Dataset.open(labelled)
    split, vocab, random = dataset.split("train"), dataset.vocabulary(), np.random.default_rng(0)
    tags, odds = random.integers(-1, 2, split.num_tokens), random.normal(size=split.num_tokens)
    tested = texts_to_test([str(labelled)])
    found, said = select(split, vocab, tags, odds, Selection(0.5, False, (str(labelled),)), tested)
    leaked = np.repeat([text in tested for text in texts_of(split, vocab)], np.diff(split.offsets("tokens")))
    kept = (tags >= 0) & (odds >= 0) & ~leaked
    assert np.array_equal(found, np.where(kept, tags, -1)) and leaked.any()
    assert f"{kept.sum():,} of {(tags >= 0).sum():,} labels kept, {(leaked & (tags >= 0)).sum():,} left out" in said


def test_shares_of_tokens(copy):
    tags = np.random.default_rng(0).integers(-1, 2, Dataset.open(copy).split("train").num_tokens)
    add_column(copy, "train", "tags", Column("aligned", "int32", of="tokens"), iter([tags]), ["O", "X"])
    dataset = Dataset.open(copy)
    is_text = ~dataset.vocabulary().is_special[dataset.split("train").values("tokens")]
    assert f"X {(tags[is_text] == 1).mean():.1%}" in shares(dataset, "train", "tags")


def test_no_label_is_seen_before_it_is_chosen(model, copy, labelled, monkeypatch):
    """A reader, or what a killed process leaves, has no label of a text that is to be tested."""
    seen = []
    original = module.ColumnsWriter.write

    def write(*words, **named):
        original(*words, **named)
        look()

    def look():
        split = Dataset.open(copy).split("train")
        seen.append(np.asarray(split.values("guess")) if "guess" in split.columns else None)

    monkeypatch.setattr(module.ColumnsWriter, "write", write)
    after, _ = annotated(model, copy)
    look()
    assert any(one is not None for one in seen) and (after < 0).any()
    assert all(one is None or np.array_equal(one, after) for one in seen)


def test_what_is_to_be_tested_is_looked_for_first(model, copy, monkeypatch):
    """Not after hours of work."""
    monkeypatch.setattr(module.Work, "compute", None)
    with pytest.raises(DataError, match="this is no dataset"):
        annotated(model, copy, "--leave-out", str(copy / "nothing"))


def test_both_texts_of_a_pair_are_what_is_tested(labelled):
    """A first text that is tested with another second one is no leak."""
    dataset = Dataset.open(labelled)
    split, vocab = dataset.split("train"), dataset.vocabulary()
    alone, both = list(texts_of(split, vocab)), list(texts_of(split, vocab, "place"))
    assert all(text.partition("\n")[0] == first for text, first in zip(both, alone, strict=True))
    tested = {f"{alone[0]}\nelsewhere", both[1]}
    found, _ = select(split, vocab, np.zeros(split.rows, int), None, Selection(), tested, "place")
    assert (found < 0).tolist() == [text == both[1] for text in both]
    tested = set(list(texts_of(split, vocab))[:1])  # of data without a second text
    found, _ = select(split, vocab, np.zeros(split.rows, int), None, Selection(), tested, "place")
    assert (found < 0).tolist() == [text == alone[0] for text in alone]


def test_where_the_models_own_data_is_gone_it_is_said(labelled, copy, tmp_path, capsys):
    shutil.copytree(labelled, tmp_path / "own")
    run = str(tmp_path / "run")
    train(make(tmp_path / "own", run, task="classification", train={"steps": 1}))
    shutil.rmtree(tmp_path / "own")
    after, _ = annotated(run, copy)
    assert "what it tests on keeps its label, unless --leave-out names it" in capsys.readouterr().out
    assert (after >= 0).all()
    (tmp_path / "own").mkdir()  # or something else is there: a folder of other things, other data
    annotated(run, copy, "--overwrite")
    assert f"the model's own data is not at {tmp_path / 'own'}, or has changed" in capsys.readouterr().out
    (tmp_path / "own").rmdir()
    line = "label\ttext\n" + "".join(f"{name}\tanother text of {name}\n" for name in ("early", "late"))
    (tmp_path / "other.tsv").write_text(line)
    words = ["--train", str(tmp_path / "other.tsv"), "--vocab", str(copy), "--out", str(tmp_path / "own")]
    assert preprocess([*words, "--workers", "0"]) == 0
    annotated(run, copy, "--overwrite")
    assert f"the model's own data is not at {tmp_path / 'own'}, or has changed" in capsys.readouterr().out
    with pytest.raises(ConfigError, match=r"--leave-out: names .*, which has the splits train; expected valid or test"):
        annotated(run, copy, "--overwrite", "--leave-out", str(tmp_path / "own"))
    after, _ = annotated(run, copy, "--overwrite", "--leave-out", str(labelled))
    assert (after < 0).any() and "keeps its label" in capsys.readouterr().out


def test_what_leaves_nothing_out_is_refused(model, copy, labelled):
    words = ["--data", str(copy), "--from", model, "--column", "guess=label", "--leave-out", str(labelled)]
    with pytest.raises(ConfigError, match="--leave-out: leaves nothing out of splits that are not learned from"):
        main([*words, "--split", "valid"])


def test_texts_are_compared_without_case_and_punctuation(labelled):
    dataset = Dataset.open(labelled)
    texts = list(texts_of(dataset.split("test"), dataset.vocabulary()))
    assert all(text == text.casefold() and text.isalnum() for text in texts) and texts


def test_balance_by_hand():
    labels, odds = np.array([0, 0, 0, 1, 1, 2]), np.array([0.5, 0.9, 0.4, 0.6, 0.7, 0.99])
    kept = np.array([True, True, True, True, True, False])
    assert balance(labels, odds, kept).tolist() == [True, True, False, True, True, False]
    assert not balance(labels, odds, np.zeros(6, bool)).any()


def test_a_class_without_a_sure_label_is_named():
    split = SimpleNamespace(name="train", rows=4)
    labels, odds = np.array([0, 0, 1, 2]), np.array([3.0, 3.0, 3.0, -3.0])
    chosen = Selection(above=0.9, balanced=True, learned=())
    kept, said = select(split, None, labels, odds, chosen, set())
    assert kept[2] == 1 and kept[3] == -1
    assert "1 of each class" in said and "none of 1 of the 3 classes, which have no sure label" in said


def test_equally_sure_labels_are_drawn_not_taken_from_the_top():
    """A row's chance is the same wherever it stands, and what is drawn depends on the seed and the row alone."""
    labels, odds = np.repeat([0, 1], [3000, 1000]), np.full(4000, 30.0)
    everything = np.ones(4000, bool)
    chosen = balance(labels, odds, everything, seed=3)
    assert chosen[3000:].all() and chosen[:3000].sum() == 1000
    thirds = chosen[:3000].reshape(3, 1000).sum(axis=1)
    assert (abs(thirds - 1000 / 3) < 4 * np.sqrt(1000 * 2 / 9)).all()  # 4 deviations of a binomial, more than there is
    assert np.array_equal(chosen, balance(labels, odds, everything, seed=3))
    assert not np.array_equal(chosen, balance(labels, odds, everything, seed=4))
    surer = np.where(np.arange(4000) % 3 == 0, 31.0, 30.0)
    assert balance(labels, surer, everything)[:3000][::3].all()  # none is drawn before one that is surer


def test_a_threshold_near_one_is_that_threshold():
    """Odds of p / (1 - p): 9999 to 1 is 0.9999, and 0.99976, which float16 took for it, is 4166 to 1."""
    assert Selection(0.9999).least_odds == pytest.approx(np.log(9999), rel=1e-12)
    assert Selection(0.5).least_odds == 0 and Selection(0).least_odds == -np.inf and Selection(1).least_odds == np.inf


@pytest.fixture(scope="module")
def too_sure(model, labelled, tmp_path_factory):
    """The classifier with its scores centred and stretched, so that in float16 hardly a confidence is below 1."""
    file = tmp_path_factory.mktemp("sure") / "sure.pt"
    state, logits = checkpoint.load(find(model)), scores(model, labelled)
    state["model"]["model.heads.label.scores.bias"] -= logits.mean(0).float()
    best = (logits - logits.mean(0)).topk(2).values
    stretch = 30 / float((best[:, 0] - best[:, 1]).max())
    for name in ("weight", "bias"):
        state["model"][f"model.heads.label.scores.{name}"] *= stretch
    checkpoint.save(file, state)
    return str(file)


def scores(model, data):
    """By their rows in train: the logits, float64 [N, C]."""
    loaded, split = loaded_model.load(model), Dataset.open(data).split("train")
    offsets, vocab = split.offsets("tokens"), Dataset.open(data).vocabulary()
    texts = [vocab.decode(split.values("tokens")[a:b]) for a, b in itertools.pairwise(offsets.tolist())]
    with torch.no_grad():
        records, length = [{"text": text} for text in texts], loaded.settings.data.length
        logits, _ = loaded.asked.scores_of(loaded.model, records, length)
    return logits.double()


def margins(logits):
    """Returns [N]: the logit of the label less the logarithm of the summed exponentials of the others."""
    top = logits.sort(-1).values
    return (top[:, -1] - top[:, :-1].logsumexp(-1)).numpy()


def test_of_answers_that_are_all_but_certain_the_surest_are_kept(too_sure, copy):
    """Float16 holds no probability between 0.99951 and 1, and float32 none between 1 - 6e-8 and 1."""
    before, sure = annotated(too_sure, copy)
    odds = margins(scores(too_sure, copy))
    assert (sure.astype(np.float16) == 1).mean() > 0.2 and (sure == 1).sum() > 5
    after, _ = annotated(too_sure, copy, "--overwrite", "--balance")
    for number in np.unique(before[before >= 0]):
        kept, left = odds[(before == number) & (after >= 0)], odds[(before == number) & (after < 0)]
        assert len(kept) and (not len(left) or kept.min() > left.max() - 1e-4)  # scores of other batches


@pytest.mark.parametrize("part", [0.1, 0.4])
def test_confident_means_what_it_says(part, too_sure, copy):
    """A share so near 1 that float16 cannot tell it from its neighbours keeps just the rows that reach it."""
    before, _ = annotated(too_sure, copy)
    odds = margins(scores(too_sure, copy))
    low, high = np.sort(odds[before >= 0])[int((before >= 0).sum() * part) :][:2]
    share = 1 / (1 + np.exp(-(low + high) / 2))
    after, _ = annotated(too_sure, copy, "--overwrite", "--confident", repr(float(share)))
    assert share > 0.999 and np.array_equal(after >= 0, (before >= 0) & (odds >= high))


def test_what_labels_are_chosen_by_is_no_column(model, copy):
    annotated(model, copy, "--balance")
    assert {"guess", "sure"} <= Dataset.open(copy).split("train").columns.keys()
    assert not [name for name in Dataset.open(copy).split("train").columns if "odds" in name]


def test_what_is_wrong_is_said(model, copy, monkeypatch):
    for words, said in (
        (["--column", "guess=label", "--balance"], "ask for it: --column guess=label my_confidence=confidence"),
        (["--column", "guess=label", "--confident", "0.9"], "^--confident: needs a column with confidence"),
        (["--column", "guess=label", "--leave-out", "x", "--confident", "1"], "^--confident, --leave-out: needs"),
        (["--column", "guess=label", "--to-tsv", str(copy)], "--to-tsv .*: is a folder"),
        (
            ["--column", "guess=label", "--task.label", "mood"],
            "task.label: is 'mood', .* knows no such labels",
        ),
        (["--column", "sure=confidence", "--to-tsv", "a.tsv"], "--to-tsv"),
        (["--column", "guess=label", "sure=confidence", "--confident", "1.5"], "expected a share"),
    ):
        with pytest.raises(ConfigError, match=said):
            main(["--data", str(copy), "--from", model, *words])
    words = ["--task", "word_importance", "--column", "important", "--to-tsv", str(copy / "a.tsv")]
    monkeypatch.setattr(module.Work, "compute", None)  # before any work is done
    with pytest.raises(ConfigError, match="--to-tsv: chooses by label, which task WordImportance does not give"):
        main(["--data", str(copy), "--from", model, *words])
    words = ["--task", "word_importance", "--column", "important", "--confident", "0.5"]
    with pytest.raises(ConfigError, match="chooses by label, which task WordImportance does not give; leave"):
        main(["--data", str(copy), "--from", model, *words])
