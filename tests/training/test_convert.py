"""Models of Hugging Face as runs and runs as models of Hugging Face: the same answers, there and back."""

import json

import numpy as np
import pytest
import torch

pytest.importorskip("transformers")
pytest.importorskip("safetensors")

import transformers
from hf_help import LABELS, MASKED, PAIRS, RECORDS, TEXTS, check_same, theirs, vocabulary, write_hf, write_run
from training_help import last, make, tables

from taskmask.checkpoints import checkpoint
from taskmask.config import Assignment
from taskmask.config.settings import Settings
from taskmask.data.batch import TokenBatch
from taskmask.data.dataset import Dataset
from taskmask.data.rng import RowRng
from taskmask.errors import CheckpointError, ConfigError, DataError, StorageError
from taskmask.hf import convert
from taskmask.hf.convert import from_hf, to_hf
from taskmask.inference import loaded_model
from taskmask.inference.annotate import annotate
from taskmask.inference.evaluate import evaluate
from taskmask.inference.multi_seed import report
from taskmask.maskers.base import build_masker
from taskmask.registry import MASKERS
from taskmask.tokenizer.tokenizer import Vocabulary
from taskmask.training.train import train
from taskmask_cli.convert import report_run
from taskmask_cli.preprocess import main as preprocess

transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()
PAIRED = [Assignment("task.pair", "second", "test")]


def answers_of(run, records):
    loaded = loaded_model.load(str(run))
    return loaded.predict(records, top=1000), loaded.vocab


def numbers(answers):
    """The answers without the names of pieces: that of the byte 0x22 is " in one kind of vocabulary only."""
    if "masks" not in answers[0]:
        return answers
    return [[[fill["probability"] for fill in mask["fills"]] for mask in answer["masks"]] for answer in answers]


SINGLE, PAIRS_TOO = [(task, "") for task in RECORDS], [(task, "second") for task in ("classification", "regression")]


@pytest.mark.parametrize("kind", ["sentencepiece", "wordpiece", "bytes"])
@pytest.mark.parametrize(("task", "pair"), SINGLE + PAIRS_TOO)
@pytest.mark.parametrize("model", ["bert", "modern"])
def test_there_and_back(model, task, kind, pair, tmp_path):
    records = PAIRS if pair else RECORDS[task]
    if task == "masked_lm" and kind == "wordpiece":
        records = MASKED[:2]  # in theirs a mask is a word of its own, and what follows it begins one
    run = write_run(tmp_path / "run", task, model, kind, pair)
    done = to_hf(run, str(tmp_path / "hf"))
    assert (done.family, done.kind) == ("modernbert" if model == "modern" else "bert", task)
    answers, vocab = answers_of(run, records)
    check_same(answers, theirs(tmp_path / "hf", task, records, vocab.special_ids), task, vocab)

    back = from_hf(str(tmp_path / "hf"), str(tmp_path / "back"))
    assert back.settings.task == loaded_model.load(str(run)).settings.task and back.pair == done.pair == pair
    assert (back.family, back.kind, back.surplus, back.left_out) == (done.family, task, 0, [])
    assert numbers(answers_of(tmp_path / "back", records)[0]) == numbers(answers)
    before, after = (checkpoint.load(checkpoint.best_of(tmp_path / name, "min")) for name in ("run", "back"))
    assert before["model"].keys() == after["model"].keys() and before["labels"] == after["labels"]
    assert all(torch.equal(before["model"][name], after["model"][name]) for name in before["model"])


