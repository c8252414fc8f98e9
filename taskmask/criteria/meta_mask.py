"""What a masking policy is taught by: the loss of a task after a step of pre-training with the policy's masks.

Shapes: N rows, T tokens, P tokens that may be masked, R right answers of the task, V vocabulary.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel

from taskmask.criteria import MetaMaskLossConfig
from taskmask.criteria.base import Criterion
from taskmask.data.batch import Batch
from taskmask.modules.subsets import (
    BLOCKED,
    inclusion,
    largest,
    log_probability,
    sample_subsets,
    straight_through,
)

POLICY = "policy"
"""Name of the head that scores tokens; its parameters are the policy, all others the language model."""

Weights = dict[str, Tensor]


class MetaMaskCriterion(Criterion):
    """Teaches a policy by the task's loss after inner steps, and the language model the task and the policy's masks.

    The rows of a micro-batch are one episode: the language model, a copy of it, fills in what the policy masks, in
    `inner_steps` steps of gradient descent, and then answers what the task asks of the same rows. The policy's gradient
    is that of this last loss, less the bonus for entropy. It reads hidden states of the language model, which get no
    gradient from it. Training also sums the two losses of the task without bonus and dropout, so that their difference
    is what the inner steps gain.

    **Source:** Ye et al. 2021 (EMNLP), section on meta-learned policies, reconstructed; the finite difference is that
    of Liu et al. 2019 (arXiv 1806.09055), equation 8.
    """

    blends = True

    def __init__(self, config: MetaMaskLossConfig):
        super().__init__(config)
        self.weights = {"meta": 1.0, "task": config.task_weight, "mlm": config.mlm_weight}

    @staticmethod
    def differentiates_twice(config: MetaMaskLossConfig) -> bool:
        """With the exact gradient of the policy."""
        return config.gradient == "exact"

    def count(self, batch: Batch) -> dict[str, float]:
        """Right answers of the task, twice, and masked tokens."""
        num = len(batch.targets["right"])
        return {"meta": num, "task": num, "mlm": float(batch.targets["sizes"].sum())}

    def forward(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Runs the inner steps and all losses."""
        teaching = torch.is_grad_enabled()
        episode = Episode(model, batch, self.config, teaching)
        with quiet(model), torch.enable_grad():
            after, bonus, mask = episode.meta_loss()
        num = len(batch.targets["right"])
        sums = {"meta": (after - bonus) * num, "task": episode.answer_loss(model) * num}
        if not teaching:
            sums = {name: value.detach() for name, value in sums.items()}
        else:
            with quiet(model), torch.no_grad():
                before = episode.answered(episode.weights)
            sums["task_plain"] = before * num
            if self.config.entropy:
                sums |= {"meta_plain": after.detach() * num, "bonus": bonus.detach() * num}
        return {**sums, "mlm": episode.filling_loss(model, mask)}


