"""What an example is: the rows, masks and pieces that are alike count as one, so that intervals hold the truth."""

import numpy as np
import pytest
from task_data_help import ragged, write

from taskmask.config.settings import Settings
from taskmask.data.dataset import Column
from taskmask.stats.bootstrap import intervals
from taskmask.tokenizer.tokenizer import Vocabulary, train_vocabulary
from taskmask.training.build import build_data

ROWS, TASKS = 60, ("masked_lm", "joint_mlm", "denoising")
MODELS = {"denoising": "bart_mini"}


@pytest.fixture(scope="module")
def vocab():
    return Vocabulary(train_vocabulary(["the quick brown foxes jump over the lazy dogs"] * 20, 290, "bpe"))


@pytest.fixture(scope="module")
def folder(vocab, tmp_path_factory):
    """The same rows as documents of their own ("rows") and three to a document ("documents")."""
    path = tmp_path_factory.mktemp("examples")
    rows = [np.append(ids, vocab.eos) for ids in vocab.encode(["the quick brown foxes jump"] * ROWS)]
    columns = {
        "tokens": (Column("ragged", vocab.token_dtype), ragged(rows)),
        "label": (Column("row", "int32"), np.arange(ROWS) % 2),
    }
    of_documents = {**columns, "document": (Column("row", "uint32"), np.arange(ROWS) // 3)}
    for name, split in (("rows", columns), ("documents", of_documents)):
        write(path / name, vocab, {"train": split}, {"label": ["bad", "good"]})
    return path


def parts_of(name, data):
    blocks = {"path": str(data), "length": 30, "blocks": "sentence"}
    return build_data(Settings.of(task=name, data=blocks, model=MODELS.get(name, "tiny")), ["train"])


def answers_of(task, random, ids, hard):
    """Records of rows, of which `hard` says how often the model is right."""
    found = {"ids": ids}
    for kind in task.kinds:
        count = np.full(len(ids), 6.0)
        correct = random.binomial(6, hard)
        found |= {kind: count - correct + 0.1, f"{kind}_correct": correct.astype(float), f"{kind}_count": count}
    return found


@pytest.mark.parametrize("name", TASKS)
def test_several_equal_masks_of_a_row_are_as_good_as_one(name, folder):
    parts = parts_of(name, folder / "rows")
    task, source, random = parts.task, parts.sources["train"], np.random.default_rng(0)
    once = answers_of(task, random, np.arange(ROWS), random.uniform(size=ROWS))
    thrice = {field: np.repeat(values, 3) for field, values in once.items()}
    one, three = task.measure(once, source), task.measure(thrice, source)
    assert one.size == three.size == ROWS
    assert three.value() == pytest.approx(one.value()) and set(one.value()) >= {"loss"}
    expected, found = intervals(one, 50), intervals(three, 50)
    assert all(found[metric] == pytest.approx(ends) and ends[0] < ends[1] for metric, ends in expected.items())


@pytest.mark.parametrize("name", TASKS)
def test_the_rows_of_a_document_are_one_example(name, folder):
    parts = parts_of(name, folder / "documents")
    task, source, random = parts.task, parts.sources["train"], np.random.default_rng(0)
    answers = answers_of(task, random, np.arange(ROWS), random.uniform(size=ROWS))
    measure = task.measure(answers, source)
    assert measure.size == ROWS // 3 and source.examples.tolist() == (np.arange(ROWS) // 3).tolist()
    kind = task.kinds[0]
    of_first = {field: values[:3].sum() for field, values in answers.items() if field != "ids"}
    expected = of_first[f"{kind}_correct"] / of_first[f"{kind}_count"]
    metric = "mlm_accuracy" if name == "joint_mlm" else "accuracy"
    assert measure.metrics(np.array([0]))[metric] == pytest.approx(expected)


def held(masks, rows_of, trials, folder):
    """How often the interval of the accuracy holds the truth, where some rows, or documents, are harder than others."""
    parts = parts_of("masked_lm", folder / rows_of)
    source, random, right = parts.sources["train"], np.random.default_rng(1), 0
    ids = np.repeat(np.arange(ROWS), masks)
    for _ in range(trials):
        hard = random.beta(2, 2, size=ROWS)[source.examples[ids]]  # 0.5 on average
        measure = parts.task.measure(answers_of(parts.task, random, ids, hard), source)
        low, high = intervals(measure, 200, seed=int(random.integers(1 << 30)))["accuracy"]
        right += low <= 0.5 <= high
    return right / trials


@pytest.mark.slow
@pytest.mark.parametrize("rows_of", ["rows", "documents"])
def test_intervals_hold_the_truth(rows_of, folder):
    """With one mask a row and with four; of 500 trials a share of 95 % has a deviation of 1 %."""
    for masks in (1, 4):
        share = held(masks, rows_of, 500, folder)
        print(f"{rows_of}, {masks} masks of each row: {share:.1%}")
        assert (0.89 if rows_of == "documents" else 0.91) < share < 0.98  # 20 documents are few for a bootstrap
