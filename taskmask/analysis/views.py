"""One row of the model's batch at a time: the views that a task makes of a row of the dataset, taken apart.

Shapes: B = 1 row of the dataset, N views of it, T tokens.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from taskmask.data.batch import Batch, TokenBatch
from taskmask.data.rng import RowRng
from taskmask.errors import ConfigError
from taskmask.maskers.base import Masker, MaskerConfig, highest, random_keys
from taskmask.tasks.base import Task

WINDOWS = 5


class Windows(Masker):
    """Uniform masks of one row that overlap by known shares: windows of the same size over a random order.

    Each is, by itself, uniform; the distance between two is twice as far as their windows are apart.
    """

    views = WINDOWS

    def places(self, total: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns where the windows of rows begin, int64 [WINDOWS, R], and their size, int64 [R].

        Args:
            total: int [R], tokens of each row that can be masked; of fewer than two none is masked.
        """
        wanted = np.rint(total * self.config.ratio).astype(np.int64)
        size = np.minimum(np.maximum(wanted, 1), total // 2)
        return np.stack([np.rint(size * n / (WINDOWS - 1)).astype(np.int64) for n in range(WINDOWS)]), size

    def select(self, batch: TokenBatch, rng: RowRng) -> np.ndarray:
        """Returns bool [K, B, T]."""
        keys = random_keys(batch.maskable, "windows", rng)
        begins, size = self.places(batch.maskable.sum(axis=1))
        return np.stack([highest(keys, begin + size) & ~highest(keys, begin) for begin in begins])


def windows(ratio: float, vocab: Any) -> Windows:
    """Returns the masker that covariances over distances are measured with."""
    return Windows(MaskerConfig(ratio=ratio), vocab)


def draws_of(masker: Masker, batch: TokenBatch, num: int, seed: int, number: int) -> list[RowRng]:
    """Returns independent draws of a row's masks: at epochs and turns that are themselves drawn at random.

    So each draw is of any mask that the masker makes of the row in training: of any part, where it takes turns.

    Args:
        masker: says how many turns there are.
        batch: one row.
        num: how many draws.
        seed: of all masks.
        number: of the policy, else policies that draw alike would err alike.
    """
    epochs, turns = RowRng(seed, number, batch.ids).bits("variance", 2 * num).reshape(num, 2).T.tolist()
    chosen = zip(epochs, turns, strict=True)
    return [RowRng(seed, 1 + e % 2**31, batch.ids, progress=1.0, turn=turn % masker.turns) for e, turn in chosen]


def views_of(batch: Batch, task: Task) -> list[Batch]:
    """Returns a batch that was made of one row of the dataset as batches of one row, a view each.

    Args:
        batch: of numpy arrays.
        task: the task that made it.

    Raises:
        ConfigError: it holds an array that has neither a part per view nor positions of its own.
    """
    if task.views == 1:
        return [batch]
    inputs, widths = dict(batch.inputs), {}
    positions = inputs.pop("positions", {})
    for name in positions:
        of_target = task.gives_target and task.heads()[name].kind == "lm"
        widths[name] = inputs["target" if of_target else "tokens"].shape[1]
    heads = {name: task.targets_of.get(name, name) for name in batch.targets}
    for name, values in {**inputs, **{n: v for n, v in batch.targets.items() if heads[n] not in positions}}.items():
        if np.shape(values)[:1] != (task.views,):
            raise ConfigError(
                f"makes {name!r} of shape {list(np.shape(values))} from one row under {task.views} masks",
                where=f"task {type(task).__name__}",
                expected="a part per mask, or values at the positions of a head",
                fix="measure maskers that make one mask per row, or name the head in `targets_of` of the task",
            )
    parts = []
    for view in range(task.views):
        here = {name: places // widths[name] == view for name, places in positions.items()}
        one = {name: values[view : view + 1] for name, values in inputs.items()}
        one["positions"] = {name: places[here[name]] - view * widths[name] for name, places in positions.items()}
        targets = {
            name: values[here[heads[name]] if heads[name] in here else slice(view, view + 1)]
            for name, values in batch.targets.items()
        }
        parts.append(Batch(one, targets, batch.ids, batch.num_tokens // task.views))
    return parts
