"""Labels and masked language modelling together: what is read, what counts, and the loss by hand."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from task_data_help import ragged, write

from taskmask.config.settings import Settings
from taskmask.criteria.joint import divergence
from taskmask.data.batch import Batch
from taskmask.data.dataset import Column
from taskmask.data.rng import RowRng
from taskmask.data.sequences.base import Examples
from taskmask.errors import ConfigError, DataError
from taskmask.tokenizer.tokenizer import Vocabulary, train_vocabulary
from taskmask.training.build import build_data, build_objective
from taskmask.training.objective import weighted_total

TEXTS = ["the quick brown foxes", "the lazy dogs jump", "dogs", "over the lazy foxes"]
LABELS = [0, 1, -1, 1]
MODEL = {"name": "tiny", "layers": 1, "width": 16, "heads": 2}


@pytest.fixture(scope="module")
def vocab():
    return Vocabulary(train_vocabulary(["the quick brown foxes jump over the lazy dogs"] * 20, 290, "bpe"))


@pytest.fixture(scope="module")
def data(vocab, tmp_path_factory):
    rows = [np.append(ids, vocab.eos) for ids in vocab.encode(TEXTS)]
    logits = np.random.default_rng(0).normal(0, 2, (4, 2)).astype(np.float16)
    tags = [np.append(np.arange(len(row) - 1) % 3 - 1, -1) for row in rows]
    chance = [np.linspace(0.1, 0.9, len(row)).astype(np.float16) for row in rows]
    columns = {
        "tokens": (Column("ragged", vocab.token_dtype), ragged(rows)),
        "label": (Column("row", "int32"), np.array(LABELS)),
        "logits": (Column("row", "float16", 2), logits),
        "tags": (Column("aligned", "int32", of="tokens"), ragged(tags)[0]),
        "p0": (Column("aligned", "float16", of="tokens"), ragged(chance)[0]),
        "p1": (Column("aligned", "float16", of="tokens"), 1 - ragged(chance)[0]),
    }
    folder = tmp_path_factory.mktemp("joint") / "data"
    write(folder, vocab, {"train": columns}, {"label": ["bad", "good"], "tags": ["O", "X"]})
    return str(folder)


def make(data, criterion=None, **task):
    chosen = Settings.of(task={"name": "joint_mlm", **task}, data={"path": data, "length": 40}, model=MODEL,
                         masker={"name": "uniform", "ratio": 0.3}, criterion=criterion or "joint")  # fmt: skip
    parts = build_data(chosen, ["train"])
    columns = parts.sources["train"].columns
    rows = Examples(parts.dataset.split("train"), parts.vocab, 40, "", columns)[np.arange(4)]
    batch = parts.task.make_batch(rows, RowRng(1, 1, rows.ids))
    objective = build_objective(chosen, parts.task).eval()
    return objective, rows, batch, batch.map(torch.from_numpy)


def test_the_clean_text_alone_is_the_text(data):
    """Without masked language modelling the model reads what stands in the dataset, to the byte."""
    objective, rows, batch, _ = make(data, read="clean", mlm=False)
    assert batch.inputs["tokens"].tobytes() == rows.tokens.tobytes() and "mlm" not in batch.targets
    assert batch.targets["pseudo"].tolist() == LABELS and batch.num_tokens == rows.lengths.sum()
    assert set(objective.model.heads) == {"pseudo"}


def test_without_masked_language_modelling_nothing_is_masked_and_rows_without_a_label_are_out(data):
    """`--task.mlm false` alone is enough: what is read is the text, to the byte, and no masker is left."""
    _, rows, batch, _ = make(data, mlm=False)
    assert batch.inputs["tokens"].tobytes() == rows.tokens.tobytes() and "mlm" not in batch.targets
    for label, kept in (("label", [0, 1, 3]), ("tags", [0, 1, 2, 3])):
        chosen = Settings.of(
            task={"name": "joint_mlm", "mlm": False, "label": label}, masker="span", data={"path": data}
        )
        parts = build_data(chosen, ["train"])
        assert chosen.masker is None and parts.task.views == 1
        assert parts.sources["train"].stored.tolist() == kept
    with pytest.raises(ConfigError, match=r"criterion.mlm_weight: is 0.*--task.mlm false"):
        objective, _, _, given = make(data, {"name": "joint", "mlm_weight": 0.0})
        objective(given)


def test_a_dataset_without_a_label_is_refused(vocab, tmp_path):
    rows = [np.append(ids, vocab.eos) for ids in vocab.encode(TEXTS)]
    columns = {
        "tokens": (Column("ragged", vocab.token_dtype), ragged(rows)),
        "label": (Column("row", "int32"), np.full(4, -1)),
        "tags": (Column("aligned", "int32", of="tokens"), np.full(sum(map(len, rows)), -1)),
    }
    write(tmp_path / "data", vocab, {"train": columns}, {"label": ["bad", "good"], "tags": ["O", "X"]})
    for options in ({}, {"mlm": False}, {"label": "tags"}):
        with pytest.raises(DataError, match="split train: no row has a label in column"):
            make(str(tmp_path / "data"), **options)


@pytest.mark.parametrize("label", ["label", "tags"])
def test_the_scores_follow_classes_in_another_order(data, label):
    """A checkpoint that knows the classes the other way round gives the same answers, of labels and of scores."""
    of_tags = {"label": "tags", "soft": ["p0", "p1"], "soft_is": "probabilities"}
    options = {"label": "label", "soft": ["logits"]} if label == "label" else of_tags
    found = []
    for names in (["bad", "good"], ["good", "bad"]) if label == "label" else (["O", "X"], ["X", "O"]):
        parts = build_data(Settings.of(task={"name": "joint_mlm", **options}, data={"path": data}), ["train"],
                           {label: names})  # fmt: skip
        rows = parts.sources["train"][np.arange(4)]
        targets = parts.task.make_batch(rows, RowRng(1, 1, rows.ids)).targets
        labels = targets["pseudo"]
        found.append((np.where(labels < 0, "none", np.array(names)[labels]).tolist(), targets["soft"]))
    assert found[0][0] == found[1][0] and np.array_equal(found[0][1], found[1][1][:, ::-1])
    assert not np.array_equal(found[0][1], found[1][1])


def test_scores_of_other_classes_are_refused(vocab, tmp_path):
    """Even where no text is of the class that the model does not know."""
    rows = [np.append(ids, vocab.eos) for ids in vocab.encode(TEXTS)]
    columns = {
        "tokens": (Column("ragged", vocab.token_dtype), ragged(rows)),
        "label": (Column("row", "int32"), np.array(LABELS)),
        "logits": (Column("row", "float16", 3), np.zeros((4, 3))),
    }
    write(tmp_path / "data", vocab, {"train": columns}, {"label": ["bad", "good", "neither"]})
    chosen = Settings.of(task={"name": "joint_mlm", "soft": ["logits"]}, data={"path": str(tmp_path / "data")})
    with pytest.raises(
        DataError, match=r"scores of task.soft are those of bad, good, neither; expected of bad, good, other"
    ):
        build_data(chosen, ["train"], {"label": ["bad", "good", "other"]})


@pytest.mark.parametrize("kind", ["logits", "probabilities"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_scores_that_cannot_be_learned_are_named(value, kind, vocab, tmp_path):
    """NaN says that there is no score, which is right if there is no label; a logit of -inf rules a class out."""
    rows = [np.append(ids, vocab.eos) for ids in vocab.encode(TEXTS)]
    scores, chosen = np.full((4, 2), 0.5, np.float32), np.array([0, 1, -1, 1])
    columns = {
        "tokens": (Column("ragged", vocab.token_dtype), ragged(rows)),
        "label": (Column("row", "int32"), chosen),
        "scores": (Column("row", "float16" if kind == "logits" else "float32", 2), scores),
    }
    task = {"name": "joint_mlm", "soft": ["scores"], "soft_is": kind}
    if kind == "logits":
        scores += 1
    for row in (2, 3):
        scores[2:] = 0.5
        scores[row, 1] = value
        folder = tmp_path / str(row)
        write(folder, vocab, {"train": columns}, {"label": ["bad", "good"]})
        settings = Settings.of(task=task, data={"path": str(folder)})
        if (kind == "logits" and value == -np.inf) or (row == 2 and np.isnan(value)):
            build_data(settings, ["train"])
        else:
            with pytest.raises(DataError, match=rf"scores\.bin, row {row} of split train: .* the value is {value}"):
                build_data(settings, ["train"])


def test_the_masked_text_is_that_of_masked_language_modelling(data):
    _, rows, batch, _ = make(data, read="masked")
    assert batch.inputs["tokens"].shape == rows.shape and batch.targets["pseudo"].tolist() == LABELS
    masked = batch.inputs["positions"]["mlm"]
    assert (rows.tokens.reshape(-1)[masked] == batch.targets["mlm"]).all() and len(masked) > 3
    assert (batch.inputs["tokens"] != rows.tokens).sum() <= len(masked)


def test_labels_from_the_clean_text_beside_the_masked_one(data):
    _, rows, batch, given = make(data, read="clean")
    tokens = batch.inputs["tokens"]
    assert (
        tokens.shape == (8, rows.shape[1]) and (tokens[4:] == rows.tokens).all() and (tokens[:4] != rows.tokens).any()
    )
    assert (
        batch.targets["pseudo"].tolist() == [-1] * 4 + LABELS
        and batch.inputs["positions"]["mlm"].max() < rows.tokens.size
    )
    assert batch.num_tokens == 2 * rows.lengths.sum() and given.inputs["keep"].shape == tokens.shape


def test_the_loss_is_the_sum_of_the_parts_and_rows_without_a_label_count_for_masks_alone(data):
    objective, _, _, batch = make(data)
    sums, counts = objective(batch), objective.criterion.count(batch)
    outputs = objective.model(**batch.inputs)
    known = batch.targets["pseudo"] >= 0
    assert counts == {"mlm": len(batch.targets["mlm"]), "pseudo": 3}
    torch.testing.assert_close(sums["mlm"], F.cross_entropy(outputs["mlm"], batch.targets["mlm"], reduction="sum"))
    by_hand = F.cross_entropy(outputs["pseudo"][known], batch.targets["pseudo"][known], reduction="sum")
    torch.testing.assert_close(sums["pseudo"], by_hand)
    row = batch.inputs["positions"]["mlm"] // batch.inputs["tokens"].shape[1]
    assert (row == 2).any()  # the row without a label has masked tokens


@pytest.mark.parametrize("direction", ["teacher_student", "student_teacher"])
@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_divergence_from_the_teacher(data, direction, temperature):
    options = {"name": "joint", "temperature": temperature, "direction": direction}
    objective, rows, _, batch = make(data, options, soft=["logits"], read="clean", mlm=False)
    objective.criterion.train()
    ours, teacher = objective.model(**batch.inputs)["pseudo"], torch.from_numpy(rows.columns["logits"]).float()
    p, q = (teacher / temperature).softmax(-1), (ours / temperature).softmax(-1)
    first, second = (p, q) if direction == "teacher_student" else (q, p)
    known = torch.tensor(LABELS) >= 0
    by_hand = sum((f * (f / s).log()).sum().item() for f, s in zip(first[known], second[known], strict=True))
    assert objective(batch)["pseudo"].item() == pytest.approx(by_hand * temperature**2, rel=1e-4)
    chances = torch.stack([teacher.softmax(-1), ours.softmax(-1)])[:, known]
    plain = (chances[0] * (chances[0] / chances[1]).log()).sum().item()  # what validations measure, whatever is learned
    if (temperature, direction) != (1.0, "teacher_student"):
        assert objective(batch)["pseudo_plain"].item() == pytest.approx(plain, rel=1e-4)
    assert objective.eval()(batch)["pseudo"].item() == pytest.approx(plain, rel=1e-4)


def test_no_loss_and_no_gradient_where_the_student_is_the_teacher(data):
    objective, _, _, batch = make(data, soft=["logits"], read="clean", mlm=False)
    outputs = {"pseudo": batch.targets["soft"].clone().requires_grad_()}
    loss = objective.criterion.loss(outputs, batch)["pseudo"]
    (gradient,) = torch.autograd.grad(loss, outputs["pseudo"])
    assert loss.item() == pytest.approx(0, abs=1e-6) and gradient.abs().max() < 1e-6


@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_a_class_that_a_teacher_rules_out_adds_nothing(data, temperature):
    """Its score is minus infinity: 0 log 0 is 0, and the rest is the divergence among the other classes."""
    options = {"name": "joint", "temperature": temperature}
    objective, _, _, batch = make(data, options, soft=["logits"], read="clean", mlm=False)
    batch.targets["soft"][0, 0] = -torch.inf
    outputs = {"pseudo": torch.randn(4, 2, requires_grad=True)}
    for module in (objective.criterion.eval(), objective.criterion.train()):
        sums = module.loss(outputs, batch)
        (gradient,) = torch.autograd.grad(sums["pseudo"], outputs["pseudo"])
        alone = batch.targets["soft"].clone()
        alone[0, 0] = -1e4
        near = module.loss(outputs, Batch({}, {**batch.targets, "soft": alone}, None, 0))["pseudo"]
        torch.testing.assert_close(sums["pseudo"], near)
        assert gradient.isfinite().all() and gradient[0, 1] < 0 < gradient[0, 0]
    assert divergence(torch.tensor([[0.0, -torch.inf]]), torch.tensor([[0.0, 0.0]])).item() == pytest.approx(np.log(2))
    assert module.each(outputs, batch)["pseudo"].isfinite().all()


def test_the_other_divergence_from_a_class_that_is_ruled_out_is_infinite_and_refused(data):
    options = {"name": "joint", "direction": "student_teacher"}
    objective, _, _, batch = make(data, options, soft=["logits"], read="clean", mlm=False)
    batch.targets["soft"][0, 0] = -torch.inf
    objective.criterion.train()
    with pytest.raises(ConfigError, match=r"criterion\.direction: is student_teacher, but a teacher's score is minus"):
        objective(batch)


def test_what_is_evaluated_is_the_divergence_that_is_validated(data):
    objective, _, _, batch = make(data, soft=["logits"])
    task = build_data(Settings.of(task={"name": "joint_mlm", "soft": ["logits"]}, data={"path": data}), []).task
    outputs = {name: out.detach() for name, out in objective.model(**batch.inputs).items()}
    answers = task.answers(outputs, batch, objective.criterion.each(outputs, batch))
    for name, total in objective(batch).items():
        assert answers[name].sum() == pytest.approx(total.item(), rel=1e-5)


def test_a_teacher_that_is_sure_is_a_hard_label(data):
    objective, _, _, batch = make(data, soft=["logits"], read="clean", mlm=False)
    labels = batch.targets["pseudo"]
    batch.targets["soft"] = F.one_hot(labels.clamp(min=0), 2).float() * 1e4
    outputs = objective.model(**batch.inputs)
    hard = F.cross_entropy(outputs["pseudo"], labels, ignore_index=-1, reduction="sum")
    torch.testing.assert_close(objective.criterion.loss(outputs, batch)["pseudo"], hard)


def test_the_colder_the_nearer_to_hard_labels(data):
    """T -> 0: the divergence, without the square of T that keeps its gradient's size, is the cross-entropy."""
    far = []
    for temperature in (1.0, 0.3, 0.02):
        options = {"name": "joint", "temperature": temperature}
        objective, _, _, batch = make(data, options, soft=["logits"], read="clean", mlm=False)
        objective.criterion.train()
        likeliest = batch.targets["soft"].argmax(-1).masked_fill(batch.targets["pseudo"] < 0, -1)
        outputs = objective.model(**batch.inputs)
        soft = objective.criterion.loss(outputs, batch)["pseudo"] / temperature**2
        hard = F.cross_entropy(outputs["pseudo"] / temperature, likeliest, ignore_index=-1, reduction="sum")
        far.append(abs(soft - hard).item())
    assert far[0] > far[1] > far[2] and far[2] < 1e-3


