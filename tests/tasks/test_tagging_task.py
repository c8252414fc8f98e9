"""Tagging: which tokens are asked, and what is made of their answers."""

from pathlib import Path

import numpy as np
import pytest
import torch
from task_data_help import ALIGNED, random_sentences, tagged_columns, write

from taskmask.config.settings import DataSettings, Settings
from taskmask.criteria import ClassificationLossConfig
from taskmask.data.rng import RowRng
from taskmask.errors import DataError
from taskmask.inference.loaded_model import Pretrained
from taskmask.metrics.classification import classification_metrics
from taskmask.metrics.entities import entities_of, entity_counts, f1_of
from taskmask.metrics.tag_schemes import scheme_of
from taskmask.registry import CRITERIA
from taskmask.stats.bootstrap import intervals
from taskmask.tasks.tagging import Tagging, TaggingConfig, word_bounds

NAMES = ["B-PER", "I-PER", "O", "B-LOC"]
SENTENCES = random_sentences(NAMES, 40)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory, tiny_vocab):
    folder = tmp_path_factory.mktemp("tagging")
    columns = tagged_columns(tiny_vocab, SENTENCES, NAMES)
    return write(folder / "data", tiny_vocab, {"train": columns}, {"tags": NAMES})


@pytest.fixture(scope="module")
def without_words(tmp_path_factory, tiny_vocab):
    folder = tmp_path_factory.mktemp("tokens")
    columns = tagged_columns(tiny_vocab, SENTENCES, NAMES, with_words=False)
    return write(folder / "data", tiny_vocab, {"train": columns}, {"tags": NAMES})


def task_of(dataset, **options):
    task = Tagging(TaggingConfig(**options), dataset.vocabulary(), None, dataset.labels)
    task.prepare(dataset)
    return task


def source_of(task, dataset, length, labelled=True):
    return task.source(dataset.split("train"), DataSettings(length=length), dataset, labelled)


def batches_of(task, source, size=7):
    for begin in range(0, len(source), size):
        rows = source[np.arange(begin, min(begin + size, len(source)))]
        yield task.make_batch(rows, RowRng(0, 0, rows.ids)).map(torch.from_numpy)


def model_of(vocab, task):
    """A model that looks at each token alone."""
    torch.manual_seed(0)
    table = torch.randn(vocab.size, len(task.class_names)) * 3

    def model(tokens, positions, keep=None):
        return {"label": table[tokens.flatten()[positions["label"]]]}

    return model


def answers_of(task, source):
    model = model_of(task.vocab, task)
    criterion = CRITERIA.get("classification").make(ClassificationLossConfig()).eval()
    parts = []
    for batch in batches_of(task, source):
        outputs = model(**batch.inputs)
        parts.append(task.answers(outputs, batch, criterion.each(outputs, batch)))
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def test_the_targets_are_the_first_pieces_of_words(dataset):
    task = task_of(dataset)
    source = source_of(task, dataset, 200)
    labels = np.concatenate([batch.targets["label"].numpy() for batch in batches_of(task, source)])
    right = [NAMES.index(tag) for _, tags in SENTENCES for tag in tags if tag]
    assert labels.tolist() == right and source.notes == ["entities: IOB; 2 types (LOC, PER)"]
    assert task.class_counts.tolist() == np.bincount(right, minlength=4).tolist()
    (batch,) = batches_of(task, source, 100)
    pieces = batch.inputs["tokens"].flatten()[batch.inputs["positions"]["label"]].numpy()
    tagged = [word for words, tags in SENTENCES for word, tag in zip(words, tags, strict=True) if tag]
    starts = task.vocab.encode_words([[word] for word in tagged])
    assert pieces.tolist() == [ids[0] for ids, _ in starts]


def test_all_pieces_learn_but_the_first_is_asked(dataset):
    task, first = task_of(dataset, pieces="all"), task_of(dataset)
    source = source_of(task, dataset, 200)
    (batch,) = batches_of(task, source, 100)
    assert len(batch.targets["label"]) == task.class_counts.sum() > first.class_counts.sum()
    some, other = answers_of(task, source), answers_of(first, source)
    assert other["first"].all() and not some["first"].all()
    assert all(np.array_equal(some[name][some["first"]], other[name]) for name in some)
    values, of_first = task.measure(some, source).value(), first.measure(other, source).value()
    assert values["loss"] == pytest.approx(some["loss"].mean(), rel=1e-6), "the loss is the one that is trained"
    assert {**values, "loss": 0} == {**of_first, "loss": 0}, "all else is judged by the first piece of each word"


