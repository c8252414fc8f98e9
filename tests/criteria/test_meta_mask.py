"""The gradient of a masking policy: against finite differences, and on a toy where one token is worth masking."""

import numpy as np
import pytest
import torch
from torch import nn

from taskmask.criteria import MetaMaskLossConfig
from taskmask.criteria.meta_mask import Episode, MetaMaskCriterion, entropy, quiet
from taskmask.data.batch import Batch
from taskmask.data.rng import RowRng
from taskmask.errors import ConfigError
from taskmask.modules.heads_spec import MOST_DRAWS, HeadSpec
from taskmask.modules.subsets import BLOCKED, inclusion, straight_through
from taskmask.registry import MODELS

TOKENS, VOCABULARY, MASK = 10, 12, 0
GRADIENTS = ("exact", "finite_difference", "reinforce")


class Toy(nn.Module):
    """Says what stands at each place, whatever it reads, and the label as it says the token at place 0."""

    def __init__(self):
        super().__init__()
        self.guesses = nn.Parameter(torch.zeros(TOKENS, VOCABULARY))
        self.heads = nn.ModuleDict({"policy": nn.Linear(1, TOKENS, bias=False)})
        nn.init.zeros_(self.heads["policy"].weight)

    def forward(self, tokens, keep=None, positions=None, blend=None):
        places = torch.arange(TOKENS, device=tokens.device).repeat(len(tokens))
        strength = 1 if blend is None else 0.5 + 0.5 * blend[1].flatten()[positions["mlm"], None]
        policy = self.heads["policy"](torch.ones(len(tokens), 1, dtype=self.guesses.dtype)).view(-1, 1)
        logits = self.guesses[places[positions["mlm"]]] * strength
        return {"mlm": logits, "label": self.guesses[0].expand(len(tokens), -1), "policy": policy}


def batch_of(rows=4, seed=1, epoch=1, progress=0.5):
    """Rows whose first token is always the same, and is the label; the others are noise."""
    rng = RowRng(seed, epoch, np.arange(rows), progress=progress)
    tokens = 1 + (rng.bits("tokens", TOKENS) % np.uint64(VOCABULARY - 1)).astype(np.int64)
    tokens[:, 0] = 3
    uniform = rng.uniform("policy", MOST_DRAWS * TOKENS).reshape(rows, MOST_DRAWS, TOKENS).swapaxes(0, 1)
    inputs = {"tokens": tokens, "positions": {"mlm": np.zeros(0, np.int64)}}
    targets = {
        "right": np.full(rows, 3), "answer": inputs, "fill": {"positions": {"mlm": np.arange(rows * TOKENS)}},
        "maskable": np.ones((rows, TOKENS), bool), "sizes": np.ones(rows, np.int64), "uniform": uniform.copy(),
        "progress": np.array(progress), "mask": np.array(MASK),
    }  # fmt: skip
    return Batch(inputs, targets, np.arange(rows), rows * TOKENS).map(torch.from_numpy)


def gradient_of(model, batch, **options):
    criterion = MetaMaskCriterion(MetaMaskLossConfig(**options))
    model.zero_grad()
    criterion(model, batch)["meta"].backward()
    return model.heads["policy"].weight.grad.clone().flatten()


@pytest.mark.parametrize("gradient", GRADIENTS)
def test_the_token_worth_masking_is_found(gradient):
    model = Toy()
    criterion = MetaMaskCriterion(MetaMaskLossConfig(gradient=gradient, inner_lr=1.0, samples=8, mlm_weight=0))
    optimizer = torch.optim.Adam([model.heads["policy"].weight], lr=0.1)
    mass = []
    for step in range(150):
        mass.append(model.heads["policy"].weight.detach().flatten().softmax(0)[0].item())
        optimizer.zero_grad()
        criterion(model, batch_of(epoch=step, progress=step / 150))["meta"].backward()
        optimizer.step()
    assert mass[0] == pytest.approx(0.1) and mass[-1] > 0.8


def test_exact_gradient_is_that_of_finite_differences():
    torch.manual_seed(1)
    model, batch = Toy().double(), batch_of()
    nn.init.normal_(model.guesses)
    episode = Episode(model, batch, MetaMaskLossConfig(inner_steps=3, inner_lr=0.7), True)
    mask = inclusion(torch.randn(4, TOKENS, dtype=torch.float64), batch.targets["sizes"]).requires_grad_()
    with quiet(model):
        (grad,) = torch.autograd.grad(episode.loss_after(mask, create_graph=True), mask)
        for place in ((0, 0), (1, 4), (3, 9)):
            ends = []
            for sign in (1, -1):
                moved = mask.detach().clone()
                moved[place] += sign * 1e-5
                ends.append(episode.loss_after(moved, create_graph=False).item())
            assert grad[place].item() == pytest.approx((ends[0] - ends[1]) / 2e-5, rel=1e-4, abs=1e-9)