def test_labels_of_tokens(data):
    objective, rows, batch, given = make(data, label="tags", soft=["p0", "p1"],
                                         soft_is="probabilities", read="clean")  # fmt: skip
    places, tags = batch.inputs["positions"]["pseudo"], rows.columns["tags"]
    here = places - rows.tokens.size  # in the clean copy
    assert (here >= 0).all() and batch.targets["pseudo"].tolist() == tags.reshape(-1)[here].tolist()
    assert len(places) == (tags[~rows.vocab.is_special[rows.tokens]] >= 0).sum()
    chance = np.exp(batch.targets["soft"])
    np.testing.assert_allclose(chance.sum(1), 1, atol=2e-3)
    assert objective(given)["pseudo"].isfinite() and objective.model(**given.inputs)["pseudo"].shape == (len(places), 2)


@pytest.mark.parametrize(("dtype", "least"), [("float16", 2.0**-24), ("float32", 2.0**-149)])
def test_a_small_probability_keeps_its_logarithm(dtype, least, data):
    """And 0 counts as the smallest that the column can hold."""
    _, rows, _, _ = make(data, label="tags", soft=["p0", "p1"], soft_is="probabilities", read="clean")
    task = build_data(Settings.of(task={"name": "joint_mlm", "label": "tags", "soft": ["p0", "p1"],
                                        "soft_is": "probabilities"}, data={"path": data}), []).task  # fmt: skip
    chances = np.full(rows.shape, 0, dtype)
    chances[:, 1] = 6e-7
    rows.columns.update(p0=chances, p1=(1 - chances).astype(dtype))
    found = task._soft(rows)
    stored = float(np.dtype(dtype).type(6e-7))
    assert found.dtype == np.float32
    assert np.allclose(found[:, 1, 0], np.log(stored), rtol=1e-6)
    assert np.allclose(found[:, 2, 0], np.log(least), rtol=1e-6)