@pytest.mark.parametrize("segments", [0, 2])
def test_a_model_of_pairs_that_was_trained_here_is_one_when_it_comes_back(segments, tmp_path):
    """Its label is said by the second text alone: without it, a third of the answers would be right."""
    words = dict(zip(LABELS, ("fox", "dog", "people"), strict=True))
    texts = ["A dog.", "The people sleep.", "A fox!"]
    lines = [f"{label}\t{text}\tthe {word}\n" for label, word in words.items() for text in texts]
    (tmp_path / "rows.tsv").write_text("label\ttext\tsecond\n" + "".join(lines * 4))
    write_hf(tmp_path / "vocab")
    files = [f"--{split}={tmp_path / 'rows.tsv'}" for split in ("train", "valid")]

    def prepared(vocab, data):
        words = ["--text", "text", "second", "--vocab", str(tmp_path / vocab), "--workers", "0"]
        assert preprocess([*files, *words, "--out", str(tmp_path / data)]) == 0
        return str(tmp_path / data)

    data = prepared("vocab", "bin")
    task = {"name": "classification", "pair": "second"}
    train(make(data, tmp_path / "run", task=task, train={"steps": 120, "valid_every": 120}, optim={"lr": 3e-3},
               data={"length": 64}, model={"segments": segments, "dropout": 0.0}))  # fmt: skip
    before = evaluate(str(tmp_path / "run"), data)
    assert before["accuracy"] > 0.9
    to_hf(str(tmp_path / "run"), str(tmp_path / "hf"))
    from_hf(str(tmp_path / "hf"), str(tmp_path / "back"))
    again = prepared("back", "again")
    assert evaluate(str(tmp_path / "back"), again)["accuracy"] == before["accuracy"]
    assert 'tokenizer("a text", "its second"' in (tmp_path / "hf/README.md").read_text()
    alone = from_hf(str(tmp_path / "hf"), str(tmp_path / "alone"), [Assignment("task.pair", "", "test")])
    assert alone.pair == "" and evaluate(str(tmp_path / "alone"), again)["accuracy"] < 0.6


def test_transformers_keeps_the_second_text_of_a_model_of_pairs(tmp_path):
    run = write_run(tmp_path / "run", "classification", pair="second")
    to_hf(run, str(tmp_path / "hf"))
    transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "hf").save_pretrained(tmp_path / "again")
    transformers.AutoTokenizer.from_pretrained(tmp_path / "hf").save_pretrained(tmp_path / "again")
    assert json.loads((tmp_path / "again/config.json").read_text())["taskmask_pair"] == "second"
    assert from_hf(str(tmp_path / "again"), str(tmp_path / "back")).settings.task.options.pair == "second"


@pytest.mark.parametrize("name", ["9", "a b", "../a", 3, ["second"]])
def test_a_second_text_that_no_column_can_be(name, tmp_path):
    run = write_run(tmp_path / "run", "classification", pair="second")
    to_hf(run, str(tmp_path / "hf"))
    edit(tmp_path / "hf", taskmask_pair=name)
    with pytest.raises(CheckpointError, match=r"config\.json: taskmask_pair is .*; expected the name of a column"):
        from_hf(str(tmp_path / "hf"), str(tmp_path / "back"))


@pytest.mark.parametrize(
    ("changes", "sign"),
    [
        ({"id2label": {0: "CONTRADICTION", 1: "neutral", 2: "entailment"}}, "it has the label 'CONTRADICTION'"),
        ({"id2label": {0: "not_duplicate", 1: "duplicate", 2: "?"}}, "it has the label 'not_duplicate'"),
        ({"finetuning_task": "mnli"}, "its finetuning_task is 'mnli'"),
        ({"sentence_transformers": {"activation_fn": "torch.nn.modules.linear.Identity", "version": "5.1.0"}},
         "it is a CrossEncoder of sentence-transformers"),
        ({"sbert_ce_default_activation_function": "torch.nn.modules.linear.Identity"},
         "it is a CrossEncoder of sentence-transformers"),
        ({"finetuning_task": "sst2"}, ""),
        ({}, ""),
    ],
)  # fmt: skip
def test_what_tells_that_a_model_of_others_may_be_one_of_pairs(changes, sign, tmp_path):
    write_hf(tmp_path / "hf", "bert", "classification")
    edit(tmp_path / "hf", **changes)
    found = from_hf(str(tmp_path / "hf"), str(tmp_path / "run"))
    assert (found.pair, found.sign) == ("", sign)
    said = report_run(found, "run")
    assert said[1].startswith("reads: one text; " + (f"{sign}, so it may have learned pairs; " if sign else ""))
    assert said[1].endswith("for pairs, name the second text: --task.pair hypothesis")
    found = from_hf(str(tmp_path / "hf"), str(tmp_path / "paired"), PAIRED)
    assert (found.pair, found.sign) == ("second", "")
    assert "reads: pairs of texts, the second one from 'second'" in report_run(found, "paired")


