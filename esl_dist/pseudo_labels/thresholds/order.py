"""Which element of the ascending scores of a class is "the median": 0-based rank of n pixels, in exact integers."""

from __future__ import annotations

from fractions import Fraction
from typing import Literal

from esl_dist.pseudo_labels.scores.kinds import Kind, small_is_sure

Rank = Literal["keep", "lower", "upper", "reference"]
HALF = Fraction(1, 2)


def keep(n: int, kind: Kind, share: Fraction = HALF) -> int:
    """Rank of the tightest threshold that keeps at least ``ceil(share * n)`` pixels.

    Entropy keeps the small ones, so the rank counts from below; the others keep the large ones, so it counts from
    above.
    """
    kept = min(max(-(-share.numerator * n // share.denominator), 1), n)
    return kept - 1 if small_is_sure(kind) else n - kept


def reference(n: int) -> int:
    """Rank that the published code takes: n / 2 rounded half to even, at most n - 1 (3 -> 2, 5 -> 2, 7 -> 4)."""
    half, odd = divmod(n, 2)
    return min(half + (1 if odd and half % 2 else 0), n - 1)


def portion(n: int, kind: Kind, share: Fraction) -> int:
    """Rank of the k-th most confident pixel, ``k = floor(share * n)`` and at least 1 (CBST, Zou et al. 2018, section
    3.2).
    """
    confident = max(share.numerator * n // share.denominator, 1)
    return confident - 1 if small_is_sure(kind) else n - confident


def rank_of(rule: Rank, n: int, kind: Kind, share: Fraction = HALF) -> int:
    """The rank that ``rule`` takes of ``n`` (at least 1) ascending scores; ``share`` matters to ``keep`` only."""
    assert n >= 1
    if rule == "keep":
        return keep(n, kind, share)
    if rule == "lower":
        return (n - 1) // 2
    if rule == "upper":
        return n // 2
    if rule == "reference":
        return reference(n)
    raise ValueError(f"rank: unknown {rule!r}; one of keep, lower, upper, reference")