def test_weights(data):
    """What is learned is the weighted sum of the two mean losses, each over its own targets."""
    objective, _, _, batch = make(data, {"name": "joint", "mlm_weight": 0.5, "label_weight": 2.0})
    sums, counts = objective(batch), objective.criterion.count(batch)
    by_hand = 0.5 * sums["mlm"] / counts["mlm"] + 2.0 * sums["pseudo"] / counts["pseudo"]
    total = weighted_total(sums, {name: float(count) for name, count in counts.items()}, objective.criterion.weights)
    torch.testing.assert_close(total, by_hand)
    assert len({counts["mlm"], counts["pseudo"], len(LABELS)}) == 3


def test_what_is_wrong_is_said(data):
    for options, error, said in (
        ({"label": "nothing"}, DataError, "0 labels.*taskmask annotate"),
        ({"label": "tags", "soft": ["p0"]}, DataError, "names 1 scores"),
        ({"soft": ["p0", "p1"]}, DataError, "'p0' of task.soft holds float16 of tokens; expected scores of rows"),
        ({"label": "tags", "soft": ["logits"]}, DataError, "holds float16 of rows; expected scores of tokens"),
        ({"soft": ["label"]}, DataError, "holds int32 of rows"),
        ({"label": "tags", "soft": ["p0", "p1"]}, DataError, "task.soft_is: is logits, and the scores are probab"),
        ({"soft": ["logits"], "soft_is": "probabilities"}, DataError, "is probabilities, and the scores are no prob"),
        ({"soft": ["logits", "logits"]}, ConfigError, "names a column twice"),
    ):
        with pytest.raises(error, match=said):
            make(data, **options)
    objective, *_ = make(data, mlm=False, read="clean")
    task = build_data(Settings.of(task={"name": "joint_mlm", "mlm": False}, data={"path": data}), []).task
    with pytest.raises(ConfigError, match=r"task.mlm: is false.*fine-tune it"):
        task.predict(objective.model, [{"text": "the <mask>"}], 1, 40)
    for options in ({"temperature": 2.0}, {"direction": "student_teacher"}):
        objective, _, _, batch = make(data, {"name": "joint", **options})
        with pytest.raises(ConfigError, match=r"criterion.temperature: and direction .*--task.soft"):
            objective(batch)
    with pytest.raises(ConfigError, match="expected one above 0"):
        make(data, {"name": "joint", "mlm_weight": 0.0, "label_weight": 0.0})


