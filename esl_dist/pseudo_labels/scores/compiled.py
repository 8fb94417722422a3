"""The exact scores compiled by numba: labels, scores and first-pass histograms in one go over the image, the bits of
``spec``.

What keeps the bits, and the vector instructions: no fastmath (so LLVM forms no fused multiply-add); every constant a
float32 (a Python float would promote to float64); every integer result cast back to int32 (numba widens to int64; LLVM
folds the casts); the class loop outside and the pixel loop inside, on rows that stay in cache. All functions release
the interpreter, so threads over images scale.
"""

# mypy: disable-error-code="untyped-decorator,no-untyped-def"
from __future__ import annotations

import numpy as np
from numba import njit

from esl_dist.pseudo_labels.keys import HIGH_BINS
from esl_dist.pseudo_labels.scores import constants as k
from esl_dist.pseudo_labels.scores.coordinates import positions

f32, i32 = np.float32, np.int32
ZERO, ONE, HALF, NONE = f32(0), f32(1), f32(0.5), f32(-1)
TINY, EXP_MIN, LOG2_E, ROUND, LN2_HIGH, LN2_LOW = (
    f32(x) for x in (k.TINY, k.EXP_MIN, k.LOG2_E, k.ROUND, k.LN2_HIGH, k.LN2_LOW)
)
L0, L1, L2, L3, L4, L5, L6, L7, L8 = (f32(x) for x in k.LOG_POLYNOMIAL)
E0, E1, E2, E3, E4, E5 = (f32(x) for x in k.EXP_POLYNOMIAL)
SQRT_HALF, MANTISSA, MAGNITUDE, HIGH_SHIFT = i32(k.SQRT_HALF_BITS), i32(23), i32(0x7FFFFFFF), i32(16)
LAST_BIN = i32(HIGH_BINS - 1)


@njit(error_model="numpy")
def _log(q):
    bits = f32(q).view(np.int32)
    d = i32(i32(bits - SQRT_HALF) >> MANTISSA)
    f = i32(bits - i32(d << MANTISSA)).view(np.float32) - ONE
    e = f32(d)
    z = f * f
    p = (((((((L0 * f + L1) * f + L2) * f + L3) * f + L4) * f + L5) * f + L6) * f + L7) * f + L8
    y = p * f * z
    y = y + e * LN2_LOW
    y = y - HALF * z
    return (f + y) + e * LN2_HIGH


@njit(error_model="numpy")
def _exp(x):
    clamped = x if x > EXP_MIN else EXP_MIN
    n = (clamped * LOG2_E + ROUND) - ROUND
    r = (clamped - n * LN2_HIGH) - n * LN2_LOW
    z = r * r
    p = ((((E0 * r + E1) * r + E2) * r + E3) * r + E4) * r + E5
    y = f32((p * z + r) + ONE)
    value = i32(y.view(np.int32) + i32(i32(n) << MANTISSA)).view(np.float32)
    return ZERO if x < EXP_MIN else value


@njit(cache=True, error_model="numpy", nogil=True)
def _wide_probabilities(z, left, right, weight, scratch):
    """Softmax of float32 ``[C, h, w]``, interpolated along the width: ``[C, h, W]`` in float32 ``scratch``."""
    num_classes, h, w = z.shape
    width = left.shape[0]
    n = h * w
    flat = z.reshape(num_classes, n)
    wide = scratch[: num_classes * h * width].reshape(num_classes, h, width)
    p = scratch[num_classes * h * width : num_classes * h * (width + w)].reshape(num_classes, n)
    top, total = np.empty(n, np.float32), np.empty(n, np.float32)
    for i in range(n):
        top[i] = flat[0, i]
    for c in range(1, num_classes):
        for i in range(n):
            v = flat[c, i]
            top[i] = v if v > top[i] else top[i]
    for c in range(num_classes):
        for i in range(n):
            p[c, i] = _exp(flat[c, i] - top[i])
    for i in range(n):
        total[i] = p[0, i]
    for c in range(1, num_classes):
        for i in range(n):
            total[i] = total[i] + p[c, i]
    for c in range(num_classes):
        for i in range(n):
            p[c, i] = p[c, i] / total[i]
    for c in range(num_classes):
        for r in range(h):
            row, out = p[c, r * w : (r + 1) * w], wide[c, r]
            for x in range(width):
                a = row[left[x]]
                out[x] = (row[right[x]] - a) * weight[x] + a
    return wide