@pytest.mark.parametrize("kind", ["masked_lm", "classification", "tagging"])
@pytest.mark.parametrize("family", ["bert", "roberta", "distilbert", "electra", "modernbert"])
def test_models_of_transformers(family, kind, tmp_path):
    model = write_hf(tmp_path / "hf", family, kind)
    done = from_hf(str(tmp_path / "hf"), str(tmp_path / "run"))
    assert (done.family, done.kind, done.surplus) == (family, kind, 7)
    records = MASKED[:2] if kind == "masked_lm" else RECORDS[kind]
    answers, vocab = answers_of(tmp_path / "run", records)
    check_same(answers, theirs(tmp_path / "hf", kind, records, vocab.special_ids, model), kind, vocab)
    assert (vocab.pair_separators == 2) == (family == "roberta")
    if kind == "classification":
        from_hf(str(tmp_path / "hf"), str(tmp_path / "pairs"), PAIRED)
        answers, _ = answers_of(tmp_path / "pairs", PAIRS)
        check_same(answers, theirs(tmp_path / "hf", kind, PAIRS, vocab.special_ids, model), kind, vocab)


def test_a_run_folder_like_any_other(tmp_path):
    """Its state has what a trainer saves; its settings are complete; whole words of its vocabulary are masked whole."""
    write_hf(tmp_path / "hf", "roberta")
    from_hf(str(tmp_path / "hf"), str(tmp_path / "run"))
    state = last(tmp_path / "run")
    assert {*checkpoint._CONTENT, "format", "versions"} - {"settings"} == state.keys() and state["step"] == 0
    tables = json.loads((tmp_path / "run/settings.json").read_bytes())
    assert Settings.of(tables).to_dict() == tables and tables["data"]["length"] == 98 and tables["masker"]
    assert sorted(p.name for p in (tmp_path / "run").iterdir()) == [
        "checkpoints", "environment.json", "settings.json", "tokenizer.json", "tokenizer.json.sha256"
    ]  # fmt: skip
    vocab = Vocabulary.load(tmp_path / "run")
    assert vocab.fingerprint == loaded_model.load(str(tmp_path / "run")).vocab.fingerprint
    content = vocab.encode([" unreasonably unbelievable dogs, jumping foxes"])[0]
    tokens = np.tile([vocab.bos, *content, vocab.eos], (40, 1))
    rows = TokenBatch(tokens, np.full(40, tokens.shape[1]), np.arange(40), vocab)
    mask = build_masker("whole_word", MASKERS.get("whole_word").config(ratio=0.4), vocab)(rows, RowRng(1, 1, rows.ids))
    continues = np.array([not piece.startswith("▁") and piece.isalpha() for piece in vocab.pieces(tokens[0])])
    assert continues.any() and mask.any() and (mask[..., continues] == mask[..., np.flatnonzero(continues) - 1]).all()


def write_data(folder, vocab, *more):
    """A dataset of the texts, encoded with a vocabulary."""
    folder.mkdir()
    lines = [f"{LABELS[number % 3]}\t{text}" for number, text in enumerate(TEXTS * 20)]
    (folder / "train.tsv").write_text("label\ttext\n" + "\n".join(lines) + "\n")
    files = [f"--{split}" for split in ("train", "valid")]
    words = [word for flag in files for word in (flag, str(folder / "train.tsv"))]
    preprocess([*words, "--out", str(folder / "bin"), "--vocab", str(vocab), "--workers", "0", *more])
    return folder / "bin"