@pytest.mark.parametrize("length", [3, 4, 5, 8, 11])
def test_rows_that_are_cut_answer_like_whole_ones(dataset, length):
    task = task_of(dataset)
    whole, cut = source_of(task, dataset, 200), source_of(task, dataset, length)
    expected, found = answers_of(task, whole), answers_of(task, cut)
    place = cut.starts[found["ids"]] + found["at"]
    assert np.array_equal(place, whole.starts[expected["ids"]] + expected["at"])
    assert all(np.array_equal(found[name], expected[name]) for name in ("guess", "truth", "loss"))
    some, other = task.measure(found, cut), task.measure(expected, whole)
    assert some.size == other.size == 40 - sum(not any(tags) for _, tags in SENTENCES)
    assert some.value() == other.value()
    note, _ = cut.notes
    many = sum(len(ids) > length - 2 for ids, _ in task.vocab.encode_words([words for words, _ in SENTENCES]))
    assert note == f"split train: {many} of 40 rows are longer than data.length {length}, and read in pieces"


@pytest.mark.parametrize("length", [4, 200])
@pytest.mark.parametrize("pieces", ["first", "all"])
def test_without_words_every_token_is_asked(without_words, length, pieces):
    task = task_of(without_words, pieces=pieces)
    source = source_of(task, without_words, length)
    stored = without_words.split("train").values("tags")
    labels = np.concatenate([batch.targets["label"].numpy() for batch in batches_of(task, source)])
    assert np.array_equal(labels, stored[stored >= 0])
    assert np.array_equal(answers_of(task, source)["truth"], labels)
    assert task.class_counts.sum() == len(labels)


def test_the_metrics_are_those_of_a_direct_computation(dataset):
    task = task_of(dataset)
    source = source_of(task, dataset, 6)
    answers = answers_of(task, source)
    measure = task.measure(answers, source)
    _, sentence = np.unique(source.stored[answers["ids"]], return_inverse=True)
    random = np.random.default_rng(1)
    for index in [np.arange(measure.size), *random.integers(measure.size, size=(5, measure.size))]:
        words = np.concatenate([np.flatnonzero(sentence == one) for one in index])
        truth, guess = answers["truth"][words], answers["guess"][words]
        direct = classification_metrics(truth, guess, 4)
        number = np.repeat(np.arange(len(index)), [np.sum(sentence == one) for one in index])
        found = entity_counts(truth, guess, number, len(index), scheme_of(NAMES))
        direct = {name: direct[name] for name in ("accuracy", "macro_f1")} | f1_of(found)
        assert measure.metrics(index) == pytest.approx({"loss": answers["loss"][words].mean(), **direct}, rel=1e-6)
    totals = {"label": 3.0, "label_count": 2, "label_correct": 1, "label_rows": 2}
    assert task.best == "f1" and task.metrics(totals) == {"loss": 1.5, "accuracy": 0.5}
    assert set(intervals(measure, 20)) == set(measure.value())


@pytest.mark.parametrize(("names", "expected"), [
    (["0", "1"], ["f1_0", "f1_1"]), (["keep it", "mask!"], ["f1_keep_it", "f1_mask_"]),
    (["+", "-"], ["f1_0", "f1_1"]), (["a b", "a-b"], ["f1_0", "f1_1"]), (["好", "bad"], ["f1_0", "f1_1"]),
])  # fmt: skip
def test_two_labels_have_an_f1_each(tmp_path, tiny_vocab, names, expected):
    sentences = [(words, [names[len(word) % 2] for word in words]) for words, _ in SENTENCES]
    columns = tagged_columns(tiny_vocab, sentences, names)
    dataset = write(tmp_path / "data", tiny_vocab, {"train": columns}, {"tags": names})
    task = task_of(dataset)
    source = source_of(task, dataset, 50)
    answers = answers_of(task, source)
    found = task.measure(answers, source).value()
    assert list(found) == ["loss", "accuracy", "macro_f1", *expected] and task.best == "accuracy"
    truth, guess = answers["truth"], answers["guess"]
    for number, name in enumerate(expected):
        right = ((truth == number) & (guess == number)).sum()
        assert found[name] == pytest.approx(2 * right / ((truth == number).sum() + (guess == number).sum()))


