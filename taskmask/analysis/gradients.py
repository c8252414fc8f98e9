"""Gradients of a masked language model, row by row and mask by mask, and their inner products.

Shapes: R rows, D draws of a row, K views of a draw, P weights, G groups of weights.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from taskmask.analysis.observe import Policy
from taskmask.data.draws import Draw
from taskmask.data.rows import Batch, Rows
from taskmask.data.source import Source
from taskmask.errors import StorageError
from taskmask.machine import is_out_of_memory
from taskmask.maskers.base import Masker, MaskerConfig, highest, random_keys
from taskmask.tasks.base import Task
from taskmask.training.loader import on_device
from taskmask.training.objective import Objective, weighted_total

WINDOWS = 5
SHORT = 4096  # numbers that a row's mean gradient of a group is kept as, to be compared with other rows


@dataclass
class Products:
    """What was found out about the gradients of a policy.

    Attributes:
        policy: its name.
        views: masks of an update.
        products: float64 [G, R, D, K, D, K], inner products of the views' gradients, group by group.
        counts: float64 [R, D, K], targets of each view.
        away: float64 [G, R], squared distance of a row's mean gradient from the mean over rows; of sketches of 4096
            numbers where a group has more weights.
        with_baseline: float64 [G, R], inner product of a row's mean gradient with that of the first policy.
        chosen: bool [R][D, K, T], the masks.
        maskable: int [R], tokens of each row that can be masked.
    """

    policy: str
    views: int
    products: np.ndarray
    counts: np.ndarray
    away: np.ndarray
    with_baseline: np.ndarray
    chosen: list[np.ndarray]
    maskable: np.ndarray


class Windows(Masker):
    """Uniform masks of one row that overlap by known shares: windows of the same size over a random order.

    Each is, by itself, uniform; the distance between two is twice as far as their windows are apart.
    """

    views = WINDOWS

    def select(self, rows: Rows, draw: Draw) -> np.ndarray:
        """Returns bool [K, B, T]."""
        keys, total = random_keys(rows.maskable, "windows", draw), rows.maskable.sum(axis=1)
        size = np.maximum(1, np.minimum(np.rint(total * self.config.ratio), total // 2)).astype(np.int64)
        before = [np.rint(size * n / (WINDOWS - 1)).astype(np.int64) for n in range(WINDOWS)]
        return np.stack([highest(keys, b + size) & ~highest(keys, b) for b in before])


def windows(ratio: float, vocab) -> Policy:
    """Returns the policy that covariances over distances are measured with."""
    return Policy("windows", Windows(MaskerConfig(ratio=ratio), vocab))


def draws_of(masker: Masker, rows: Rows, num: int, seed: int, number: int) -> list[Draw]:
    """Returns independent draws of a row's masks: at epochs and turns that are themselves drawn at random.

    So each draw is of any mask that the masker makes of the row in training: of any part, where it takes turns.

    Args:
        masker: says how many turns there are.
        rows: one row.
        num: how many draws.
        seed: of all masks.
        number: of the policy, else policies that draw alike would err alike.
    """
    epochs, turns = Draw(seed, number, rows.ids).bits("variance", 2 * num).reshape(num, 2).T.tolist()
    chosen = zip(epochs, turns, strict=True)
    return [Draw(seed, 1 + e % 2**31, rows.ids, progress=1.0, turn=turn % masker.turns) for e, turn in chosen]


def groups_of(objective: Objective) -> dict[str, list[Tensor]]:
    """Returns {group: weights}: embeddings, each layer, and what is left, in the order of the model."""
    found: dict[str, list[Tensor]] = {}
    for name, weight in objective.named_parameters():
        parts = name.removeprefix("model.").split(".")
        of_layer = len(parts) > 1 and parts[1].isdigit()
        found.setdefault(" ".join(parts[:2]) if of_layer else parts[0], []).append(weight)
    return found


def view_of(batch: Batch, view: int) -> Batch:
    """Returns one view of a batch of masked language modelling that was made of one row."""
    width, inputs = batch.inputs["tokens"].shape[1], dict(batch.inputs)
    positions = inputs.pop("positions")["mlm"]
    here = positions // width == view
    one = {name: values[view : view + 1] for name, values in inputs.items()}
    one["positions"] = {"mlm": positions[here] - view * width}
    return Batch(one, {"mlm": batch.targets["mlm"][here]}, batch.ids, int(batch.num_tokens / len(inputs["tokens"])))


class Sketch:
    """A short linear image of long vectors: products of sketches are those of the vectors on average.

    Their error is about the length of both vectors over the root of the length of the sketches.

    Args:
        size: length of the vectors.
        length: length of the sketches.
        random: draws where each number goes, and with which sign.
        device: where the vectors are.

    **Source:** the count sketch of Charikar, Chen and Farach-Colton 2002 ("Finding frequent items in data streams").
    """

    def __init__(self, size: int, length: int, random: torch.Generator, device: torch.device):
        self.length = length
        self.place = torch.randint(2 * length, (size,), generator=random, dtype=torch.int32).to(device)

    def __call__(self, vector: Tensor) -> Tensor:
        """Returns float [length]."""
        sums = torch.zeros(2 * self.length, device=vector.device).index_add_(0, self.place, vector.float())
        return sums[: self.length] - sums[self.length :]


class Gradients:
    """Computes gradients of single rows and masks, as flat vectors or, where asked for, as short sketches of them.

    Each view has a backward pass of its own. torch.func (vmap of grad) was 1.2 and 1.7 times as fast on encoders of 2
    layers of 192 and 96, but wants masks of equal size, holds all views' activations, and cannot batch fused attention.

    Args:
        objective: model and criterion, put into evaluation mode, so that dropout adds nothing.
        task: makes the batches.
        device: where the objective lives.
        project: length of a sketch of the gradient of each larger group; 0: the gradients themselves.
    """

    def __init__(self, objective: Objective, task: Task, device: torch.device, project: int = 0):
        self.objective, self.task, self.device, self.project = objective.eval(), copy.copy(task), device, project
        self.groups = groups_of(objective)
        self.names = list(self.groups)
        random, length = torch.Generator().manual_seed(0), project or SHORT
        numbers = {name: sum(w.numel() for w in weights) for name, weights in self.groups.items()}
        self.sketches = {n: Sketch(size, length, random, device) for n, size in numbers.items() if size > length}
        sizes = [min(size, project or size) for size in numbers.values()]
        ends = np.cumsum(sizes).tolist()
        self.size = sum(sizes)
        self.slices = {name: slice(end - size, end) for name, size, end in zip(self.names, sizes, ends, strict=True)}

    def of(self, rows: Rows, masker: Masker, draw: Draw, out: Tensor) -> np.ndarray:
        """Writes the gradient of each view into `out`, float [K, P], and returns the masks, bool [K, T].

        Args:
            rows: one row.
            masker: chooses.
            draw: what it chooses with, and what replaces the chosen tokens, in each view anew, as in training.
        """
        self.task.masker = masker
        batch = self.task.make_batch(rows, draw)
        masks = np.zeros(batch.inputs["tokens"].shape, dtype=bool)
        masks.reshape(-1)[batch.inputs["positions"]["mlm"]] = True
        for view in range(len(masks)):
            one = on_device(view_of(batch, view), self.device)
            self.objective.zero_grad(set_to_none=True)
            criterion = self.objective.criterion
            weighted_total(self.objective(one), criterion.count(one), criterion.weights).backward()
            self._write(out[view])
        return masks

    def _write(self, out: Tensor) -> None:
        """Writes the gradients that the weights hold into `out`, float [P]."""
        for name, place in self.slices.items():
            parts = [torch.zeros_like(w).view(-1) if w.grad is None else w.grad.view(-1) for w in self.groups[name]]
            if self.project and name in self.sketches:
                out[place] = self.sketches[name](torch.cat(parts))
            else:
                torch.cat(parts, out=out[place])

    def short(self, vector: Tensor) -> list[np.ndarray]:
        """Returns a vector as sketches, float64 of at most `SHORT` numbers or of `project`, for each group."""
        parts = {name: vector[place] for name, place in self.slices.items()}
        short = [
            part if self.project or n not in self.sketches else self.sketches[n](part) for n, part in parts.items()
        ]
        return [part.double().cpu().numpy() for part in short]


def collect(
    gradients: Gradients,
    policies: Sequence[Policy],
    source: Source,
    ids: np.ndarray,
    draws: int,
    seed: int,
    advance: Callable[[int], object] = lambda rows: None,
) -> list[Products]:
    """Returns the inner products of all policies, row by row.

    Memory holds one table, K times `draws` gradients for the most views K of a policy, and the mean of two policies.

    Args:
        gradients: computes them.
        policies: the first is the baseline of the products of means.
        source: the rows.
        ids: int [R], which of them.
        draws: independent draws of the masks of each row.
        seed: of the masks.
        advance: called after each row.
    """
    found: list[list[OfRow]] = [[] for _ in policies]
    table = _table(draws * max(policy.masker.views for policy in policies), gradients)
    for row in ids.tolist():
        rows, baseline = source[np.array([row])], None
        for number, (policy, of_policy) in enumerate(zip(policies, found, strict=True)):
            made = draws_of(policy.masker, rows, draws, seed, number)
            one, mean = _of_row(gradients, policy, rows, made, baseline, table)
            of_policy.append(one)
            baseline = mean if baseline is None else baseline
        advance(1)
    return [
        Products(
            policy.name,
            policy.masker.views,
            np.stack([one.products for one in of_policy], axis=1),
            np.stack([one.masks.sum(axis=2).astype(np.float64) for one in of_policy]),
            np.stack([apart(np.stack(of_group)) for of_group in zip(*(one.short for one in of_policy), strict=True)]),
            np.array([one.with_baseline for one in of_policy]).T,
            [one.masks for one in of_policy],
            np.array([one.maskable for one in of_policy]),
        )
        for policy, of_policy in zip(policies, found, strict=True)
    ]


def _table(most: int, gradients: Gradients) -> Tensor:
    """Returns room for as many gradients, float [most, P]; a StorageError says how to do with less."""
    try:
        return torch.empty(most, gradients.size, device=gradients.device)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        room = f"{most * gradients.size * 4:,} bytes"
        what = f"not enough memory for {most:,} gradients of {gradients.size:,} numbers ({room})"
        fix = "shorten them with --project 4096, or lower --draws"
        raise StorageError(what, where="--draws times the views of a policy", fix=fix) from error


@dataclass
class OfRow:
    """What of one row and policy is kept of its gradients, as in `Products`; `short` is its mean gradient by group."""

    products: np.ndarray
    masks: np.ndarray
    with_baseline: list[float]
    short: list[np.ndarray]
    maskable: int


def _of_row(
    gradients: Gradients, policy: Policy, rows: Rows, made: list[Draw], baseline: Tensor | None, table: Tensor
) -> tuple[OfRow, Tensor]:
    """Returns what is kept of a row, and its mean gradient, float [P]; `table` is written over."""
    views, slices = policy.masker.views, gradients.slices.values()
    table = table[: len(made) * views]
    masks = np.stack([gradients.of(rows, policy.masker, d, table[n * views :]) for n, d in enumerate(made)])
    counts = masks.sum(axis=2)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1) / len(made)
    mean = torch.as_tensor(shares.reshape(-1), dtype=table.dtype, device=table.device) @ table
    other, shape = mean if baseline is None else baseline, (*counts.shape, *counts.shape)
    products = [(table[:, s] @ table[:, s].T).double().cpu().numpy().reshape(shape) for s in slices]
    with_baseline = [float(mean[s] @ other[s]) for s in slices]
    return OfRow(np.stack(products), masks, with_baseline, gradients.short(mean), int(rows.maskable.sum())), mean


def apart(vectors: np.ndarray) -> np.ndarray:
    """Returns float [R], the squared distances of vectors, float [R, N], from their mean."""
    return np.sum((vectors - vectors.mean(axis=0)) ** 2, axis=1)