@pytest.mark.parametrize("kind", ["masked_lm", "ForPreTraining", "none"])
def test_what_was_converted_is_trained_on(kind, tmp_path, capfd):
    """--vocab RUN, --train.init_from RUN, evaluate; a bare encoder gets its head in training."""
    family = "electra" if kind == "ForPreTraining" else "bert"
    write_hf(tmp_path / "hf", family, kind)
    done = from_hf(str(tmp_path / "hf"), str(tmp_path / "run"))
    data = write_data(tmp_path / "data", tmp_path / "run")
    run = str(tmp_path / "run")
    if kind == "masked_lm":
        assert done.kind == kind and evaluate(run, str(data))["loss"] > 0
    else:
        assert done.kind == "none" and done.left_out
        for use in (lambda: loaded_model.load(run).predict(MASKED), lambda: evaluate(run, str(data))):
            with pytest.raises(CheckpointError, match=r"without the head mlm.*train it first: --train.init_from"):
                use()
        with pytest.raises(CheckpointError, match="without the head mlm"):
            to_hf(run, str(tmp_path / "again"))
        assert not (tmp_path / "again").exists()
    trained = tables(data, tmp_path / "next", train={"steps": 3, "init_from": run, "max_tokens": 256})
    del trained["model"], trained["data"]["length"]
    train(Settings.of(trained))
    assert "weights taken over" in capfd.readouterr().err
    assert evaluate(str(tmp_path / "next"))["rows"] > 0
    to_hf(str(tmp_path / "next"), str(tmp_path / "out"))
    answers, vocab = answers_of(tmp_path / "next", MASKED[:2])
    check_same(answers, theirs(tmp_path / "out", "masked_lm", MASKED[:2], vocab.special_ids), "masked_lm", vocab)


def test_a_converted_classifier_is_evaluated_and_annotates(tmp_path):
    write_hf(tmp_path / "hf", "modernbert", "classification")
    from_hf(str(tmp_path / "hf"), str(tmp_path / "run"))
    data = write_data(tmp_path / "data", tmp_path / "run")
    found = evaluate(str(tmp_path / "run"), str(data))
    assert found["rows"] == len(TEXTS) * 20 and {"accuracy", "macro_f1"} <= found["intervals"].keys()
    annotate(str(tmp_path / "run"), str(data), {"said": "label"}, ["valid"])
    dataset = Dataset.open(data)
    said = [dataset.labels["said"][label] for label in dataset.split("valid").values("said")[:4]]
    assert said == [answer["label"] for answer in answers_of(tmp_path / "run", TEXTS)[0]]


def test_labels_that_no_run_saves(tmp_path):
    run = write_run(tmp_path / "run", "classification")
    file = checkpoint.best_of(tmp_path / "run", "min")
    state = checkpoint.load(file)
    for harm in ({"labels": {"label": ["a", "b", "\ud800"]}}, {"versions": 3}, {"labels": {}}):
        checkpoint.save(file, {**{key: value for key, value in state.items() if key != "format"}, **harm})
        with pytest.raises(CheckpointError):
            to_hf(run, str(tmp_path / "hf"))
    nothing_else(tmp_path, "run")


def test_another_vocabulary_is_named_with_the_way_out(tmp_path):
    write_hf(tmp_path / "hf")
    from_hf(str(tmp_path / "hf"), str(tmp_path / "run"))
    data = write_data(tmp_path / "data", write_run(tmp_path / "other", "masked_lm") and save(tmp_path))
    with pytest.raises(CheckpointError, match=f"taskmask-preprocess --vocab {tmp_path}/run"):
        evaluate(str(tmp_path / "run"), str(data))
    with pytest.raises(CheckpointError, match=f"taskmask-preprocess --vocab {tmp_path}/run"):
        train(make(data, tmp_path / "next", train={"init_from": str(tmp_path / "run")}))


def save(folder):
    file = folder / "vocab.model"
    file.write_bytes(vocabulary("sentencepiece").model_bytes)
    return file


