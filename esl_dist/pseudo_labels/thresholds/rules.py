"""From counts to thresholds: which order statistic a rule wants, and which keys of each class it then keeps.

ESL (Saporta et al. 2020): ``nu_c = max(nu, median_c E)``, keep ``E <= nu_c``. SSL (Li et al. 2019): ``mu_c = min(mu,
median_c p)``, keep ``p >= mu_c``. ``margin`` and ``views`` (ours) do as SSL does with another confidence, ``median``
without a bound. CBST (Zou et al. 2018): ``t_c`` = probability of the k-th most confident pixel. Everything is compared
as integer keys: an upper bound is rounded down to float32 and a lower one up, which changes no comparison with a
float32 score.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from esl_dist.config.schema import PseudoLabelConfig
from esl_dist.pseudo_labels.scores.keys import LIMITS, at_least, at_most, scores
from esl_dist.pseudo_labels.scores.kinds import Kind, small_is_sure
from esl_dist.pseudo_labels.thresholds import order
from esl_dist.pseudo_labels.thresholds.radix import ranks_of

MAX_PORTION = 0.5
OWN_KIND: dict[str, Kind] = {
    "esl": "entropy",
    "ssl": "probability",
    "median": "entropy",
    "cbst": "probability",
    "margin": "logit_margin",
    "views": "probability",
}
"""The confidence that a rule selects by where ``pseudo_labels.confidence`` names none."""
UNBOUNDED: dict[Kind, float] = {"entropy": 0.0, "probability": 1.0, "margin": 1.0, "logit_margin": 87.5}
"""Bounds that leave the order statistic alone."""


def kind_of(setting: PseudoLabelConfig) -> Kind:
    """The confidence that a rule selects by."""
    return OWN_KIND[setting.rule] if setting.confidence == "auto" else setting.confidence


def relabels(setting: PseudoLabelConfig) -> bool:
    """Whether the rule compares all classes of a pixel anew, so that it needs logits."""
    return setting.rule == "cbst"


def bound_of(setting: PseudoLabelConfig) -> tuple[str, float] | None:
    """Name and value of the fixed bound: nu, mu or margin, by the confidence; None for the order statistic alone."""
    if setting.rule in ("median", "cbst"):
        return None
    name = {"entropy": "nu", "probability": "mu"}.get(kind_of(setting), "margin")
    return name, getattr(setting, name)


def fixed_bound(setting: PseudoLabelConfig) -> float | None:
    """The bound that thresholds are held against; CBST has none."""
    if setting.rule == "cbst":
        return None
    named = bound_of(setting)
    return UNBOUNDED[kind_of(setting)] if named is None else named[1]


def portion_of(setting: PseudoLabelConfig, round_index: int) -> Fraction:
    """CBST's share of each class in a round (0-based), the decimal that the user wrote as an exact fraction."""
    first, growth = Fraction(str(setting.portion)), Fraction(str(setting.portion_growth))
    return max(first, min(first + growth * round_index, Fraction(str(MAX_PORTION))))


def wanted_ranks(setting: PseudoLabelConfig, counts: np.ndarray, round_index: int = 0) -> np.ndarray:
    """0-based rank among the ascending scores of each class, int64 as ``counts`` (one entry a class, or one for all of
    them).
    """
    kind = kind_of(setting)
    if setting.rule == "cbst":
        share = portion_of(setting, round_index)
        return ranks_of(counts, lambda n: order.portion(n, kind, share))
    share = Fraction(str(setting.share))
    return ranks_of(counts, lambda n: order.rank_of(setting.rank, n, kind, share))


@dataclass(frozen=True)
class Thresholds:
    """One rule's thresholds: float32 ``[C]`` to read, int64 keys ``[C]`` to compare with (``first <= key <= last`` is
    kept).
    """

    kind: Kind
    count: np.ndarray
    """Pixels of each class."""
    statistic: np.ndarray
    """The order statistic (median, or CBST's k-th), NaN where the class is absent."""
    threshold: np.ndarray
    first: np.ndarray
    last: np.ndarray


def bound_key(setting: PseudoLabelConfig) -> int | None:
    """nu rounded down, or mu or a margin rounded up, to a float32's key."""
    bound = fixed_bound(setting)
    if bound is None:
        return None
    return at_most(bound) if small_is_sure(kind_of(setting)) else at_least(bound)


def thresholds(setting: PseudoLabelConfig, counts: np.ndarray, found: np.ndarray) -> Thresholds:
    """Thresholds from the pixels of each class and the keys of its order statistic (int64 ``[C]``, -1 where absent)."""
    kind = kind_of(setting)
    absent = found < 0
    statistic = scores(np.maximum(found, 0).astype(np.uint32)).copy()
    statistic[absent] = np.nan
    bound = fixed_bound(setting)
    keep_ties = setting.ties == "keep"
    largest = LIMITS[kind] - 1
    everything = np.full(len(counts), largest, np.int64)
    if small_is_sure(kind):
        assert bound is not None
        # a strict sign excludes the median's own key, and the key of nu only where nu itself is a float32
        highest = at_most(bound)
        strict = highest - (float(scores(np.array([highest]))[0]) == bound)
        last = np.maximum(np.where(absent, -1, found - (not keep_ties)), highest if keep_ties else strict)
        value = scores(np.maximum(found, highest).astype(np.uint32))
        return Thresholds(kind, counts, statistic, value, np.zeros_like(everything), last)
    lowest = largest if bound is None else at_least(bound)
    strict = lowest + (bound is not None and float(scores(np.array([lowest]))[0]) == bound)
    own = np.where(absent, largest, found)
    first = np.minimum(np.where(absent, largest, found + (not keep_ties)), lowest if keep_ties else strict)
    value = scores(np.minimum(own, lowest).astype(np.uint32))
    if setting.rule == "cbst":  # an absent class competes with its plain probability
        value = np.where(absent, np.float32(1), value)
    return Thresholds(kind, counts, statistic, value, first, everything)