@pytest.mark.parametrize("length", [4, 200])
def test_annotations_have_a_value_for_each_token(dataset, without_words, length):
    for data in (dataset, without_words):
        task = task_of(data)
        source = source_of(task, data, length, labelled=False)
        what = ("label", "confidence", "probability:O")
        assert set(what) <= set(task.annotations())
        model = model_of(task.vocab, task)
        found = {name: [] for name in what}
        for batch in batches_of(task, source):
            values = task.annotate(model(**batch.inputs), batch, what)
            lengths = source.lengths[batch.ids]
            for name in what:
                assert values[name].shape == batch.inputs["tokens"].shape
                found[name] += [row[1 : size - 1] for row, size in zip(values[name], lengths, strict=True)]
        labels, confidence, of_o = (np.concatenate(found[name]) for name in what)
        assert len(labels) == data.split("train").num_tokens - 40 and (confidence > 0.25).all()
        assert np.allclose(of_o[labels == 2], confidence[labels == 2])
        if data is dataset and length == 200:  # pieces say what their word says
            word = [word for _, word in task.vocab.encode_words([words for words, _ in SENTENCES])]
            goes_on = np.concatenate([np.append(False, row[1:] == row[:-1]) for row in word])
            assert goes_on.any() and np.array_equal(labels[goes_on], labels[np.flatnonzero(goes_on) - 1])


def test_it_is_shown(dataset, tiny_vocab):
    task = task_of(dataset)
    source = source_of(task, dataset, 200)
    rows = source[np.arange(40)]
    batch = task.make_batch(rows, RowRng(0, 0, rows.ids))
    for line, (words, tags) in zip(task.show(batch), SENTENCES, strict=True):
        assert line.count("[") == sum(tag not in ("O", "") for tag in tags)
        assert "".join(words) == "".join(part for part in line.split() if not part.startswith("["))
    outputs = model_of(tiny_vocab, task)(**batch.map(torch.from_numpy).inputs)
    assert any(" > " in line for line in task.show(batch, outputs))


@pytest.mark.parametrize("length", [4, 7, 100])
def test_predictions_are_those_of_the_rows(dataset, length):
    task = task_of(dataset)
    model = model_of(task.vocab, task)
    records = [{"words": words} for words, _ in SENTENCES]
    found = task.predict(model, records, 5, length)
    for answer, (words, _) in zip(found, SENTENCES, strict=True):
        first = [ids[0] for ids, _ in task.vocab.encode_words([[word] for word in words])]
        inputs = {"tokens": torch.tensor([first]), "positions": {"label": torch.arange(len(first))}}
        chances, labels = model(**inputs)["label"].softmax(-1).max(-1)
        assert answer["words"] == words and answer["tags"] == [NAMES[label] for label in labels]
        assert answer["probabilities"] == pytest.approx(chances.tolist())
        entities = [(one["type"], one["start"], one["end"]) for one in answer["entities"]]
        assert entities == entities_of(labels.numpy(), task.scheme)
        for entity in answer["entities"]:
            assert entity["text"] == " ".join(words[entity["start"] : entity["end"]])
            assert answer["tags"][entity["start"]][2:] == entity["type"]
    assert task.say(records[0], found[0])


@pytest.mark.parametrize(("names", "note"), [
    (["B", "M", "E", "S"], "entities: BMES; without types"),
    (["per_b", "per_m", "per_e", "_"], "entities: BMES, written as suffixes; 1 type (per)"),
    (["B-PER", "K-PER", "O", "B-LOC"], "entities are not measured: the prefix 'K' of label 'K-PER' is unknown"),
    (["0", "1", "2", "3"], "entities are not measured: the labels are numbers; if they are tags of entities, name"),
])  # fmt: skip
def test_the_scheme_is_named_or_why_entities_are_not_measured(tmp_path, tiny_vocab, names, note):
    """Metrics, predictions and the note go together."""
    renamed = dict(zip(NAMES, names, strict=True)) | {"": ""}
    sentences = [(words, [renamed[tag] for tag in tags]) for words, tags in SENTENCES]
    dataset = write(
        tmp_path / "data", tiny_vocab, {"train": tagged_columns(tiny_vocab, sentences, names)}, {"tags": names}
    )
    task = task_of(dataset)
    source = source_of(task, dataset, 200)
    assert len(source.notes) == 1 and source.notes[0].startswith(note)
    has_entities = note.startswith("entities: ")
    assert ("f1" in task.measure(answers_of(task, source), source).value()) == has_entities
    assert task.best == ("f1" if has_entities else "accuracy")
    records = [{"words": words} for words, _ in SENTENCES]
    answers = task.predict(model_of(tiny_vocab, task), records, 5, 100)
    assert all(("entities" in answer) == has_entities for answer in answers)
    assert any(set(answer["tags"]) & {"O", "_"} for answer in answers) == bool({"O", "_"} & set(names))
    for record, answer in zip(records, answers, strict=True):
        shown = [tag for tag in answer["tags"] if tag not in ("O", "_")]
        assert task.say(record, answer)[0].count(" [") == len(shown)


