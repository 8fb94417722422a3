"""The specification of the exact scores, in numpy: float32 + - * /, comparisons and integer bit operations in a fixed
order.

The other implementations (``eager``, ``compiled``, ``kernel``) must equal this one bit for bit. Slow and plain on
purpose.
"""

from __future__ import annotations

import numpy as np

from esl_dist.pseudo_labels.scores.constants import (
    EXP_MIN,
    EXP_POLYNOMIAL,
    LN2_HIGH,
    LN2_LOW,
    LOG2_E,
    LOG_POLYNOMIAL,
    ROUND,
    SQRT_HALF_BITS,
    TINY,
    inverse_log,
)
from esl_dist.pseudo_labels.scores.coordinates import positions

f32 = np.float32


def log(q: np.ndarray) -> np.ndarray:
    """Natural logarithm of ``max(q, 2^-126)``, float32, within 1 ulp."""
    q = np.maximum(q, f32(TINY))
    bits = q.view(np.int32)
    exponent = (bits - np.int32(SQRT_HALF_BITS)) >> 23
    f = (bits - (exponent << 23)).view(f32) - f32(1)
    e = exponent.astype(f32)
    z = f * f
    p = np.full_like(f, LOG_POLYNOMIAL[0])
    for coefficient in LOG_POLYNOMIAL[1:]:
        p = p * f + f32(coefficient)
    y = p * f * z
    y = y + e * f32(LN2_LOW)
    y = y - f32(0.5) * z
    result: np.ndarray = (f + y) + e * f32(LN2_HIGH)
    return result


def exp(x: np.ndarray) -> np.ndarray:
    """Exponential of x <= 0, float32, within 1 ulp; 0 below -86."""
    clamped = np.maximum(x, f32(EXP_MIN))  # keeps the conversion to integer in range; the result is replaced below
    n = (clamped * f32(LOG2_E) + f32(ROUND)) - f32(ROUND)
    r = (clamped - n * f32(LN2_HIGH)) - n * f32(LN2_LOW)
    z = r * r
    p = np.full_like(r, EXP_POLYNOMIAL[0])
    for coefficient in EXP_POLYNOMIAL[1:]:
        p = p * r + f32(coefficient)
    y = (p * z + r) + f32(1)
    y = (y.view(np.int32) + (n.astype(np.int32) << 23)).view(f32)
    return np.where(x < f32(EXP_MIN), f32(0), y)


def softmax(logits_chw: np.ndarray) -> np.ndarray:
    """``exp(z - max) / sum``, the sum taken in class order."""
    e = exp(logits_chw - logits_chw.max(0))
    total = e[0].copy()
    for plane in e[1:]:
        total = total + plane
    p: np.ndarray = e / total
    return p


def probabilities(logits_chw: np.ndarray, size_hw: tuple[int, int]) -> np.ndarray:
    """Softmax upsampled as probabilities, float32 ``[C, H, W]``: ``a + (b - a) * w``, width first, then height."""
    _, h, w = logits_chw.shape
    left, right, weight_x = positions(w, size_hw[1])
    top, bottom, weight_y = positions(h, size_hw[0])
    p = softmax(logits_chw.astype(f32))
    a, b = p[:, :, left], p[:, :, right]
    wide = (b - a) * weight_x + a
    a, b = wide[:, top], wide[:, bottom]
    q: np.ndarray = (b - a) * weight_y[:, None] + a
    return q


def score(logits_chw: np.ndarray, size_hw: tuple[int, int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Label (uint8), normalised entropy and maximum probability (float32) of every output pixel, each ``[H, W]``.

    ``E = max(0, (0 - q_0 ln q_0 - q_1 ln q_1 - ...) / ln C)`` in class order; the first class with the largest
    probability wins.
    """
    q = probabilities(logits_chw, size_hw)
    label = np.zeros(size_hw, np.uint8)
    best = np.full(size_hw, f32(-1))
    total = np.zeros(size_hw, f32)
    for index, plane in enumerate(q):
        wins = plane > best
        label[wins] = index
        best = np.where(wins, plane, best)
        total = total - plane * log(plane)
    return label, np.maximum(total * inverse_log(len(q)), f32(0)), best


def margins(logits_chw: np.ndarray, size_hw: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Margins of the best class over the second, float32 ``[H, W]`` each: ``p1 - p2``, and ``max(0, ln p1 - ln p2)`` in
    nats.
    """
    q = probabilities(logits_chw, size_hw)
    best, second = np.full(size_hw, f32(-1)), np.zeros(size_hw, f32)
    for plane in q:
        second = np.maximum(second, np.minimum(plane, best))
        best = np.maximum(best, plane)
    return best - second, np.maximum(log(best) - log(second), f32(0))


def relabel(logits_chw: np.ndarray, size_hw: tuple[int, int], thresholds: np.ndarray) -> np.ndarray:
    """CBST's labels: uint8 ``argmax_c P_c / t_c`` (the first maximum), 255 where that ratio is below 1; float32
    ``thresholds [C]``.
    """
    q = probabilities(logits_chw, size_hw)
    label = np.zeros(size_hw, np.uint8)
    best = np.full(size_hw, f32(-1))
    for index, plane in enumerate(q):
        ratio = plane / f32(thresholds[index])
        wins = ratio > best
        label[wins] = index
        best = np.where(wins, ratio, best)
    label[best < f32(1)] = 255
    return label