def real_batch(with_decoder, rows=2, length=7):
    """Rows of different lengths, with a label each, or an answer of another text."""
    numbers, head = torch.Generator().manual_seed(5), "seq2seq" if with_decoder else "mlm"
    keep = torch.arange(length) < torch.tensor([length, length - 2])[:, None]
    rng = lambda *shape: torch.randint(3, VOCABULARY, shape, generator=numbers)  # noqa: E731
    nothing = torch.zeros(0, dtype=torch.int64)
    inputs = {"tokens": rng(rows, length), "keep": keep, "positions": {head: nothing}}
    fill = {"positions": {head: keep.flatten().nonzero()[:, 0]}}
    answer, right = inputs, torch.tensor([0, 2])
    if with_decoder:
        inputs["target"], fill["target"] = torch.ones(rows, 1, dtype=torch.int64), rng(rows, length)
        right = rng(rows * 3)
        answer = {"tokens": rng(rows, 4), "target": rng(rows, 3), "positions": {head: torch.arange(rows * 3)}}
    targets = {
        "right": right, "answer": answer, "fill": fill, "maskable": keep, "sizes": torch.tensor([2, 1]),
        "uniform": torch.rand(MOST_DRAWS, rows, length, generator=numbers), "progress": torch.tensor(0.5),
        "mask": torch.tensor(MASK),
    }  # fmt: skip
    return Batch(inputs, targets, np.arange(rows), int(keep.sum()))


def real_model(with_decoder, std=0.5):
    """A model of one layer in double precision; the larger its weights, the more curved its loss."""
    torch.manual_seed(4)
    size = {"layers": 1, "width": 8, "heads": 2, **({"decoder_layers": 1} if with_decoder else {})}
    heads = {"policy": HeadSpec("token", 1), **({"seq2seq": HeadSpec("lm")} if with_decoder else
             {"mlm": HeadSpec("lm"), "label": HeadSpec("row", 3)})}  # fmt: skip
    make = MODELS.get("encoder_decoder" if with_decoder else "encoder")
    model = make.make(make.config(**size), vocab_size=VOCABULARY, max_length=8, heads=heads).double()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=std)
    return model


@pytest.mark.parametrize("with_decoder", [False, True])
def test_the_finite_difference_through_a_real_model_is_near_the_exact_gradient(with_decoder):
    model, batch = real_model(with_decoder, std=0.2), real_batch(with_decoder)
    found = {}
    for name in ("exact", "finite_difference"):
        criterion = MetaMaskCriterion(MetaMaskLossConfig(gradient=name, inner_lr=0.3))
        policy = list(model.heads["policy"].parameters())
        found[name] = torch.cat([g.flatten() for g in torch.autograd.grad(criterion(model, batch)["meta"], policy)])
    error = (found["finite_difference"] - found["exact"]).norm() / found["exact"].norm()
    assert found["exact"].norm() > 1e-4 and error < 1e-4


@pytest.mark.parametrize("steps", [1, 2])
@pytest.mark.parametrize("with_decoder", [False, True])
def test_the_gradient_through_a_real_model_is_that_of_finite_differences(with_decoder, steps):
    model = real_model(with_decoder)
    batch = real_batch(with_decoder)
    episode = Episode(model, batch, MetaMaskLossConfig(inner_steps=steps, inner_lr=0.3), True)
    with quiet(model):
        loss, _, mask = episode.meta_loss()
        expected = torch.zeros_like(mask)
        for place in np.ndindex(*mask.shape):
            ends = []
            for sign in (1, -1):
                moved = mask.clone()
                moved[place] += sign * 1e-4
                ends.append(episode.loss_after(moved, create_graph=False).item())
            expected[place] = (ends[0] - ends[1]) / 2e-4
        moved = mask.clone().requires_grad_()
        (found,) = torch.autograd.grad(episode.loss_after(moved, create_graph=True), moved)
        scores = episode.scores()
        mask = straight_through(scores, batch.targets["sizes"], batch.targets["uniform"][0], episode.temperature())
        policy = list(episode.policy.values())
        of_policy = torch.autograd.grad((mask * expected).sum(), policy)
    scale = expected.abs().max().item()
    assert scale > 1e-4
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6 * scale)
    for one, other in zip(torch.autograd.grad(loss, policy), of_policy, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6 * scale)


def test_the_finite_difference_of_the_weights_is_near_the_exact_gradient():
    torch.manual_seed(2)
    model, batch = Toy().double(), batch_of()
    nn.init.normal_(model.guesses)
    exact, near = (gradient_of(model, batch, gradient=name) for name in ("exact", "finite_difference"))
    assert exact.norm() > 0
    torch.testing.assert_close(near, exact, rtol=1e-3, atol=1e-3 * exact.abs().max().item())


