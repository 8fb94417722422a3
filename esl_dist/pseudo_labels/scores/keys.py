"""Scores as integers: the bits of a non-negative float32 sort like the float itself.

A key is cut in two 16-bit digits, so that a histogram of each finds an order statistic exactly. Every confidence has a
largest value; the limit is a little above it for rounding, and whatever is beyond (NaN and infinity have the largest
bits of all) is a bug to report.
"""

from __future__ import annotations

import numpy as np

from esl_dist.pseudo_labels.scores.kinds import Kind

LOW_BINS = 1 << 16
LIMITS: dict[Kind, int] = {
    "entropy": 0x3F810000,
    "probability": 0x3F810000,
    "margin": 0x3F810000,
    "logit_margin": 0x42B00000,
}
"""First key that is refused: the bits of 1.0078125 for scores up to 1, of 88 for log-odds up to 126 ln 2 = 87.34."""
KEY_LIMIT = LIMITS["entropy"]
HIGH_BINS = KEY_LIMIT >> 16
"""Upper digits of a score up to 1; :func:`high_bins` knows every confidence's."""


class ScoreError(ValueError):
    """Scores or labels that no correct network gives: NaN, infinity, out of range, or a class that does not exist."""


def high_bins(kind: Kind) -> int:
    """Number of upper digits that a confidence's keys can have."""
    return LIMITS[kind] >> 16


def keys(score: np.ndarray) -> np.ndarray:
    """uint32 keys of float32 scores; negative ones and -0 count as 0, NaN and infinity are above every limit."""
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
        rounded = np.nextafter(rounded, np.float32(np.inf))
    return int(rounded.view(np.uint32))


def count_high(histogram: np.ndarray, label: np.ndarray, key: np.ndarray) -> None:
    """Add the upper 16 bits of each key to int64 ``histogram [C, bins]``."""
    assert histogram.flags.c_contiguous
    cell = np.multiply(label, np.intp(histogram.shape[1]), dtype=np.intp)
    cell += key >> np.uint32(16)
    # not bincount: it makes, and one would add, a histogram of all cells for every image
    np.add.at(histogram.reshape(-1), cell, 1)
