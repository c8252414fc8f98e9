"""Gradients of a run's own criterion, row by row and mask by mask, and what is kept of them.

Shapes: R rows, D draws of the masks of a row, N views of a draw, L losses, P weights, G groups of weights, F forms.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from taskmask.analysis.views import draws_of, views_of
from taskmask.data.batch import TokenBatch
from taskmask.data.rng import RowRng
from taskmask.data.sequences.base import Source
from taskmask.errors import StorageError
from taskmask.stats.gradient_moments import Sums
from taskmask.system.hardware import is_out_of_memory
from taskmask.tasks.base import Task
from taskmask.training.data_loader import on_device
from taskmask.training.objective import Objective

SHORT = 4096  # numbers that vectors of a group are kept as, to be compared with those of other rows


@dataclass(frozen=True)
class Subject:
    """A policy that is measured.

    Args:
        policy: its name.
        task: the task of the run, with the policy as its masker.
        forms: float64 [F, N, N], symmetric weights of pairs of views; see `Sums`.
    """

    policy: str
    task: Task
    forms: np.ndarray


def groups_of(objective: Objective) -> dict[str, list[Tensor]]:
    """Returns {group: weights that are trained}: embeddings, each layer, and the rest, in the order of the model."""
    found: dict[str, list[Tensor]] = {}
    for name, weight in objective.named_parameters():
        if weight.requires_grad:
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
    """Computes gradients of single rows and masks, as flat vectors or, if asked for, as short sketches of them.

    Each view has a backward pass of its own. torch.func (vmap of grad) was 1.2 and 1.7 times as fast on encoders of 2
    layers of 192 and 96, but wants masks of equal size, holds all views' activations, and cannot batch fused attention.

    Args:
        objective: model and criterion. The model is put into evaluation mode, so that dropout adds nothing; the
            criterion into training mode, as label smoothing belongs to the gradient of training.
        device: where the objective lives.
        project: length of a sketch of the gradient of each larger group; 0: the gradients themselves.

    Attributes:
        losses: {loss: its weight}, those of the criterion that count.
        names: of the groups of weights.
        size: numbers of a gradient.
        short: numbers that each group is kept as.
    """

    def __init__(self, objective: Objective, device: torch.device, project: int = 0):
        self.objective, self.device, self.project = objective.eval(), device, project
        self.criterion = objective.criterion.train()
        self.losses = {name: weight for name, weight in self.criterion.weights.items() if weight}
        self.groups = groups_of(objective)
        self.names = list(self.groups)
        random, length = torch.Generator().manual_seed(0), project or SHORT
        numbers = {name: sum(w.numel() for w in weights) for name, weights in self.groups.items()}
        self.sketches = {n: Sketch(size, length, random, device) for n, size in numbers.items() if size > length}
        sizes = [min(size, project or size) for size in numbers.values()]
        ends = np.cumsum(sizes).tolist()
        self.size = sum(sizes)
        self.slices = {name: slice(end - size, end) for name, size, end in zip(self.names, sizes, ends, strict=True)}
        self.short = [min(size, length) for size in numbers.values()]

    @property
    def loss(self) -> str:
        """The losses with their weights, in words."""
        return " + ".join(f"{weight:g} {name}" if weight != 1 else name for name, weight in self.losses.items())

    def of(self, rows: TokenBatch, task: Task, rng: RowRng, out: Tensor) -> np.ndarray:
        """Writes the summed gradient of each view and loss into `out`, float [N, L, P].

        Args:
            rows: one row.
            task: makes the batch.
            rng: chooses the masks, and what replaces the chosen tokens, in each view anew, as in training.
            out: float [N, L, P].

        Returns:
            float64 [N, L], the targets of each view and loss; a loss without targets has a gradient of 0.
        """
        counts = np.zeros(out.shape[:2])
        for view, batch in enumerate(views_of(task.make_batch(rows, rng), task)):
            one = on_device(batch, self.device)
            found = self.criterion.count(one)
            counts[view] = [found[name] for name in self.losses]
            there = np.flatnonzero(counts[view]).tolist()
            if len(there) < len(self.losses):
                out[view] = 0.0
            sums = self.objective(one) if there else {}
            for loss in there:
                self.objective.zero_grad(set_to_none=True)
                sums[list(self.losses)[loss]].backward(retain_graph=loss != there[-1])
                self._write(out[view, loss])
        return counts

    def _write(self, out: Tensor) -> None:
        """Writes the gradients that the weights hold into `out`, float [P]."""
        for name, place in self.slices.items():
            parts = [torch.zeros_like(w).view(-1) if w.grad is None else w.grad.view(-1) for w in self.groups[name]]
            if self.project and name in self.sketches:
                out[place] = self.sketches[name](torch.cat(parts))
            else:
                torch.cat(parts, out=out[place])

    def sketched(self, vector: Tensor) -> list[np.ndarray]:
        """Returns a vector, float [P], as float32 of at most `SHORT` numbers, or of `project`, for each group."""
        parts = {name: vector[place] for name, place in self.slices.items()}
        short = [
            part if self.project or n not in self.sketches else self.sketches[n](part) for n, part in parts.items()
        ]
        return [part.float().cpu().numpy() for part in short]


def collect(
    gradients: Gradients,
    subjects: Sequence[Subject],
    source: Source,
    ids: np.ndarray,
    draws: int,
    seed: int,
    advance: Callable[[int], object] = lambda rows: None,
) -> list[Sums]:
    """Returns what is kept of the gradients of all policies, row by row.

    Memory holds one table, N times L times `draws` gradients for the most views N of a policy.

    Args:
        gradients: computes them.
        subjects: the policies.
        source: the rows.
        ids: int [R], which of them.
        draws: independent draws of the masks of each row.
        seed: of the masks.
        advance: called after each row.
    """
    weights = np.array(list(gradients.losses.values()), np.float64)
    found = [
        Sums.of(one.policy, one.task.views, draws, weights, one.forms, len(ids), gradients.short) for one in subjects
    ]
    table = _table(draws * max(one.task.views for one in subjects) * len(weights), gradients)
    for place, row in enumerate(ids.tolist()):
        rows = source[np.array([row])]
        for number, (subject, sums) in enumerate(zip(subjects, found, strict=True)):
            assert subject.task.masker is not None
            made = draws_of(subject.task.masker, rows, draws, seed, number)
            _add_row(gradients, subject.task, rows, made, table, sums, place)
        advance(1)
    return found


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


def _add_row(
    gradients: Gradients, task: Task, batch: TokenBatch, made: list[RowRng], table: Tensor, sums: Sums, place: int
) -> None:
    """Adds a row to what is kept of a policy; `table` is written over."""
    shape = (len(made), task.views, len(sums.weights))  # [D, N, L]
    table = table[: len(made) * task.views * len(sums.weights)]
    counts = np.stack([gradients.of(batch, task, d, out) for d, out in zip(made, table.view(*shape, -1), strict=True)])
    products = [(table[:, s] @ table[:, s].T).double().cpu().numpy() for s in gradients.slices.values()]

    def sketched(weights: np.ndarray) -> list[np.ndarray] | None:
        """A sum of the gradients with weights, float [D, N, L]; None if it is 0."""
        if not weights.any():
            return None
        return gradients.sketched(torch.as_tensor(weights.reshape(-1), dtype=table.dtype, device=table.device) @ table)

    sums.add(place, np.stack(products).reshape(-1, *shape, *shape), counts, sketched)