def test_scores_in_the_order_of_other_classes_are_refused(vocab, tmp_path):
    """One column a class, named the wrong way round, would teach the contrary."""
    rows = [np.append(ids, vocab.eos) for ids in vocab.encode(TEXTS)] * 50
    label = np.arange(len(rows)) % 2
    columns = {
        "tokens": (Column("ragged", vocab.token_dtype), ragged(rows)),
        "label": (Column("row", "int32"), label),
        "bad": (Column("row", "float16"), np.where(label == 0, 0.75, 0.25)),
        "good": (Column("row", "float16"), np.where(label == 1, 0.75, 0.25)),
    }
    write(tmp_path / "data", vocab, {"train": columns}, {"label": ["bad", "good"]})
    options = {"soft_is": "probabilities", "mlm": False}
    assert make(str(tmp_path / "data"), soft=["bad", "good"], **options)
    with pytest.raises(DataError, match=r"in 0\.0% of 200 cases; expected .* in this order: bad, good"):
        make(str(tmp_path / "data"), soft=["good", "bad"], **options)


def test_a_score_that_is_no_number_counts_nothing_where_there_is_no_label(data):
    objective, _, _, batch = make(data, mlm=False, read="clean", soft=["logits"])
    batch.targets["soft"][LABELS.index(-1)] = float("nan")
    objective(batch)["pseudo"].backward()
    assert all(weight.grad is None or weight.grad.isfinite().all() for weight in objective.parameters())