def test_shorter_rows(tmp_path):
    model = write_hf(tmp_path / "hf", "bert", "classification")
    done = from_hf(str(tmp_path / "hf"), str(tmp_path / "run"), [Assignment("data.length", 30, "test")])
    assert done.settings.data.length == 30
    answers, vocab = answers_of(tmp_path / "run", ["A dog.", "the fox"])
    wanted = theirs(tmp_path / "hf", "classification", ["A dog.", "the fox"], vocab.special_ids, model)
    check_same(answers, wanted, "classification", vocab)


def card_of(run, folder, **options):
    to_hf(str(run), str(folder), **options)
    text = (folder / "README.md").read_text(encoding="utf-8")
    _, header, body = text.split("---\n", 2)
    return header.splitlines(), body


def test_the_model_card(data, settings, tmp_path):
    train(settings("run", train={"steps": 4, "ema": 0.5}, run={"keep_best": 2}))
    header, body = card_of(tmp_path / "run", tmp_path / "hf")
    assert header == [
        "library_name: transformers",
        "pipeline_tag: fill-mask",
        "tags:",
        "- masked-lm",
        "- bert",
        "- taskmask",
    ]
    state = last(tmp_path / "run")
    for part in (
        "# hf\n", 'AutoModelForMaskedLM.from_pretrained("hf")', "| steps | 4 |", "| seed | 1 |",
        state["data_fingerprint"], "| masker | uniform: ratio 0.15, ratio_schedule linear |", "train 300 rows",
        "with the masker above", "no intervals were computed", "| valid |  | loss |",
        f"| tokens | {state['progress']['tokens']:,}", "## Intended use and limits", '"max_tokens": 256',
    ):  # fmt: skip
        assert part in body, part
    assert str(tmp_path) not in body and str(data) not in body
    _, body = card_of(tmp_path / "run", tmp_path / "measured", evaluate=True)
    assert "95 % intervals" in body and " to " in body.partition("## Results")[2].partition("##")[0]
    report([str(tmp_path / "run")], str(data), str(tmp_path / "run"))
    assert card_of(tmp_path / "run", tmp_path / "summed")[1].count("95 % intervals over") == 1
    (tmp_path / "run/summary.json").write_text('{"runs": [1], "splits": [{"split": 1}]}')
    (tmp_path / "run/log.jsonl").unlink()
    assert "None: nothing was measured" in card_of(tmp_path / "run", tmp_path / "unknown")[1]


def test_a_card_of_strange_names(tmp_path, monkeypatch):
    monkeypatch.setattr("hf_help.LABELS", ["a|b\n# c", "<script>", "\x1b[2J"])
    run = write_run(tmp_path / "run", "classification")
    _, body = card_of(run, tmp_path / "hf")
    assert "a\\|b # c, &lt;script>, \\u001b[2J" in body and "none here: the weights were converted" in body
    assert transformers.AutoConfig.from_pretrained(tmp_path / "hf").id2label[0] == "a|b\n# c"


def nothing_else(folder, *names):
    assert sorted(path.name for path in folder.iterdir()) == sorted(names)


def edit(folder, **changes):
    file = folder / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_bytes()), **changes}))


