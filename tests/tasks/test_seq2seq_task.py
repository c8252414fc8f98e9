"""Text to text: batches, generated and chosen answers and their metrics, predictions."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from task_data_help import text_columns, write

from taskmask.config.settings import DataSettings
from taskmask.data.rng import RowRng
from taskmask.errors import ConfigError, DataError
from taskmask.tasks.seq2seq import Seq2Seq, Seq2SeqConfig

EXAMPLES = [
    ("What jumps?", ["the fox", "foxes"], ["a dog", "the fox", "fox and dog"]),
    ("Who is lazy", ["A dog"], ["A dog", "the fox"]),
    ("quick brown", ["unreasonably often the dogs were jumping"], ["the"]),
]


class Parrot:
    """Says the same text for every row, and thinks every token after the first as likely as its id says."""

    def __init__(self, vocab, text):
        self.vocab, self.ids, self.config = vocab, vocab.encode([text])[0].astype(np.int64), None
        self.logits = torch.linspace(-3, 3, vocab.size)
        self.most_rows = 0

    def generate(self, tokens, keep, config, *, bos, eos):
        self.config = config
        return [self.ids[: config.max_length - 2]] * len(tokens)

    def __call__(self, tokens, keep, target, positions):
        assert len(tokens) == len(target) and (target[:, 0] == self.vocab.eos).all()
        self.most_rows = max(self.most_rows, len(tokens))
        return {"seq2seq": self.logits.expand(len(positions["seq2seq"]), -1)}

    def likelihood(self, text):
        ids = [*self.vocab.encode([text])[0].tolist(), self.vocab.eos]  # `<s>` is given, not chosen
        return self.logits.log_softmax(0)[ids].sum().item()


@pytest.fixture(scope="module")
def dataset(tmp_path_factory, tiny_vocab):
    folder = tmp_path_factory.mktemp("pairs")
    return write(folder / "data", tiny_vocab, {"train": text_columns(tiny_vocab, EXAMPLES)})


@pytest.fixture
def made(dataset, tiny_vocab):
    """made(options) is the task, its rows, and the batch of all of them as tensors."""

    def made(length=60, **options):
        task = Seq2Seq(Seq2SeqConfig(**options), tiny_vocab, None, {})
        source = task.source(dataset.split("train"), DataSettings(length=length), dataset)
        rows = source[np.arange(3)]
        return task, source, task.make_batch(rows, RowRng(0, 0, rows.ids)).map(torch.from_numpy)

    return made


def test_what_is_read_and_written(made, tiny_vocab):
    task, source, batch = made()
    target, places = batch.inputs["target"], batch.inputs["positions"]["seq2seq"]
    row = places // target.shape[1]
    for number, (question, (answer, *_), _) in enumerate(EXAMPLES):
        labels = batch.targets["seq2seq"][row == number].numpy()
        assert labels.tolist() == [*tiny_vocab.encode([answer])[0].tolist(), tiny_vocab.eos], "no target is <s>"
        assert target[number, : len(labels) + 1].tolist() == [tiny_vocab.eos, tiny_vocab.bos, *labels[:-1]]
        assert tiny_vocab.decode(batch.inputs["tokens"][number].numpy()) == question
    assert batch.num_tokens == source.lengths.sum() and set(task.heads()) == {"seq2seq"}


def test_answers_that_are_generated(made, tiny_vocab):
    task, source, batch = made(max_length=20)
    parrot = Parrot(tiny_vocab, "Foxes!")
    scores = {"seq2seq": torch.randn(len(batch.targets["seq2seq"]), tiny_vocab.size)}
    losses = {"seq2seq": F.cross_entropy(scores["seq2seq"], batch.targets["seq2seq"], reduction="none")}
    answers = task.answers(scores, batch, losses)
    right = task.measure(answers, source).value()
    found = task.measure(answers | task.generate(parrot, batch, source), source)
    values = found.value()
    assert found.size == 3 and set(values) - set(right) == {"exact_match", "f1", "rouge1", "rouge2", "rougeL"}
    assert {name: values[name] for name in right} == right and parrot.config.max_length == 20
    assert values["exact_match"] == values["f1"] == values["rouge1"] == pytest.approx(1 / 3)  # of row 0, an alias
    assert found.metrics(np.array([0, 0]))["exact_match"] == 1 and found.metrics(np.array([1]))["f1"] == 0
    loss = F.cross_entropy(scores["seq2seq"], batch.targets["seq2seq"]).item()
    assert right["loss"] == pytest.approx(loss, rel=1e-6)
    totals = {name: answers[name].sum() for name in ("seq2seq", "seq2seq_count", "seq2seq_correct")}
    assert task.metrics(totals) == pytest.approx(right)


def test_rouge_is_of_the_references_that_have_words(made, monkeypatch):
    from taskmask.data.sequences.seq2seq import TextToText

    accepted = [["北京"], ["red fox"], ["red"]]
    monkeypatch.setattr(TextToText, "accepted", lambda self, ids: accepted)
    for rule, rouge1, counts in (("latin", 5 / 6, (2, 1)), ("unicode", 5 / 9, (3, 2))):
        task, source, _ = made(rouge_words=rule)
        zeros = np.zeros(3)
        answers = {"ids": np.arange(3), "seq2seq": zeros, "seq2seq_correct": zeros, "seq2seq_count": zeros + 1}
        answers["guess"] = np.array([[*task.vocab.encode(["red"])[0]]] * 3, object)
        measure = task.measure(answers, source)
        found = measure.value()
        assert (found["rouge1"], found["rouge2"]) == pytest.approx((rouge1, 0))
        assert (measure.limits["rouge1"].examples, measure.limits["rouge2"].examples) == counts
        assert math.isnan(measure.metrics(np.array([2, 2]))["rouge2"])
        without_word = "rouge1, rougeL: the references of 1 of 3 rows have no word (latin) and are left out;"
        assert any(without_word in note for note in measure.notes) == (rule == "latin")
        assert measure.notes[-1].startswith(
            f"rouge2: the references of {3 - counts[1]} of 3 rows have no pair of words"
        )


def test_rouge_of_references_that_are_mostly_in_another_script_is_noted(made, monkeypatch):
    """Of 北京奥运会 2008 only 2008 counts, so 上海 2008 would be a copy."""
    from taskmask.data.sequences.seq2seq import TextToText

    accepted = [["北京奥运会 2008"], ["naïve Straße"], ["a red Ω"]]
    monkeypatch.setattr(TextToText, "accepted", lambda self, ids: accepted)
    for rule in ("latin", "unicode"):
        task, source, _ = made(rouge_words=rule)
        zeros = np.zeros(3)
        answers = {"ids": np.arange(3), "seq2seq": zeros, "seq2seq_correct": zeros, "seq2seq_count": zeros + 1}
        answers["guess"] = np.array([[*task.vocab.encode(["red"])[0]]] * 3, object)
        notes = [note for note in task.measure(answers, source).notes if "another script" in note]
        assert len(notes) == (rule == "latin")
        if notes:
            assert "the references of 1 of 3 rows" in notes[0] and "--task.rouge_words unicode" in notes[0]


def test_the_likeliest_choice(made, tiny_vocab):
    task, source, batch = made(choices="choices")
    parrot = Parrot(tiny_vocab, "x")
    found = task.generate(parrot, batch, source)
    likelihoods = [[parrot.likelihood(text) for text in choices] for _, _, choices in EXAMPLES]
    assert found["choice"].tolist() == [int(np.argmax(row)) for row in likelihoods] and parrot.most_rows == 3
    answers = task.answers({"seq2seq": torch.randn(len(batch.targets["seq2seq"]), tiny_vocab.size)}, batch, {})
    for choice, accuracy in (([1, 0, 0], 2 / 3), ([0, 0, 0], 1 / 3), ([2, 1, 0], 0), ([-1, -1, 0], 0)):
        measured = task.measure({**answers, **found, "choice": np.array(choice)}, source)
        assert measured.value()["choice_accuracy"] == pytest.approx(accuracy)


def test_choices_are_not_cut_to_max_length_and_a_tie_is_no_hit(tmp_path, tiny_vocab):
    """Of choices that begin alike each is read to its end; where two are as likely, neither is chosen."""
    same = "the lazy fox and dog and "
    rows = [["over", f"{same}fox"], [f"{same}dog", f"{same}fox"], ["fox", "fox"], ["dog fox", "fox dog"], []]
    dataset = write(
        tmp_path / "data", tiny_vocab, {"train": text_columns(tiny_vocab, [("Who", ["fox"], row) for row in rows])}
    )
    found, notes = {}, []
    for length in (60, 6):
        task = Seq2Seq(Seq2SeqConfig(choices="choices", max_length=6), tiny_vocab, None, {})
        source = task.source(dataset.split("train"), DataSettings(length=length), dataset)
        batch = source[np.arange(len(rows))]
        batch = task.make_batch(batch, RowRng(0, 0, batch.ids)).map(torch.from_numpy)
        found[length] = task.generate(Parrot(tiny_vocab, "x"), batch, source)["choice"].tolist()
        notes.append(any("3 of 8 choices are cut to data.length 6" in note for note in source.notes))
    parrot = Parrot(tiny_vocab, "x")
    best = [int(np.argmax([parrot.likelihood(text) for text in row])) for row in rows[:2]]
    assert found[60] == [*best, 0, -1, -1] and found[6][1:] == [-1, 0, -1, -1] and notes == [False, True]


def test_generated_texts_are_no_longer_than_the_rows(made, tiny_vocab):
    task, source, batch = made(length=10)
    parrot = Parrot(tiny_vocab, "unreasonably often jumping dogs")
    assert task.generate(parrot, batch, source)["guess"].shape == (3, 10) and parrot.config.max_length == 10
    assert any("cut to task.max_length 10" in note for note in source.notes)


def test_predictions(made, tiny_vocab):
    task, parrot = made()[0], Parrot(tiny_vocab, "a dog")
    records = [{"text": "What\njumps?"}, {"text": "Who", "choices": ["the fox", "a dog"]}]
    plain, ranked = task.predict(parrot, records, 5, 60)
    assert plain == {"generated": "a dog"} and ranked["generated"] == "a dog"
    scores = {text: parrot.likelihood(text) for text in records[1]["choices"]}
    best = max(scores, key=scores.__getitem__)
    assert ranked["choice"] == best == ranked["ranked"][0]["choice"] and len(ranked["ranked"]) == 2
    assert sum(choice["probability"] for choice in ranked["ranked"]) == pytest.approx(1)
    for choice in ranked["ranked"]:
        assert choice["log_probability"] == pytest.approx(scores[choice["choice"]], rel=1e-5)
    assert len(task.predict(parrot, records, 1, 60)[1]["ranked"]) == 1
    assert task.predict(parrot, [{"text": "dogs " * 90}], 1, 20)[0]["cut"]
    assert task.say(records[1], ranked)[:2] == ["Who", "  = a dog"] and best in task.say(records[1], ranked)[2]


@pytest.mark.parametrize(("record", "message"), [
    ({"text": " "}, "text: the text is empty"),
    ({"text": "Who", "choices": "a dog"}, "choices: .*expected a list of texts"),
    ({"text": "Who", "choices": ["a", " "]}, "choices: .*none blank"),
])  # fmt: skip
def test_what_cannot_be_answered(made, tiny_vocab, record, message):
    with pytest.raises(DataError, match=message):
        made()[0].predict(Parrot(tiny_vocab, "x"), [record], 5, 60)


def test_options(made):
    assert made(validate=True)[0].measured_in_training and not made()[0].measured_in_training
    with pytest.raises(ConfigError, match=r"task\.beams: is 0.*\n?.*task\.max_length: is 1"):
        Seq2SeqConfig(beams=0, max_length=1)
    with pytest.raises(DataError, match="answerz"):
        made(target="answerz")