def test_the_variants_of_the_paper():
    """What each reads and learns; a teacher's scores where the name says so."""
    names = ("v1_joint", "one_hot", "kl_mlm", "v4_kl")
    variants = {name: Settings.of(task=f"pseudo_{name}").task.options for name in names}
    assert {name: (one.label, one.soft, one.soft_is, one.read, one.mlm) for name, one in variants.items()} == {
        "v1_joint": ("pseudo", (), "logits", "masked", True),
        "one_hot": ("pseudo", (), "logits", "masked", False),
        "kl_mlm": ("pseudo", ("logits",), "logits", "masked", True),
        "v4_kl": ("pseudo", ("logits",), "logits", "masked", False),
    }


@pytest.mark.parametrize("read", ["masked", "clean"])
@pytest.mark.parametrize("mode", ["together", "in_turn", "sequential"])
def test_masks_that_cover_a_row_do_so_over_its_visits(data, read, mode):
    chosen = Settings.of(
        task={"name": "joint_mlm", "read": read},
        data={"path": data, "length": 40},
        masker={"name": "fully_explored", "masks": 3, "mode": mode},
    )
    parts = build_data(chosen, ["train"])
    rows = parts.sources["train"][np.arange(4)]
    visits = {"together": [(1, 0)], "in_turn": [(1, 0), (2, 0), (3, 0)], "sequential": [(1, 0), (1, 1), (1, 2)]}
    masked = np.zeros(rows.tokens.size, int)
    for epoch, turn in visits[mode]:
        batch = parts.task.make_batch(rows, RowRng(1, epoch, rows.ids, turn=turn))
        masked += np.bincount(batch.inputs["positions"]["mlm"] % rows.tokens.size, minlength=rows.tokens.size)
        assert len(batch.targets["pseudo"]) == len(batch.inputs["tokens"])
        assert (batch.targets["pseudo"] >= 0).sum() == (1 if read == "clean" or mode != "together" else 3) * 3
    assert np.array_equal(masked.reshape(rows.shape), rows.maskable.astype(int))
