"""Bytes as a bad disk gives them back: flips of single bits, cut ends."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator

MANY, FEW = 1000, 60
"""Flips in each kind of file: in the long form, and where time counts."""


def flips(data: bytes, seed: int = 1) -> Iterator[bytes]:
    """``data`` with one bit turned over, at random places; every copy another. The short form unless
    ``ESL_DIST_ALL_FLIPS`` is set.
    """
    dice = random.Random(seed)
    count = MANY if os.environ.get("ESL_DIST_ALL_FLIPS") else FEW
    for place in dice.sample(range(8 * len(data)), min(count, 8 * len(data))):
        made = bytearray(data)
        made[place // 8] ^= 1 << place % 8
        yield bytes(made)
