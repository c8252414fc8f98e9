"""Counter-based random numbers: a pure function of (seed, epoch, row id, stream, position).

No state and no global generator: the same row in the same epoch gets the same numbers whatever the batch it stands in,
the number of workers, processes and machines, and after a resume.

**Source:** splitmix64, the mixer of Steele, Lea and Flood 2014 ("Fast splittable pseudorandom number generators").
"""

from __future__ import annotations

import dataclasses
import functools
import zlib
from typing import Literal

import numpy as np

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)
_SHIFT_1, _SHIFT_2, _SHIFT_3 = np.uint64(30), np.uint64(27), np.uint64(31)


def _mix(x: np.ndarray) -> np.ndarray:
    """Scrambles 64-bit integers in place; a bijection in which every input bit reaches every output bit."""
    x ^= x >> _SHIFT_1
    x *= _MIX_1
    x ^= x >> _SHIFT_2
    x *= _MIX_2
    x ^= x >> _SHIFT_3
    return x


def hash_integers(*values: int | np.ndarray) -> np.ndarray:
    """Hashes integers, or arrays of integers broadcast against each other, into uint64; the order of values counts."""
    key = np.zeros(1, dtype=np.uint64)
    for value in values:
        word = np.asarray(value).astype(np.int64).view(np.uint64)
        key = _mix(key * np.uint64(31) + word + _GOLDEN)
    return key


def _cut(numbers: np.ndarray, kind: str) -> np.ndarray:
    """Returns uint64 [B, N] as several smaller integers each, those of the lower bits first on any machine."""
    return numbers.astype("<u8", copy=False).view(kind)


@functools.lru_cache(maxsize=64)
def _base(seed: int, epoch: int) -> np.ndarray:
    return hash_integers(seed, epoch)


@functools.lru_cache(maxsize=256)
def _steps(stream: str, size: int) -> np.ndarray:
    """Returns uint64 [size], what a stream adds to the key of a row at each position."""
    return hash_integers(zlib.crc32(stream.encode())) + np.arange(1, size + 1, dtype=np.uint64) * _GOLDEN


@dataclasses.dataclass(frozen=True)
class RowRng:
    """The random numbers of a batch of rows.

    Each row and stream has a splitmix64 generator of its own: position p of it is the p-th number.

    Args:
        seed: seed of the run.
        epoch: number of the epoch; validation is epoch 0, always.
        ids: int64 [B], the row's number in its split.
        progress: share of the run that is over, 0 to 1; what schedules of a ratio read.
        turn: which of the updates in succession that see the same rows this is, from 0; changes no number.
    """

    seed: int
    epoch: int
    ids: np.ndarray
    progress: float = 0.0
    turn: int = 0

    @functools.cached_property
    def _keys(self) -> np.ndarray:
        """Uint64 [B], where the generators of each row begin."""
        ids = np.asarray(self.ids, np.int64).view(np.uint64)
        return _mix(ids * _GOLDEN + _base(self.seed, self.epoch))

    def _states(self, stream: str, num: int) -> np.ndarray:
        """Returns uint64 [B, num], what `_mix` makes random numbers of."""
        size = 1 << (num - 1).bit_length()  # few sizes, so that batches of many widths find theirs in the cache
        return self._keys[:, None] + _steps(stream, size)[:num]

    def bits(self, stream: str, num: int) -> np.ndarray:
        """Returns uint64 [B, num] of the named stream; numbers of different streams are independent.

        All numbers of a row differ.
        """
        return _mix(self._states(stream, num))

    def bits_at(self, stream: str, num: int, index: np.ndarray) -> np.ndarray:
        """Returns `bits(stream, num).reshape(-1)[index]`, without the numbers that nobody asked for."""
        return _mix(self._states(stream, num).reshape(-1).take(index))

    @functools.cached_property
    def once(self) -> np.ndarray:
        """Float64 [B, 2], uniform in [0, 1): two numbers of each row that belong to no stream and cost nothing.

        The first rounds a budget, the second begins the arc of `maskers.base.sample_units`.
        """
        return _cut(self._keys[:, None], "<u4") * 2.0**-32

    def small(self, stream: str, num: int, kind: Literal["<u2", "<u4"]) -> np.ndarray:
        """Returns uint16 or uint32 [B, num]: the numbers of `bits`, each cut into four or two."""
        parts = 8 // int(kind[-1])
        return _cut(self.bits(stream, -(-num // parts)), kind)[:, :num]

    def uniform(self, stream: str, num: int) -> np.ndarray:
        """Returns float64 [B, num], uniform in [0, 1), multiples of 2**-32."""
        return self.small(stream, num, "<u4") * 2.0**-32

    def take(self, index: np.ndarray) -> RowRng:
        """Returns the draw of the rows at `index` alone."""
        return dataclasses.replace(self, ids=self.ids[index])