def test_of_all_but_certain_tags_the_log_odds_keep_the_order(dataset):
    """As columns hold them, in fp32; probabilities of such odds are 1."""
    task = task_of(dataset)
    batch = next(batches_of(task, source_of(task, dataset, 200, labelled=False)))
    places = batch.inputs["positions"]["label"]
    logits = torch.zeros(len(places), len(NAMES))
    logits[:, 1] = 20 + torch.arange(len(places)) / 100
    what = (f"probability:{NAMES[1]}", f"log_odds:{NAMES[1]}", "log_odds", "confidence")
    first = batch.targets["first"].numpy()
    found = task.annotate({"label": logits}, batch, what)
    for name, values in found.items():
        spec = task.annotations()[name]
        said = values.reshape(-1)[places.numpy()][first].astype(spec.dtype)
        is_rising = (np.diff(said) > 0).all()
        assert is_rising == ("odds" in name) and spec.dtype == "float32"


def test_a_record_has_a_text_or_words(dataset):
    chosen = Settings.of(task="tagging")
    loaded = Pretrained(Path("none"), chosen, dataset.vocabulary(), dataset.labels, {}, 0)
    loaded.model = torch.nn.Module()
    loaded.model.forward = model_of(loaded.vocab, loaded.asked)
    text, words, both = loaded.predict(["lazy fox", {"words": ["lazy", "fox"]}, {"words": ["lazy fox"], "text": "a"}])
    assert text == words and text["words"] == ["lazy", "fox"] and both["words"] == ["lazy fox"]
    with pytest.raises(DataError, match="has no text 'text'"):
        loaded.predict([{"title": "lazy fox"}])


def test_texts_are_divided_into_words(dataset):
    task = task_of(dataset)
    (found,) = task.predict(model_of(task.vocab, task), [{"text": " The fox\tjumps 我爱 naïve,\n"}], 5, 100)
    assert found["words"] == ["The", "fox", "jumps", "我", "爱", "naïve,"] and len(found["tags"]) == 6
    assert [(s, e) for s, e in word_bounds("a北b c")] == [(0, 1), (1, 2), (2, 3), (4, 5)]
    assert len(word_bounds("น้ำ")) == 2 and word_bounds(" \n") == []


def test_what_cannot_be_tagged_is_said(dataset, tmp_path, tiny_vocab):
    task = task_of(dataset)
    model = model_of(tiny_vocab, task)
    for record in ({"text": " "}, {"words": []}, {"words": "a"}, {"words": ["a", ""]}, {"words": [1]}):
        with pytest.raises(DataError, match=r"the text is empty|'words' is .*; expected a list of words"):
            task.predict(model, [record], 5, 100)
    with pytest.raises(DataError, match="no column 'tokens' with labels of tokens"):
        source_of(task_of(dataset, label="tokens"), dataset, 100)
    columns = tagged_columns(tiny_vocab, SENTENCES, NAMES)
    columns["tags"] = (ALIGNED, np.full_like(columns["tags"][1], -1))
    with pytest.raises(DataError, match="no token has a label"):
        empty = write(tmp_path / "none", tiny_vocab, {"train": columns}, {"tags": NAMES})
        source_of(task_of(empty), empty, 100)


def test_labels_of_another_dataset_are_translated(dataset, tmp_path, tiny_vocab):
    names = ["O", "B-LOC", "I-PER", "B-PER"]
    columns = tagged_columns(tiny_vocab, SENTENCES, names)
    other = write(tmp_path / "data", tiny_vocab, {"train": columns}, {"tags": names})
    task = task_of(dataset)
    assert np.array_equal(
        answers_of(task, source_of(task, other, 9))["truth"], answers_of(task, source_of(task, dataset, 9))["truth"]
    )


def test_the_loss_falls_on_a_toy(dataset):
    """A word's tag is its first piece's number."""
    task = task_of(dataset)
    criterion = CRITERIA.get("classification").load()(CRITERIA.get("classification").config())
    criterion.prepare(task.class_names, task.class_counts)
    (batch,) = batches_of(task, source_of(task, dataset, 200), 100)
    pieces = batch.inputs["tokens"].flatten()[batch.inputs["positions"]["label"]]
    batch.targets["label"] = pieces % 4
    table = torch.zeros(task.vocab.size, 4, requires_grad=True)
    optimizer = torch.optim.Adam([table], lr=0.2)
    losses = []
    for _ in range(40):
        loss = criterion.loss({"label": table[pieces]}, batch)["label"] / criterion.count(batch)["label"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[0] == pytest.approx(np.log(4), rel=1e-5) and losses[-1] < 0.05
