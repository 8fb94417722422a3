"""Means over seeds, and paired differences with a confidence interval."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Spread:
    """Mean and sample standard deviation of n numbers; no deviation for n = 1."""

    mean: float
    deviation: float | None
    n: int


@dataclass(frozen=True)
class Difference:
    """Mean of n paired differences and the ends of its 95 % confidence interval (Student's t); no interval
    for n = 1.
    """

    mean: float
    low: float | None
    high: float | None
    n: int

    @property
    def decided(self) -> bool:
        """Whether the interval excludes zero."""
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)


def spread(values: Sequence[float]) -> Spread | None:
    """None without values."""
    if not values:
        return None
    return Spread(statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None, len(values))


def paired(first: Sequence[float], second: Sequence[float]) -> Difference:
    """``first - second``, pair by pair (the same seed in both)."""
    assert len(first) == len(second) > 0
    differences = [a - b for a, b in zip(first, second, strict=True)]
    mean, n = statistics.fmean(differences), len(differences)
    if n == 1:
        return Difference(mean, None, None, 1)
    half = t_quantile(0.975, n - 1) * statistics.stdev(differences) / math.sqrt(n)
    return Difference(mean, mean - half, mean + half, n)


def t_quantile(probability: float, freedom: int) -> float:
    """Quantile of Student's t distribution, to 1e-6, for 0.5 < ``probability`` < 1 and ``freedom`` >= 1.

    With t = sqrt(f)·tan(a) the density becomes cos(a)^(f-1): bounded, on a bounded interval, so Simpson's rule is
    accurate even where t itself has tails as heavy as Cauchy's.
    """
    assert 0.5 < probability < 1 and freedom >= 1
    scale = math.exp(math.lgamma((freedom + 1) / 2) - math.lgamma(freedom / 2)) / math.sqrt(math.pi)

    def below(angle: float) -> float:
        a = np.linspace(0, angle, 2001)
        weight = np.ones(2001)
        weight[1:-1:2], weight[2:-1:2] = 4, 2
        return 0.5 + scale * float((np.cos(a) ** (freedom - 1) * weight).sum()) * angle / 2000 / 3

    low, high = 0.0, math.pi / 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if below(middle) < probability else (low, middle)
    return math.sqrt(freedom) * math.tan((low + high) / 2)
