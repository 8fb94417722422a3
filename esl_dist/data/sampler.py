"""Data order and every random choice about a sample as pure functions of (seed, global position).

Nothing here has state, so resuming, another world size or another number of workers changes nothing. Own integer
hashing, not a library's generator: the same numbers on every machine and version.
"""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import NDArray

_MASK = (1 << 64) - 1
_STEP = 0x9E3779B97F4A7C15


def index_at(seed: int, position: int, length: int) -> int:
    """Index of the sample at ``position`` of an endless stream: every epoch of ``length`` positions is a permutation of
    its own.

    Args:
        seed: selects the order; any integer.
        position: 0 or more, counted over all ranks.
        length: number of samples, at least 1.
    """
    assert position >= 0 and length >= 1, (position, length)
    epoch, offset = divmod(position, length)
    return int(_permutation(seed, epoch, length)[offset])


def spread(length: int, count: int) -> list[int]:
    """Up to ``count`` of ``length`` indices, evenly spaced."""
    count = min(count, length)
    return [i * length // count for i in range(count)]


def uniform(seed: int, position: int, draw: int) -> float:
    """The ``draw``-th random number in [0, 1) that belongs to a position: 53 random bits."""
    return (_mix(key_of(seed, position) + draw * _STEP) >> 11) / (1 << 53)


def hashes(seed: int, number: int, length: int) -> NDArray[np.uint64]:
    """``length`` random 64-bit integers that belong to a number (a position, an epoch): sorting by them shuffles."""
    return _mix_array(np.uint64(key_of(seed, number)) + np.arange(length, dtype=np.uint64) * np.uint64(_STEP))


@functools.lru_cache(maxsize=8)
def _permutation(seed: int, epoch: int, length: int) -> NDArray[np.int64]:
    """0..length-1 sorted by the hash of each; ties (one in 2^64) by index."""
    return np.argsort(hashes(seed, epoch, length), kind="stable")


def key_of(seed: int, number: int) -> int:
    """What the random numbers of a number (a position, an epoch) are counted from: 64 bits."""
    return _mix(_mix(seed & _MASK) ^ ((number * _STEP + 1) & _MASK))


def _mix(x: int) -> int:
    """SplitMix64's finaliser (Steele, Lea, Flood 2014): a bijection of 64-bit integers that scatters neighbours."""
    x = (int(x) + _STEP) & _MASK
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & _MASK
    return x ^ (x >> 31)


def _mix_array(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """``_mix`` of every element; uint64 arithmetic wraps as it should."""
    x = x + np.uint64(_STEP)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: NDArray[np.uint64] = x ^ (x >> np.uint64(31))
    return mixed
