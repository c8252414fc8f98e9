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
from taskmask.data.rows import Rows
from taskmask.data.source import Source
from taskmask.maskers.base import Masker, MaskerConfig, highest, random_keys
from taskmask.tasks.base import Task
from taskmask.training.loader import on_device
from taskmask.training.objective import Objective

APART = 1009  # epochs between two draws: more than any masker shares a partition over
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


class OneView(Masker):
    """One of the masks that were chosen before, for every row alike."""

    def __init__(self, mask: np.ndarray):
        self.mask, self.config, self.views, self.turns, self.columns = mask, None, 1, 1, ()

    def __call__(self, rows: Rows, draw: Draw) -> np.ndarray:
        """Returns bool [1, 1, T]."""
        return self.mask[None, None]


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


def groups_of(objective: Objective) -> dict[str, list[Tensor]]:
    """Returns {group: weights}: embeddings, each layer, and what is left, in the order of the model."""
    found: dict[str, list[Tensor]] = {}
    for name, weight in objective.named_parameters():
        parts = name.removeprefix("model.").split(".")
        of_layer = len(parts) > 1 and parts[1].isdigit()
        found.setdefault(" ".join(parts[:2]) if of_layer else parts[0], []).append(weight)
    return found


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
        self.slices = {name: slice(end - size, end) for name, size, end in zip(self.names, sizes, ends, strict=True)}

    def of(self, rows: Rows, masks: np.ndarray, draw: Draw) -> tuple[list[Tensor], list[float]]:
        """Returns the gradient of each mask, float [P] each, and how many targets each has.

        Args:
            rows: one row.
            masks: bool [N, T].
            draw: what replaces the masked tokens, and all else that is random.
        """
        vectors, counts = [], []
        for mask in masks:
            self.task.masker = OneView(mask)
            batch = on_device(self.task.make_batch(rows, draw), self.device)
            self.objective.zero_grad(set_to_none=True)
            found = self.objective.criterion.count(batch)
            sums, weights = self.objective(batch), self.objective.criterion.weights
            total = sum(weight * sums[name] / (found[name] or 1.0) for name, weight in weights.items())
            total.backward()
            vectors.append(self._flat())
            counts.append(float(sum(found.values())))
        return vectors, counts

    def _flat(self) -> Tensor:
        parts = []
        for name, weights in self.groups.items():
            flat = torch.cat([torch.zeros_like(w).view(-1) if w.grad is None else w.grad.view(-1) for w in weights])
            parts.append(self.sketches[name](flat) if self.project and name in self.sketches else flat)
        return torch.cat(parts)

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
    """Returns the inner products of all policies, row by row; memory holds the gradients of one row and one policy.

    Args:
        gradients: computes them.
        policies: the first is the baseline of the products of means.
        source: the rows.
        ids: int [R], which of them.
        draws: independent draws of the masks of each row.
        seed: of the masks.
        advance: called after each row.
    """
    found: list[list[tuple]] = [[] for _ in policies]
    slices = gradients.slices.values()
    for row in ids.tolist():
        rows, baseline = source[np.array([row])], None
        for number, policy in enumerate(policies):
            own = seed + APART * number  # else policies that draw alike would err alike
            made = [Draw(own, 1 + APART * n, rows.ids, progress=1.0) for n in range(draws)]
            masks = np.stack([policy.masker(rows, draw)[:, 0] for draw in made])
            vectors: list[Tensor] = []
            counts: list[list[float]] = []
            for mask, draw in zip(masks, made, strict=True):
                of_draw, targets = gradients.of(rows, mask, draw)
                vectors, counts = vectors + of_draw, [*counts, targets]
            table, weights = torch.stack(vectors), np.array(counts)
            shares = weights / np.maximum(weights.sum(axis=1, keepdims=True), 1) / draws
            mean = torch.as_tensor(shares.reshape(-1), dtype=table.dtype, device=table.device) @ table
            baseline = mean if baseline is None else baseline
            shape = (*weights.shape, *weights.shape)
            products = [(table[:, s] @ table[:, s].T).double().cpu().numpy().reshape(shape) for s in slices]
            with_baseline = [float(mean[s].double() @ baseline[s].double()) for s in slices]
            of_row = np.stack(products), weights, with_baseline, masks, int(rows.maskable.sum()), gradients.short(mean)
            found[number].append(of_row)
        advance(1)
    return [
        Products(
            policy.name,
            policy.masker.views,
            np.stack([one[0] for one in of_policy], axis=1),
            np.stack([one[1] for one in of_policy]),
            np.stack([apart(np.stack(of_group)) for of_group in zip(*(one[5] for one in of_policy), strict=True)]),
            np.array([one[2] for one in of_policy]).T,
            [one[3] for one in of_policy],
            np.array([one[4] for one in of_policy]),
        )
        for policy, of_policy in zip(policies, found, strict=True)
    ]


def apart(vectors: np.ndarray) -> np.ndarray:
    """Returns float [R], the squared distances of vectors, float [R, N], from their mean."""
    return np.sum((vectors - vectors.mean(axis=0)) ** 2, axis=1)