@pytest.mark.slow
def test_reinforce_has_the_gradient_of_the_expected_loss():
    torch.manual_seed(3)
    model = Toy().double()
    nn.init.normal_(model.guesses)
    nn.init.normal_(model.heads["policy"].weight)
    config = MetaMaskLossConfig(inner_lr=1.0)
    scores = model.heads["policy"].weight.detach().flatten()
    episode = Episode(model, batch_of(rows=1), config, True)
    losses = []
    for place in range(TOKENS):
        mask = torch.zeros(1, TOKENS, dtype=torch.float64)
        mask[0, place] = 1
        losses.append(episode.loss_after(mask, create_graph=False).item())
    weights = scores.clone().requires_grad_()
    (expected,) = torch.autograd.grad((weights.softmax(0) * torch.tensor(losses)).sum(), weights)
    found = []
    for epoch in range(250):
        batch = batch_of(rows=1, epoch=epoch)
        batch.inputs["tokens"].copy_(episode.inputs["tokens"])
        found.append(gradient_of(model, batch, gradient="reinforce", inner_lr=1.0, samples=16))
    mean, spread = torch.stack(found).mean(0), torch.stack(found).std(0) / np.sqrt(len(found))
    assert ((mean - expected).abs() < 5 * spread + 1e-9).all() and mean.norm() > 5 * spread.norm()


def test_first_order_is_refused_and_has_no_gradient():
    with pytest.raises(ConfigError, match=r"criterion\.gradient: is first_order: .* exactly zero"):
        MetaMaskLossConfig(gradient="first_order")
    model, batch = Toy(), batch_of()
    episode = Episode(model, batch, MetaMaskLossConfig(), True)
    mask = torch.full((4, TOKENS), 0.1, requires_grad=True)
    with quiet(model):
        loss = episode.loss_after(mask, create_graph=False)
        assert torch.autograd.grad(loss, mask, allow_unused=True) == (None,)


@pytest.mark.parametrize("gradient", GRADIENTS)
def test_losses_teach_whom_they_should(gradient):
    model, batch = Toy(), batch_of()
    criterion = MetaMaskCriterion(MetaMaskLossConfig(gradient=gradient, inner_lr=1.0))
    policy, guesses = model.heads["policy"].weight, model.guesses
    sums = criterion(model, batch)
    assert set(sums) == {*criterion.weights, "task_plain"} and set(criterion.weights) == set(criterion.count(batch))
    assert torch.autograd.grad(sums["meta"], (policy, guesses), allow_unused=True)[1] is None
    for name in ("task", "mlm"):
        of_policy, of_model = torch.autograd.grad(sums[name], (policy, guesses), allow_unused=True)
        assert of_policy is None and of_model.abs().sum() > 0
    assert criterion.count(batch) == {"meta": 4, "task": 4, "mlm": 4.0}


@pytest.mark.parametrize(("progress", "expected"), [(0.0, 2.0), (0.5, 1.0), (1.0, 0.5)])
def test_the_temperature_falls_geometrically(progress, expected):
    config = MetaMaskLossConfig(temperature=2.0, temperature_end=0.5)
    assert Episode(Toy(), batch_of(progress=progress), config, True).temperature() == pytest.approx(expected)


def test_the_bonus_is_the_entropy_and_makes_a_policy_less_sure():
    """Of two tokens with one mask, each is chosen with probability p or 1 - p: 2 H(p) in all."""
    scores = torch.tensor([[1.0, -0.5, BLOCKED]], dtype=torch.float64, requires_grad=True)
    found = entropy(scores, torch.ones(1, dtype=torch.int64))
    p = torch.sigmoid(torch.tensor(1.5, dtype=torch.float64)).item()
    assert found.item() == pytest.approx(-2 * (p * np.log(p) + (1 - p) * np.log(1 - p)), rel=1e-5)
    (gradient,) = torch.autograd.grad(found, scores)
    assert gradient[0, 0] < 0 < gradient[0, 1]  # to raise it, the likelier one becomes less likely
    model = Toy()
    nn.init.normal_(model.heads["policy"].weight, generator=torch.Generator().manual_seed(1))
    plain, pushed = (gradient_of(model, batch_of(), gradient="exact", entropy=e) for e in (0.0, 3.0))
    assert not torch.allclose(plain, pushed)


def test_validation_is_without_chance_and_without_gradient():
    model = Toy()
    criterion = MetaMaskCriterion(MetaMaskLossConfig(inner_lr=1.0)).eval()
    with torch.no_grad():
        nn.init.normal_(model.heads["policy"].weight, generator=torch.Generator().manual_seed(1))
        one, other = (criterion(model.eval(), batch_of(epoch=epoch, seed=1)) for epoch in (1, 1))
        again = batch_of()
        again.targets["uniform"].mul_(0.5)
        third = criterion(model, again)
    assert one == other == third and not any(value.requires_grad for value in one.values())
    assert not model.training


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"gradient": "finite_difference", "inner_steps": 2}, r"inner_steps: is 2; expected 1 with finite_difference"),
        ({"inner_steps": 0}, r"inner_steps: is 0; expected at least 1"),
        ({"inner_lr": 0}, r"inner_lr: is 0; expected above 0"),
        ({"samples": 17}, r"samples: is 17; expected from 2 to 16"),
        ({"entropy": -1}, r"entropy: is -1; expected 0 or more"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(ConfigError, match=message):
        MetaMaskLossConfig(**options)
