"""The predicted variance of the trainer's gradient, against masks of one batch that are drawn again and again."""

import numpy as np
import pytest
import torch

from taskmask.analysis.variance import gradients as gradients_module
from taskmask.analysis.variance.gradients import Gradients, Subject, collect
from taskmask.analysis.variance.measure import summarised
from taskmask.config.settings import Settings
from taskmask.data.batch import TokenBatch
from taskmask.data.rng import RowRng
from taskmask.maskers.base import build_masker
from taskmask.maskers.policy import read_policy
from taskmask.registry import MASKERS, TASKS
from taskmask.stats.gradient_moments import forms_of
from taskmask.tokenizer.tokenizer import Vocabulary, train_vocabulary
from taskmask.training import distributed
from taskmask.training.build import build_objective
from taskmask.training.data_loader import Ticket, on_device
from taskmask.training.train_step import Updater

WORDS = "amber basin candle dapper eagle fabric garden harbor island jacket kettle ladder magnet napkin orchid".split()  # noqa: SIM905
SMALL = {"layers": 1, "width": 16, "heads": 2, "dropout": 0.0, "attention_dropout": 0.0}
FEW, SLOW = {"span"}, pytest.mark.slow
LENGTHS = np.random.default_rng(0).integers(8, 28, size=16)  # tokens of the rows
OPTIONS = {"fully_explored": "masks=3"}
MODES = ["span lengths=poisson", "fully_explored mode=in_turn", "fully_explored mode=sequential"]
POLICIES = [pytest.param(name, marks=[] if name in FEW else SLOW) for name in [*MASKERS.names(), *MODES]]


@pytest.fixture(scope="module")
def vocab():
    return Vocabulary(train_vocabulary([" ".join(WORDS)] * 20, 300, "bpe"))


class Made:
    """Rows that are made up, with a column of 0 and 1 for each that is asked for: `source[ids]` gathers them."""

    def __init__(self, vocab, columns, lengths):
        self.vocab, self.columns = vocab, columns
        random, ordinary = np.random.default_rng(3), np.flatnonzero(~vocab.is_special)
        self.contents = [random.choice(ordinary, length) for length in lengths]

    def __getitem__(self, ids):
        lengths = np.array([len(self.contents[row]) + 2 for row in ids])
        tokens = np.full((len(ids), lengths.max()), self.vocab.pad)
        for line, row in zip(tokens, ids, strict=True):
            line[: len(self.contents[row]) + 2] = [self.vocab.bos, *self.contents[row], self.vocab.eos]
        rows = TokenBatch(tokens, lengths, np.asarray(ids), self.vocab)
        for name in self.columns:
            chosen = (RowRng(0, 0, rows.ids).uniform(name, rows.shape[1]) < 0.3) & rows.maskable
            rows.columns[name] = chosen.astype(np.int64)
        rows.columns["label"] = np.array([row % 3 - 1 for row in ids])  # every third has none
        rows.columns["logits"] = np.stack([ids, -np.asarray(ids)], axis=1) / 3.0
        return rows


def parts_of(vocab, policy, task="masked_lm", **sections):
    """A task with a policy, and its objective, with weights that are not as small as they begin."""
    settings = Settings.of(
        task=task, data={"length": 40}, run={"threads": 1}, **{"model": {"name": "mini", **SMALL}, **sections}
    )
    chosen = read_policy(policy)
    masker = build_masker(chosen.name, chosen.options, vocab)
    made = TASKS.get(settings.task.name).make(settings.task.options, vocab, masker, {"label": ["bad", "good"]})
    made.soft_order, made.of_tokens = [0, 1], False  # as `prepare` finds them in a dataset
    objective = build_objective(settings, made)
    with torch.no_grad():
        for weight in objective.parameters():
            weight.mul_(8 if weight.ndim > 1 else 1)
    return settings, made, objective


def draw_of(task, ids, number):
    return RowRng(1, 1000 + 7 * number, ids, progress=1.0, turn=number % task.turns)


