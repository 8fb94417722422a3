"""Weighted self-information and entropy of predictions (Vu et al., ADVENT, CVPR 2019)."""

from __future__ import annotations

import math

from torch import Tensor

from esl_dist.losses.precision import wide

EPSILON = 1e-30
"""Added to a probability before its logarithm, as in the public code: 0 log 0 = 0 without a NaN."""


def self_information(prob: Tensor) -> Tensor:
    """Weighted self-information ``-P log2(P + 1e-30) / log2 C``, per class and pixel (ADVENT, eq. 4, normalised).

    ``[N, C, ...]`` probabilities to the same shape, float32 (float64 stays); each value in [0, 0.531 / log2 C], a
    pixel's sum in [0, 1].
    """
    prob = wide(prob)
    return -prob * (prob + EPSILON).log2() / math.log2(prob.shape[1])


def entropy_loss(prob: Tensor) -> Tensor:
    """MinEnt: the mean over pixels of the normalised entropy ``sum_c -P log2(P + 1e-30) / log2 C`` (ADVENT, eqs. 2 and
    3). 0-dim, in [0, 1].

    A mean over images of equal size, so the mean over ranks of equal batches is the loss of the global batch.
    """
    return self_information(prob).sum() / (prob.numel() // prob.shape[1])
