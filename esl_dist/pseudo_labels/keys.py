"""Scores as integers: the bits of a non-negative float32 sort like the float itself.

A key is cut in two 16-bit digits, so that a histogram of each finds an order statistic exactly. Scores lie in [0, 1];
the limit is a little over 1 for rounding, and whatever is above it (NaN and infinity have the largest bits of all) is a
bug to report.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

Kind = Literal["entropy", "probability"]
"""Entropy is confident when small, probability when large."""

KEY_LIMIT = 0x3F810000
"""First key that is refused: the bits of 1.0078125."""
HIGH_BINS = KEY_LIMIT >> 16
LOW_BINS = 1 << 16


def keys(score: np.ndarray) -> np.ndarray:
    """uint32 keys of float32 scores; negative scores and -0 count as 0, NaN and infinity become keys above
    ``KEY_LIMIT``.
    """
    bits = np.ascontiguousarray(score, np.float32).view(np.uint32)
    key = bits & np.uint32(0x7FFFFFFF)
    negative = bits > np.uint32(0x7FFFFFFF)
    if negative.any():  # never in the scores of this package, which end with max(0, .)
        key[negative & (key < np.uint32(0x7F800000))] = 0
    return key


def scores(key: np.ndarray) -> np.ndarray:
    """The float32 scores of uint32 keys."""
    return np.asarray(key, np.uint32).view(np.float32)


def at_most(value: float) -> int:
    """Key of the largest float32 that is not above ``value`` (0 or more)."""
    rounded = np.float32(value)
    if float(rounded) > value:
        rounded = np.nextafter(rounded, np.float32(0))
    return int(rounded.view(np.uint32))


def at_least(value: float) -> int:
    """Key of the smallest float32 that is not below ``value`` (0 or more)."""
    rounded = np.float32(value)
    if float(rounded) < value:
        rounded = np.nextafter(rounded, np.float32(2))
    return int(rounded.view(np.uint32))