@njit(cache=True, error_model="numpy", nogil=True)
def _rows(wide, top, bottom, weight, scale, label, entropy, best, high_entropy, high_probability):
    """All output rows; histograms with no row are not counted."""
    num_classes, _, width = wide.shape
    scratch, winner = np.empty((2, width), np.float32), np.empty(width, np.int32)
    best_row, total = (
        scratch[0],
        scratch[1],
    )  # rows of one array: two more arrays to keep apart would cost the vector loop
    for y in range(top.shape[0]):
        t = weight[y]
        for x in range(width):
            best_row[x] = NONE
            total[x] = ZERO
            winner[x] = i32(0)
        for c in range(num_classes):
            upper, lower, this = wide[c, top[y]], wide[c, bottom[y]], i32(c)
            for x in range(width):
                a = upper[x]
                q = (lower[x] - a) * t + a
                wins = q > best_row[x]
                winner[x] = this if wins else winner[x]
                best_row[x] = q if wins else best_row[x]
                total[x] = total[x] - q * _log(q if q > TINY else TINY)
        entropy_row, best_out, label_row = entropy[y], best[y], label[y]
        for x in range(width):
            e = total[x] * scale
            entropy_row[x] = e if e > ZERO else ZERO
            best_out[x] = best_row[x]
            label_row[x] = np.uint8(winner[x])
        if high_entropy.shape[0]:
            for x in range(width):
                b = i32(i32(f32(entropy_row[x]).view(np.int32) & MAGNITUDE) >> HIGH_SHIFT)
                high_entropy[winner[x], b if b < LAST_BIN else LAST_BIN] += 1
        if high_probability.shape[0]:
            for x in range(width):
                b = i32(i32(f32(best_row[x]).view(np.int32) & MAGNITUDE) >> HIGH_SHIFT)
                high_probability[winner[x], b if b < LAST_BIN else LAST_BIN] += 1


NOT_COUNTED = np.empty((0, HIGH_BINS), np.int64)


def scratch_length(num_classes: int, h: int, w: int, width: int) -> int:
    """Floats of working memory for logits ``[C, h, w]`` and an output so many pixels wide."""
    return num_classes * h * (w + width)


def score(
    logits_chw: np.ndarray,
    label: np.ndarray,
    entropy: np.ndarray,
    best: np.ndarray,
    high_entropy: np.ndarray = NOT_COUNTED,
    high_probability: np.ndarray = NOT_COUNTED,
    scratch: np.ndarray | None = None,
) -> None:
    """Fill label (uint8), normalised entropy and maximum probability (float32), each ``[H, W]``, from float32 logits
    ``[C, h, w]``.

    Every pixel is also added to the int64 histograms ``[C, HIGH_BINS]`` that are given. ``scratch`` is working memory,
    float32 of at least :func:`scratch_length`; None allocates it.
    """
    z = np.ascontiguousarray(logits_chw, np.float32)
    height, width = label.shape
    if scratch is None:
        scratch = np.empty(scratch_length(len(z), z.shape[1], z.shape[2], width), np.float32)
    wide = _wide_probabilities(z, *positions(z.shape[2], width), scratch)
    _rows(
        wide,
        *positions(z.shape[1], height),
        k.inverse_log(len(z)),
        label,
        entropy,
        best,
        high_entropy,
        high_probability,
    )


@njit(cache=True, error_model="numpy", nogil=True)
def count_low(histogram, slot, label, key):
    """``histogram[slot[label, key >> 16], key & 0xFFFF] += 1`` where the slot is not negative; flat int32 ``key``."""
    for i in range(label.shape[0]):
        row = slot[label[i], i32(key[i] >> HIGH_SHIFT)]
        if row >= 0:
            histogram[row, i32(key[i] & i32(0xFFFF))] += 1


@njit(cache=True, error_model="numpy", nogil=True)
def mask(label, key, first, last, out, kept):
    """``out = label`` where ``first[label] <= key <= last[label]`` else 255, and int64 ``kept[out] += 1``.

    Flat int32 ``key``; int32 ``first``, ``last`` and int64 ``kept`` of length 256. Four tables, because neighbours are
    mostly alike and a single counter would wait for itself.
    """
    tables = np.zeros((4, 256), np.int64)
    n = label.shape[0]
    for i in range(n):
        c = label[i]
        out[i] = c if first[c] <= key[i] and key[i] <= last[c] else np.uint8(255)
    for i in range(0, n - 3, 4):
        for j in range(4):
            tables[j, out[i + j]] += 1
    for i in range(n - n % 4, n):
        kept[out[i]] += 1
    for j in range(4):
        kept += tables[j]
