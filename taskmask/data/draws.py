"""Counter-based random numbers: a pure function of (seed, epoch, row id, stream, position).

No state and no global generator: the same row in the same epoch gets the same numbers whatever the batch it stands in,
the number of workers, processes and machines, and after a resume.

**Source:** splitmix64, the mixer of Steele, Lea and Flood 2014 ("Fast splittable pseudorandom number generators").
"""

from __future__ import annotations

import dataclasses
import zlib

import numpy as np

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)


def _mix(x: np.ndarray) -> np.ndarray:
    """Scrambles 64-bit integers; a bijection in which every input bit reaches every output bit."""
    x = (x ^ (x >> np.uint64(30))) * _MIX_1
    x = (x ^ (x >> np.uint64(27))) * _MIX_2
    return x ^ (x >> np.uint64(31))


def hash_integers(*values: int | np.ndarray) -> np.ndarray:
    """Hashes integers, or arrays of integers broadcast against each other, into uint64; the order of values counts."""
    key = np.zeros(1, dtype=np.uint64)
    with np.errstate(over="ignore"):
        for value in values:
            word = np.asarray(value).astype(np.int64).view(np.uint64)
            key = _mix(key * np.uint64(31) + word + _GOLDEN)
    return key


@dataclasses.dataclass(frozen=True)
class Draw:
    """The random numbers of a batch of rows.

    Args:
        seed: seed of the run.
        epoch: number of the epoch; validation is epoch 0, always.
        ids: int64 [B], the row's number in its split.
        progress: share of the run that is over, 0 to 1; what schedules of a ratio read.
    """

    seed: int
    epoch: int
    ids: np.ndarray
    progress: float = 0.0

    def bits(self, stream: str, num: int) -> np.ndarray:
        """Returns uint64 [B, num] of the named stream; numbers of different streams are independent."""
        key = hash_integers(self.seed, self.epoch, zlib.crc32(stream.encode()), self.ids)  # [B]
        with np.errstate(over="ignore"):
            steps = np.arange(1, num + 1, dtype=np.uint64) * _GOLDEN
            return _mix(key[:, None] + steps[None, :])

    def uniform(self, stream: str, num: int) -> np.ndarray:
        """Returns float64 [B, num], uniform in [0, 1)."""
        return (self.bits(stream, num) >> np.uint64(11)).astype(np.float64) * 2.0**-53

    def take(self, index: np.ndarray) -> Draw:
        """Returns the draw of the rows at `index` alone."""
        return dataclasses.replace(self, ids=self.ids[index])