def of_trainer(settings, task, objective, source, ids, draws):
    """What the trainer takes of one batch under many draws of its masks: gradients float64 [draws, P], and counts."""
    world, device = distributed.join(settings.run)
    updater = Updater(settings, objective.train(), world, device)
    rows, found, counts = source[ids], [], []
    for number in range(draws):
        ticket = Ticket(ids, draw_of(task, ids, number))
        batch = on_device(task.make_batch(rows, ticket.rng), device)
        counts.append(objective.criterion.count(batch))
        updater.optimizer.zero_grad(set_to_none=True)
        updater._gradients([(ticket, batch)], counts[-1], 1)
        parts = [torch.zeros_like(p) if p.grad is None else p.grad for p in updater.parameters]
        found.append(torch.cat([grad.reshape(-1) for grad in parts]).double().numpy())
    return np.stack(found), counts


def predicted(task, objective, source, ids, draws):
    """The variance of the gradient of a batch of these rows, as `taskmask variance` has it."""
    gradients = Gradients(objective, torch.device("cpu"))
    subject = Subject("policy", task, forms_of(task.views))
    (found,) = summarised(collect(gradients, [subject], source, ids, draws, 5), gradients.names)
    return found.figures.masks[0] / len(ids)


@pytest.fixture
def same_draws(monkeypatch):
    """Makes both sides see the same masks, so that chance tells them apart no more than it must."""

    def drawn(masker, rows, num, seed, number):
        return [draw_of(masker, rows.ids, n) for n in range(num)]

    monkeypatch.setattr(gradients_module, "draws_of", drawn)


def compared(vocab, policy, draws, lengths, **sections):
    """The prediction, and the variance of the trainer's gradients: of their linear part for one loss, and as it is."""
    settings, task, objective = parts_of(vocab, policy, **sections)
    ids, source = np.arange(len(lengths)), Made(vocab, task.masker.columns, lengths)
    found, counts = of_trainer(settings, task, objective, source, ids, draws)
    expected, linear = predicted(task, objective, source, ids, draws), np.nan
    if len(counts[0]) == 1:
        shares = np.array([next(iter(count.values())) for count in counts])
        shares = (shares / shares.mean())[:, None]
        linear = (shares * (found - (shares * found).mean(0))).var(axis=0, ddof=1).sum()
    return expected, linear, found.var(axis=0, ddof=1).sum()


@pytest.mark.parametrize("policy", POLICIES)
def test_every_masker_makes_the_trainers_gradient_vary_as_is_predicted(policy, vocab, same_draws):
    name, *options = policy.split()
    text = " ".join([name, "ratio=0.3", OPTIONS.get(name, ""), *options])
    expected, linear, truth = compared(vocab, text, 40, LENGTHS)
    assert expected == pytest.approx(linear, rel=0.12)
    assert expected == pytest.approx(truth, rel=0.2)  # to first order in one over the rows


CRITERIA = {
    "joint": {"task": {"name": "joint_mlm"}, "criterion": {"name": "joint", "mlm_weight": 0.7, "label_weight": 2.0}},
    "joint, soft, clean": {"task": {"name": "joint_mlm", "read": "clean", "soft": ["logits"]}},
    "denoising, spans": {"task": {"name": "denoising", "output": "spans", "insertions": 0.2, "permute": True}},
    "denoising, smoothed": {"task": "denoising", "criterion": {"name": "seq2seq", "label_smoothing": 0.3}},
}


CASES = [
    pytest.param(
        name, policy, marks=[] if (name, policy) in (("joint", "span"), ("denoising, spans", "span")) else SLOW
    )
    for name in CRITERIA
    for policy in ("span", "fully_explored masks=3")
]


@pytest.mark.parametrize(("name", "policy"), CASES)
def test_the_criterion_is_that_of_the_run(name, policy, vocab, same_draws):
    sections = CRITERIA[name]
    if "denoising" in name:
        sections = {**sections, "model": {"name": "encoder_decoder", "decoder_layers": 1, **SMALL}}
    expected, linear, truth = compared(vocab, f"{policy} ratio=0.3", 40, LENGTHS, **sections)
    assert np.isnan(linear) or expected == pytest.approx(linear, rel=0.12)
    assert expected == pytest.approx(truth, rel=0.2)