@pytest.mark.parametrize(
    ("harm", "error", "says"),
    [
        (lambda hf: (hf / "config.json").unlink(), CheckpointError, "config.json: is not there"),
        (lambda hf: edit(hf, model_type="gpt2"), CheckpointError, "model_type is 'gpt2'; expected one of bert"),
        (lambda hf: edit(hf, hidden_act="relu"), CheckpointError, "hidden_act is 'relu'"),
        (lambda hf: (hf / "tokenizer.json").unlink(), DataError, "no vocabulary in this folder"),
        (lambda hf: (hf / "tokenizer.json").write_text("{}"), DataError, "no tokenizer.json"),
        (lambda hf: larger_tokenizer(hf), CheckpointError, "has 127 rows for a vocabulary of 200"),
        (lambda hf: without_specials(hf), CheckpointError, r"its tokenizer has no <s>, </s>, <mask>; expected <s> or"),
        (lambda hf: None, ConfigError, "--task: is tagging; expected masked_lm"),
        (lambda hf: None, CheckpointError, "does not fit the model"),
        (lambda hf: None, ConfigError, "unknown option data.lenth.*did you mean"),
    ],
)
def test_what_is_refused_leaves_nothing(harm, error, says, tmp_path):
    write_hf(tmp_path / "hf")
    harm(tmp_path / "hf")
    given = {"tagging": ("task", "tagging"), "fit": ("model.width", 64), "lenth": ("data.lenth", 3)}
    overrides = [Assignment(key, value, f"--{key}") for name, (key, value) in given.items() if name in says]
    with pytest.raises(error, match=says) as caught:
        from_hf(str(tmp_path / "hf"), str(tmp_path / "runs/run"), overrides)
    assert "\n" not in str(caught.value)
    nothing_else(tmp_path, "hf")


def larger_tokenizer(folder):
    content = json.loads((folder / "tokenizer.json").read_bytes())
    vocab = content["model"]["vocab"]
    vocab |= {f"new{number}": number for number in range(len(vocab), 200)}
    (folder / "tokenizer.json").write_text(json.dumps(content))


def without_specials(folder):
    text = (folder / "tokenizer.json").read_text()
    for name in ("CLS", "SEP", "MASK"):
        text = text.replace(f"[{name}]", f"[{name.lower()}]")
    (folder / "tokenizer.json").write_text(text)


def test_folders_that_are_not_empty_are_not_touched(tmp_path):
    write_hf(tmp_path / "hf")
    run = write_run(tmp_path / "run", "masked_lm")
    (tmp_path / "file").write_text("mine")
    for call in (lambda to: from_hf(str(tmp_path / "hf"), to), lambda to: to_hf(run, to)):
        for target, says in (("hf", "is not empty"), ("file", "exists and is not a folder")):
            with pytest.raises(ConfigError, match=f"{target}: {says}; expected a new or empty folder"):
                call(str(tmp_path / target))
    nothing_else(tmp_path, "hf", "run", "file")
    (tmp_path / "empty").mkdir()
    to_hf(run, str(tmp_path / "empty"))
    nothing_else(tmp_path / "empty", "config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json",
                 "README.md")  # fmt: skip


def test_what_there_is_no_counterpart_of(tmp_path):
    odd = {"head": "relu", "embedding_width": 16}
    for name, task, changes, says in (
        ("span", "span", {}, "its task is span, which has no counterpart there; expected one of masked_lm"),
        ("odd", "classification", {"more": odd}, "no family of Hugging Face has"),
    ):
        run = write_run(tmp_path / name, task, **changes)
        with pytest.raises(CheckpointError, match=says):
            to_hf(run, str(tmp_path / "new/hf"))
    with pytest.raises(CheckpointError, match="is no run folder"):
        to_hf(str(tmp_path), str(tmp_path / "new/hf"))
    with pytest.raises(ConfigError, match="has no split valid or test; leave --evaluate out"):
        to_hf(write_run(tmp_path / "run", "masked_lm"), str(tmp_path / "new/hf"), evaluate=True)
    nothing_else(tmp_path, "span", "odd", "run")


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError, OSError(28, "No space left on device")])
def test_what_ends_in_the_middle_leaves_nothing(error, tmp_path, monkeypatch):
    write_hf(tmp_path / "hf")
    run = write_run(tmp_path / "run", "masked_lm")

    def fails(*_, **__):
        raise error

    monkeypatch.setattr(checkpoint, "save", fails)
    monkeypatch.setattr(convert, "model_card", fails)
    expected = StorageError if isinstance(error, OSError) else error
    for call in (lambda to: from_hf(str(tmp_path / "hf"), to), lambda to: to_hf(run, to)):
        with pytest.raises(expected):
            call(str(tmp_path / "new/one"))
    nothing_else(tmp_path, "hf", "run")
