"""Questions answered by spans: targets, the best span, windows put together, and the metrics."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from task_data_help import question_columns, ragged, write

from taskmask.config.settings import DataSettings
from taskmask.data.dataset import Column, Dataset
from taskmask.data.rng import RowRng
from taskmask.errors import ConfigError, DataError
from taskmask.metrics.answers import exact_match, token_f1
from taskmask.registry import CRITERIA
from taskmask.stats.bootstrap import intervals
from taskmask.tasks.span import Span, SpanConfig, best_spans, scores_of

WORDS = ["fox", "dogs", "jumps", "naïve", "café", "1984", "我爱北京", "lazy", "(really)", "over,"]
OPTIONS = dict(stride=13, max_question=30, max_answer=16)
LENGTH = 60


def examples_of(count, seed=0):
    random = np.random.default_rng(seed)
    examples = []
    for _ in range(count):
        words = random.choice(WORDS, random.integers(3, 30)).tolist()
        start = random.integers(len(words))
        answer = " ".join(words[start : start + random.integers(1, 3)])
        question = " ".join(random.choice(WORDS, random.integers(1, 5)))
        examples.append((" ".join(words), question, [answer, "A dog"][: random.integers(1, 3)]))
    return examples


EXAMPLES = examples_of(30)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory, tiny_vocab):
    columns = question_columns(tiny_vocab, EXAMPLES)
    return write(tmp_path_factory.mktemp("span") / "data", tiny_vocab, {"train": columns})


def task_of(dataset, **options):
    return Span(SpanConfig(**{**OPTIONS, **options}), dataset.vocabulary(), None, {})


def source_of(task, dataset, length=LENGTH, labelled=True):
    return task.source(dataset.split("train"), DataSettings(length=length), dataset, labelled)


def batches_of(task, source, size=9):
    for begin in range(0, len(source), size):
        rows = source[np.arange(begin, min(begin + size, len(source)))]
        yield task.make_batch(rows, RowRng(0, 0, rows.ids)).map(torch.from_numpy)


def model_of(vocab):
    """A model that looks at each token and the one before it."""
    torch.manual_seed(0)
    one, two = torch.randn(2, vocab.size, 2)

    def model(tokens, segments, keep=None):
        return {"span": (one[tokens] + two[tokens.roll(1, 1)]).flatten(0, 1)}

    return model


def answers_of(task, source):
    model, criterion, parts = model_of(task.vocab), CRITERIA.get("span").load()(None), []
    for batch in batches_of(task, source):
        outputs = model(**batch.inputs)
        losses = criterion.each(outputs, batch) if "span" in batch.targets else {}
        parts.append(task.answers(outputs, batch, losses))
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


@pytest.mark.parametrize(("length", "options"), [(LENGTH, {}), (24, {"stride": 0, "max_question": 8, "max_answer": 6})])
def test_targets_point_at_the_answer_or_at_the_first_token(dataset, length, options):
    task = task_of(dataset, **options)
    source = source_of(task, dataset, length)
    columns = dataset.split("train")
    offsets, answer = columns.offsets("tokens"), columns.values("answer")
    held = set()
    for batch in batches_of(task, source):
        for id, row, (first, last) in zip(batch.ids, batch.inputs["tokens"], batch.targets["span"], strict=True):
            stored, offset, size = source.stored[id], source.offset[id], source.sizes[id]
            tokens = columns.values("tokens")[offsets[stored] :][answer[stored, 0] : answer[stored, 1] + 1]
            if first:
                assert row[first : last + 1].tolist() == tokens.tolist()
                held.add(stored)
            else:
                assert last == 0 and (answer[stored, 0] < offset or answer[stored, 1] >= offset + size)
        choices = batch.targets["choices"]
        assert choices.gather(1, batch.targets["span"]).all() and choices[:, 0].all()
        chosen = torch.where(choices & (torch.arange(choices.shape[1]) > 0), batch.inputs["tokens"], -1)
        for id, row in zip(batch.ids, chosen, strict=True):
            assert row[row >= 0].tolist() == columns.values("tokens")[source.starts[id] : source.stops[id]].tolist()
    note = f"split train: {30 - len(held)} of 30 answers are whole in no window"
    assert len(source) > 30 and (note in source.notes) == (len(held) < 30) == bool(options)


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 999), st.integers(1, 9), st.integers(1, 8))
def test_the_best_span_is_that_of_brute_force(seed, length, longest):
    random = np.random.default_rng(seed)
    logits = random.integers(-3, 4, size=(2 * length, 2)).astype(np.float32)  # with ties
    choices = random.random((2, length)) < 0.7
    choices[:, 0] = True
    scores = scores_of(torch.from_numpy(logits), torch.from_numpy(choices), longest)
    assert scores.shape == (2, length, longest)
    by_row = logits.reshape(2, length, 2)
    for row in range(2):
        for first in range(length):
            for width in range(longest):
                last = first + width
                inside = first > 0 and last < length and choices[row, first] and choices[row, last]
                value = by_row[row, first, 0] + by_row[row, last, 1] - by_row[row, 0].sum() if inside else -np.inf
                assert scores[row, first, width] == value
        spans = best_spans(scores[row].numpy(), 4)
        flat = scores[row].flatten().double()
        chances = flat.softmax(0) if flat.isfinite().any() else torch.zeros(1)
        assert [chance for *_, chance in spans] == pytest.approx(
            [p for p in chances.topk(min(4, len(chances)))[0].tolist() if p]
        )
        for first, last, chance in spans:
            assert chance == pytest.approx(chances[first * longest + last - first].item())


def test_the_metrics_are_those_of_a_direct_computation(dataset, tiny_vocab):
    task = task_of(dataset)
    source = source_of(task, dataset)
    answers = answers_of(task, source)
    measure = task.measure(answers, source)
    encoded = tiny_vocab.encode_with_offsets([context for context, _, _ in EXAMPLES])
    guesses = []
    for number, (context, _, _) in enumerate(EXAMPLES):
        best = max(np.flatnonzero(source.stored == number), key=lambda window: answers["score"][window])
        _, starts, ends = encoded[number]
        first, last = answers["first"][best], answers["last"][best]
        assert 0 <= first <= last < first + OPTIONS["max_answer"] and last < len(starts)
        guesses.append(context[starts[first] : ends[last]])
    random = np.random.default_rng(1)
    for index in [np.arange(30), *random.integers(30, size=(3, 30))]:
        windows = np.concatenate([np.flatnonzero(source.stored == number) for number in index])
        assert measure.metrics(index) == pytest.approx({
            "loss": answers["loss"][windows].mean(),
            "exact_match": np.mean([exact_match(guesses[number], EXAMPLES[number][2]) for number in index]),
            "f1": np.mean([token_f1(guesses[number], EXAMPLES[number][2]) for number in index]),
        })  # fmt: skip
    assert 0 < measure.value()["f1"] < 1 and set(intervals(measure, 20)) == {"loss", "exact_match", "f1"}
    criterion, model = CRITERIA.get("span").load()(None), model_of(tiny_vocab)
    sums = [criterion.loss(model(**batch.inputs), batch)["span"].item() for batch in batches_of(task, source)]
    totals = {"span": sum(sums), "span_count": len(source)}
    assert task.metrics(totals)["loss"] == pytest.approx(measure.value()["loss"], rel=1e-5)


def test_right_answers_are_right(dataset):
    """A model that says what is right, where a window holds it, and <s> elsewhere."""
    task = task_of(dataset)
    source = source_of(task, dataset)
    parts = []
    for batch in batches_of(task, source):
        logits = torch.nn.functional.one_hot(batch.targets["span"], batch.inputs["tokens"].shape[1]).float() * 30
        outputs = {"span": logits.transpose(1, 2).flatten(0, 1)}
        parts.append(task.answers(outputs, batch, CRITERIA.get("span").load()(None).each(outputs, batch)))
    answers = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    assert task.measure(answers, source).value() == {"loss": pytest.approx(0, abs=1e-6), "exact_match": 1, "f1": 1}


def test_predictions_are_those_of_the_rows(dataset):
    task = task_of(dataset)
    source = source_of(task, dataset)
    answers = answers_of(task, source)
    records = [{"context": context.replace(" ", "\n", 1), "question": question} for context, question, _ in EXAMPLES]
    found = task.predict(model_of(task.vocab), records, 3, LENGTH)
    columns = dataset.split("train")
    for number, (answer, record) in enumerate(zip(found, records, strict=True)):
        windows = np.flatnonzero(source.stored == number)
        best = windows[answers["score"][windows].argmax()]
        at = columns.offsets("tokens")[number]
        assert answer["start"] == columns.values("starts")[at + answers["first"][best]]
        assert answer["end"] == columns.values("ends")[at + answers["last"][best]]
        assert len(answer["answers"]) == 3 and {**answer["answers"][0], "answers": answer["answers"]} == answer
        for one in answer["answers"]:
            assert one["answer"] == record["context"][one["start"] : one["end"]] and 0 < one["probability"] < 1
    assert len(task.say(records[0], found[0])) == 4


def test_what_cannot_be_answered_is_said(dataset):
    task = task_of(dataset)
    with pytest.raises(DataError, match=r"^question: the text is empty"):
        task.predict(model_of(task.vocab), [{"context": "a", "question": " "}], 3, LENGTH)
    with pytest.raises(ConfigError, match=r"task.stride: is -1(.|\n)*task.max_answer: is 0"):
        SpanConfig(stride=-1, max_answer=0)
    with pytest.raises(DataError, match="have 0 for the context beside a question of 64"):
        source_of(task_of(dataset, max_question=64), dataset, 60)


def test_rows_without_answers_can_be_read(tmp_path, tiny_vocab):
    columns = question_columns(tiny_vocab, EXAMPLES)
    del columns["answer"], columns["answers"]
    dataset = write(tmp_path / "data", tiny_vocab, {"train": columns})
    task = task_of(dataset)
    answers = answers_of(task, source_of(task, dataset, labelled=False).windows)
    assert set(answers) == {"ids", "first", "last", "score"}
    with pytest.raises(DataError, match="there is no column 'answer'"):
        source_of(task, dataset)


def test_an_empty_context_has_no_answer(tmp_path, tiny_vocab):
    columns = question_columns(tiny_vocab, [EXAMPLES[0], EXAMPLES[1]])
    tokens, lengths = columns["tokens"][1]
    kept = np.append(np.arange(lengths[0]), len(tokens) - 1)  # of the second, </s> alone
    columns["tokens"] = (columns["tokens"][0], (tokens[kept], np.array([lengths[0], 1])))
    columns["starts"], columns["ends"] = ((columns[n][0], columns[n][1][kept]) for n in ("starts", "ends"))
    columns["answer"] = (columns["answer"][0], np.array([columns["answer"][1][0], [-1, -1]]))
    dataset = write(tmp_path / "data", tiny_vocab, {"train": columns})
    task = task_of(dataset)
    source = source_of(task, dataset)
    answers = answers_of(task, source)
    assert answers["last"][-1] < answers["first"][-1] and answers["score"][-1] == -np.inf
    assert np.isfinite(list(task.measure(answers, source).value().values())).all()


def test_it_is_shown(dataset):
    task = task_of(dataset)
    source = source_of(task, dataset)
    rows = source[np.arange(len(source))]
    batch = task.make_batch(rows, RowRng(0, 0, rows.ids))
    lines = task.show(batch)
    for line, id, span in zip(lines, rows.ids, batch.targets["span"], strict=True):
        _, question, answers = EXAMPLES[source.stored[id]]
        answer, _, rest = line[1:].partition("] ")
        assert answer.strip() == (answers[0] if span.any() else "-") and rest.startswith(question)
    assert all(" > " in line for line in task.show(batch, model_of(task.vocab)(**batch.map(torch.from_numpy).inputs)))


def test_the_loss_falls_on_a_toy(dataset):
    """The answer is the token 1984 of the context."""
    task = task_of(dataset)
    criterion = CRITERIA.get("span").load()(None)
    (batch,) = batches_of(task, source_of(task, dataset), 1000)
    is_it = (batch.inputs["tokens"] == task.vocab.encode(["1984"])[0][-1].item()) & batch.targets["choices"]
    batch.targets["span"] = is_it.int().argmax(1)[:, None].expand(-1, 2).contiguous()
    table = torch.zeros(task.vocab.size, 2, requires_grad=True)
    optimizer = torch.optim.Adam([table], lr=0.5)
    losses = []
    for _ in range(60):
        loss = criterion.loss({"span": table[batch.inputs["tokens"]].flatten(0, 1)}, batch)["span"] / len(is_it)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[0] > 1 and losses[-1] < 0.4  # a window with two of them can only guess


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 999), st.integers(0, 9), st.integers(1, 5), st.integers(1, 6))
def test_the_best_spans_apart_are_those_of_brute_force(seed, length, longest, top):
    random = np.random.default_rng(seed)
    scores = np.where(random.random((length, longest)) < 0.8, random.normal(size=(length, longest)), -np.inf)
    shares = np.exp(scores) / np.exp(scores).sum() if np.isfinite(scores).any() else scores
    order = sorted(np.argwhere(np.isfinite(scores)).tolist(), key=lambda at: -scores[tuple(at)])
    taken, wanted = set(), []
    for first, further in order:
        if len(wanted) < top and not taken & set(range(first, first + further + 1)):
            wanted.append((first, first + further, pytest.approx(shares[first, further])))
            taken |= set(range(first, first + further + 1))
    assert best_spans(scores, top, apart=True) == wanted


def without_questions(columns):
    return {name: column for name, column in columns.items() if name != "question"}


def test_spans_of_rows_that_are_read_together_stay_apart(tmp_path, tiny_vocab):
    """Rows of a document follow each other without a break: a span ends each and one begins the next."""
    ids = [tiny_vocab.encode(["fox dogs"])[0] for _ in range(7)]
    document = np.array([0, 0, 0, 1, 2, 2, 2])
    closes = np.append(document[1:] != document[:-1], True)
    rows = [np.append(row, tiny_vocab.eos) if last else row for row, last in zip(ids, closes, strict=True)]
    columns = {
        "tokens": (Column("ragged", tiny_vocab.token_dtype), ragged(rows)),
        "document": (Column("row", "int64"), document),
    }
    dataset = write(tmp_path / "data", tiny_vocab, {"train": columns})
    task = Span(SpanConfig(question="", best=2, max_answer=9), tiny_vocab, None, {})
    contexts = source_of(task, dataset, labelled=False)

    def ask(batch):
        given = batch.map(torch.from_numpy)
        return {"span": torch.zeros(given.inputs["tokens"].numel(), 2)}, given

    order = np.array([3, 0, 1, 2, 6, 5, 4])
    found = task.annotate_rows(ask, contexts, order, ("spans",), 60, lambda tokens: None)["spans"]
    found = {id: spans[1 : 1 + len(ids[id])] for id, spans in zip(order, found, strict=True)}
    assert [sorted(set(found[id]) - {0}) for id in range(7)] == [[1, 2], [3, 4], [1, 2], [1, 2], [1, 2], [3, 4], [1, 2]]


@pytest.mark.parametrize(
    ("length", "options"), [(LENGTH, {"stride": 16}), (12, dict(stride=3, max_answer=4, max_words=2))]
)
def test_contexts_are_read_alone_and_their_best_spans_listed(tmp_path, tiny_vocab, length, options):
    """In windows or at once, the columns hold the spans that `predict` would give, of the same places and chances."""
    columns = without_questions(question_columns(tiny_vocab, EXAMPLES))
    task = task_of(write(tmp_path / "data", tiny_vocab, {"train": columns}), question="", best=3, **options)
    dataset = Dataset.open(tmp_path / "data")
    assert task.fields == ("context",) and task.columns == ("tokens", "answer")
    (batch,) = batches_of(task, source_of(task, dataset, length), 1000)
    assert "segments" not in batch.inputs and (batch.inputs["tokens"][:, 0] == tiny_vocab.bos).all()
    assert batch.targets["choices"][:, 1].all() and batch.targets["span"].any()
    contexts = source_of(task, dataset, length, labelled=False)
    assert len(contexts) == 30 and (length > 30 or len(contexts.windows) > 30)
    random = torch.Generator().manual_seed(1)
    table = torch.randint(-30, 30, (tiny_vocab.size, 2), generator=random) / 8  # whose sums are exact

    def local(tokens, keep=None):  # so that windows do not matter
        return {"span": table[tokens].flatten(0, 1)}

    def ask(batch):
        given = batch.map(torch.from_numpy)
        return local(**given.inputs), given

    ids = np.array([4, 7, 8])
    found = task.annotate_rows(ask, contexts, ids, ("spans", "chance"), 60, lambda tokens: None)
    answers = task.predict(local, [{"context": EXAMPLES[id][0]} for id in ids], 1, length)
    for id, spans, chance, answer in zip(ids, found["spans"], found["chance"], answers, strict=True):
        tokens = dataset.split("train").values("tokens")[contexts.starts[id] : contexts.stops[id]]
        size, longest = len(tokens), task.config.max_answer
        words, scores = tiny_vocab.word_numbers(tokens[None])[0], np.full((size, longest), -np.inf, np.float32)
        for first in range(size):
            for last in range(first, min(size, first + longest)):
                inside = np.isin(np.arange(size), np.arange(first, last + 1))
                is_whole = np.isin(words, words[inside]).sum() == inside.sum() and words[last] - words[first] < 2
                if "max_words" not in options or is_whole:
                    scores[first, last - first] = table[tokens[first], 0] + table[tokens[last], 1]
        expected, shares = np.zeros_like(spans), np.zeros(len(spans))
        for rank, (first, last, share) in enumerate(best_spans(scores, 3, apart=True), 1):
            expected[first + 1 : last + 2], shares[first + 1 : last + 2] = rank, share
        assert np.array_equal(spans, expected) and spans.max() == 3
        np.testing.assert_allclose(chance, shares, rtol=2e-3)
        assert answer["probability"] == pytest.approx(chance[spans == 1][0], rel=2e-3)
