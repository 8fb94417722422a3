"""Random choices of a training step as pure functions of (seed, purpose, number): a step, or the position of a sample.

The numbers themselves are the data stream's (``data/sampler.py``); a purpose has a seed of its own, so that no two
ingredients share a draw, and switching one of them on changes no other.
"""

from __future__ import annotations

import zlib

from esl_dist.data.sampler import uniform


def stream(seed: int, purpose: str) -> int:
    """The seed of one purpose (``"jitter"``, ``"mix"``, …)."""
    return seed + (zlib.crc32(purpose.encode()) << 32)


def between(low: float, high: float, seed: int, number: int, draw: int) -> float:
    """The ``draw``-th random number of ``number``, uniform in ``[low, high)``."""
    return low + (high - low) * uniform(seed, number, draw)
