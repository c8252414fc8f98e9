"""Which rows make which micro-batch: a pure function of (lengths, seed, epoch, token budget).

Rows are shuffled, sorted by length within windows so that little is padding, cut into micro-batches under a budget of
tokens, and the micro-batches are shuffled. Processes take the micro-batches of a step in turn, so their number
changes nothing.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from taskmask.data.rng import hash_integers
from taskmask.errors import DataError

WINDOW = 100  # micro-batches' worth of rows that are sorted together


@dataclasses.dataclass(frozen=True)
class Plan:
    """The micro-batches of one epoch.

    Args:
        order: int64 [N], row ids, micro-batch after micro-batch.
        bounds: int64 [M + 1], where each micro-batch starts in `order`.
        sequence: int64 [M], the order in which the micro-batches are taken.
    """

    order: np.ndarray
    bounds: np.ndarray
    sequence: np.ndarray

    def __len__(self) -> int:
        return len(self.sequence)

    def __getitem__(self, position: int) -> np.ndarray:
        """Returns int64 [B], the row ids of the micro-batch at `position` of the epoch."""
        number = self.sequence[position]
        return self.order[self.bounds[number] : self.bounds[number + 1]]


def plan_epoch(lengths: np.ndarray, seed: int, epoch: int, max_tokens: int, views: int = 1) -> Plan:
    """Plans one epoch.

    Args:
        lengths: int [N], tokens of each row, specials included.
        seed: seed of the run.
        epoch: number of the epoch.
        max_tokens: largest size of a micro-batch, rows times longest row times views.
        views: masks of each row.

    Raises:
        DataError: there are no rows, or a row does not fit the budget.
    """
    num_rows = len(lengths)
    if num_rows == 0:
        raise DataError("the split has no rows", fix="check the input of taskmask-preprocess")
    longest = int(lengths.max())
    if longest * views > max_tokens:
        raise DataError(
            f"the longest row has {longest} tokens, times {views} masks of each row",
            expected=f"at most train.max_tokens, {max_tokens}",
            fix="raise train.max_tokens or lower data.length",
        )
    order = _shuffled(num_rows, seed, epoch)
    mean = max(1.0, float(lengths.mean()) * views)
    size = max(1, int(WINDOW * max_tokens / mean))
    lengths = lengths.astype(np.uint16 if longest < 1 << 16 else np.int64)  # narrow integers sort several times faster
    order, ordered = _sorted_in_windows(order, lengths, size)
    bounds = _cut(ordered, size, max_tokens // views)
    keys = hash_integers(seed, epoch, num_rows, np.arange(len(bounds) - 1))
    return Plan(order, bounds, np.argsort(keys, kind="stable"))


def _shuffled(num_rows: int, seed: int, epoch: int) -> np.ndarray:
    """Returns int64 [N], the row ids in random order: random numbers with the id in their low bits, sorted."""
    ids = np.arange(num_rows)
    low = np.uint64((1 << num_rows.bit_length()) - 1)
    keys = hash_integers(seed, epoch, ids)
    keys &= ~low
    keys |= ids.view(np.uint64)
    keys.sort()  # several times faster than argsort
    keys &= low
    return keys.view(np.int64)


def _sorted_in_windows(order: np.ndarray, lengths: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the order with every `size` rows of it sorted by length, and the lengths in that order."""
    ordered = lengths[order]
    for start in range(0, len(order), size):
        window = slice(start, start + size)
        by_length = np.argsort(ordered[window], kind="stable")
        order[window], ordered[window] = order[window][by_length], ordered[window][by_length]
    return order, ordered


def _cut(lengths: np.ndarray, size: int, budget: int) -> np.ndarray:
    """Cuts rows, sorted by length within each window of `size`, into runs of at most `budget` tokens with padding."""
    bounds, start, total = [0], 0, len(lengths)
    while start < total:
        # the longest row is the run's last: the run grows while rows * its length stays within the budget
        window_end = min(total, (start // size + 1) * size)
        stop = min(window_end, start + budget // int(lengths[start]))
        fits = lengths[start:stop] * np.arange(1, stop - start + 1) <= budget
        start += int(np.searchsorted(~fits, True))
        bounds.append(start)
    return np.array(bounds, dtype=np.int64)


def this_rank(step: int, micro_batches_per_step: int, rank: int, world_size: int) -> range:
    """Returns the numbers, counted over the whole run, of the micro-batches that `rank` computes in `step` (from 0)."""
    first = step * micro_batches_per_step
    return range(first + rank, first + micro_batches_per_step, world_size)