class Episode:
    """The losses of one micro-batch.

    Args:
        model: the language model with its policy.
        batch: the rows.
        config: how the policy is taught.
        teaching: whether masks are drawn, and gradients needed; else they are the policy's favourites.
    """

    def __init__(self, model: nn.Module, batch: Batch, config: MetaMaskLossConfig, teaching: bool):
        self.model, self.config, self.teaching = model, config, teaching
        self.inputs, self.targets = batch.inputs, batch.targets
        self.policy = {name: p for name, p in model.named_parameters() if f".heads.{POLICY}." in f".{name}"}
        self.weights = {name: p.detach().requires_grad_() for name, p in model.named_parameters()}
        for name in self.policy:
            del self.weights[name]

    def meta_loss(self) -> tuple[Tensor, Tensor, Tensor]:
        """Returns what teaches the policy, and a mask [N, T].

        Its gradient is that of the mean loss of the task after the inner steps, [], less the bonus for entropy, [].
        """
        scores = self.scores()
        sizes, config = self.targets["sizes"], self.config
        if not self.teaching:
            mask = largest(scores, sizes).to(scores.dtype)
            return self.loss_after(mask, create_graph=False), scores.new_zeros(()), mask
        bonus = config.entropy * entropy(scores, sizes)
        if config.gradient == "reinforce":
            loss, mask = self.reinforced(scores)
            return loss, bonus, mask
        mask = straight_through(scores, sizes, self.targets["uniform"][0], self.temperature())
        if config.gradient == "exact":
            return self.loss_after(mask, create_graph=True), bonus, mask.detach()
        return self.by_finite_difference(mask), bonus, mask.detach()

    def temperature(self) -> float:
        """Falls geometrically from the first to the last over the run."""
        first, last = self.config.temperature, self.config.temperature_end
        return first * (last / first) ** float(self.targets["progress"])

    def scores(self) -> Tensor:
        """What the policy gives each token, fp32 [N, T]; the language model gets no gradient of it."""
        frozen = {name: p.detach() for name, p in self.weights.items()}
        found = functional_call(self.model, {**frozen, **self.policy}, kwargs=self.inputs)[POLICY]
        shape = self.inputs["tokens"].shape
        return in_full(found).view(shape).masked_fill(~self.targets["maskable"], BLOCKED)  # [N T, 1] -> [N, T]

    def filled(self, weights: Weights, mask: Tensor) -> Tensor:
        """Returns the mean loss of filling in the masked tokens, [], where embeddings are blended as the mask says."""
        blend = (torch.full_like(self.inputs["tokens"], int(self.targets["mask"])), mask)
        inputs = {**self.inputs, **self.targets["fill"], "blend": blend}
        (name,) = self.targets["fill"]["positions"]
        logits = functional_call(self.model, {**weights, **self.policy_as_it_is()}, kwargs=inputs)[name]
        at = self.targets["fill"]["positions"][name]
        losses = F.cross_entropy(in_full(logits), self.inputs["tokens"].flatten()[at], reduction="none")
        return (losses * mask.flatten()[at]).sum() / mask.sum().clamp(min=1.0)

    def answered(self, weights: Weights) -> Tensor:
        """Returns the mean loss of the task, []."""
        return self._task_loss(functional_call(self.model, {**weights, **self.policy_as_it_is()}, kwargs=self.asked))

    @property
    def asked(self) -> dict[str, Any]:
        """The inputs for which the task has right answers."""
        return self.targets["answer"]

    def _task_loss(self, outputs: dict[str, Tensor]) -> Tensor:
        logits = outputs["label"] if "label" in outputs else outputs["seq2seq"]
        return F.cross_entropy(in_full(logits), self.targets["right"])

    def policy_as_it_is(self) -> Weights:
        """The policy without gradient, for passes in which it plays no part."""
        return {name: p.detach() for name, p in self.policy.items()}

    def after(self, mask: Tensor, create_graph: bool) -> Weights:
        """Returns the weights of the language model after the inner steps with a mask."""
        weights = self.weights
        for _ in range(self.config.inner_steps):
            loss = self.filled(weights, mask)
            grads = torch.autograd.grad(loss, list(weights.values()), create_graph=create_graph, allow_unused=True)
            stepped = {
                name: value if grad is None else value - self.config.inner_lr * grad
                for (name, value), grad in zip(weights.items(), grads, strict=True)
            }
            weights = stepped if create_graph else {n: w.detach().requires_grad_() for n, w in stepped.items()}
        return weights

    def loss_after(self, mask: Tensor, create_graph: bool) -> Tensor:
        """Returns the mean loss of the task after the inner steps with a mask."""
        return self.answered(self.after(mask, create_graph))

    def by_finite_difference(self, mask: Tensor) -> Tensor:
        """As `loss_after`, with a gradient from two more losses instead of second derivatives; for one inner step."""
        after = self.after(mask.detach(), create_graph=False)
        loss = self.answered(after)
        grads = torch.autograd.grad(loss, list(after.values()), allow_unused=True)
        direction = {name: grad for name, grad in zip(after, grads, strict=True) if grad is not None}
        norm = torch.stack([grad.square().sum() for grad in direction.values()]).sum().sqrt()
        size = 0.01 / norm.clamp(min=1e-12)
        ends = []
        for sign in (1.0, -1.0):
            moved = {
                name: value.detach() + sign * size * direction[name] if name in direction else value.detach()
                for name, value in self.weights.items()
            }
            ends.append(self.filled(moved, mask))
        slope = -self.config.inner_lr * (ends[0] - ends[1]) / (2 * size)
        return loss.detach() + slope - slope.detach()

    def reinforced(self, scores: Tensor) -> tuple[Tensor, Tensor]:
        """As `loss_after`, over several draws; the gradient is that of their log-probabilities, by how good each is."""
        sizes, losses, chances = self.targets["sizes"], [], []
        for uniform in self.targets["uniform"][: self.config.samples]:
            chosen = sample_subsets(scores, sizes, uniform)
            losses.append(self.loss_after(chosen.to(scores.dtype), create_graph=False).detach())
            chances.append(log_probability(scores, chosen, sizes).sum())
        loss, chance = torch.stack(losses), torch.stack(chances)
        others = (loss.sum() - loss) / (len(loss) - 1)  # the baseline of a draw is the mean of the others
        slope = ((loss - others) * chance).mean()
        return loss.mean() + slope - slope.detach(), chosen.to(scores.dtype)

    def answer_loss(self, model: nn.Module) -> Tensor:
        """The mean loss of the task now, with the gradient of the language model."""
        return self._task_loss(model(**self.asked))

    def filling_loss(self, model: nn.Module, mask: Tensor) -> Tensor:
        """The summed loss of the masked tokens now, with the gradient of the language model."""
        (name,) = self.targets["fill"]["positions"]
        chosen = mask.detach().bool()
        at = chosen.flatten().nonzero()[:, 0]
        tokens = self.inputs["tokens"]
        inputs = {**self.inputs, **self.targets["fill"], "positions": {name: at}}
        inputs["tokens"] = tokens.masked_fill(chosen, int(self.targets["mask"]))
        return F.cross_entropy(in_full(model(**inputs)[name]), tokens.flatten()[at], reduction="sum")


def in_full(values: Tensor) -> Tensor:
    """Returns them in fp32, where they have less."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def entropy(scores: Tensor, sizes: Tensor) -> Tensor:
    """Returns the mean over rows of the entropy of each token's choice, in nats a token that is masked, []."""
    chances = inclusion(scores, sizes).clamp(1e-6, 1 - 1e-6)
    each = -(chances * chances.log() + (1 - chances) * (1 - chances).log())
    return (each.masked_fill(scores <= BLOCKED, 0.0).sum(1) / sizes.clamp(min=1)).mean()


@contextlib.contextmanager
def quiet(model: nn.Module) -> Iterator[None]:
    """Leaves dropout out, so that losses can be compared; in fp32, with attention that has second derivatives."""
    training, kind = model.training, next(model.parameters()).device.type
    model.eval()
    try:
        with torch.autocast(kind, enabled=False), sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        model.train(training)
