"""The exact scores compiled by numba: labels, scores and first-pass histograms in one go over the image, the bits of
``spec``.

What keeps the bits, and the vector instructions: no fastmath (so LLVM forms no fused multiply-add); every constant a
float32 (a Python float would promote to float64); every integer result cast back to int32 (numba widens to int64; LLVM
folds the casts); the class loop outside and the pixel loop inside, on rows that stay in cache. All functions release
the interpreter, so threads over images scale.
"""

# mypy: disable-error-code="untyped-decorator,no-untyped-def"
from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
from numba import njit

from esl_dist.pseudo_labels.scores import constants as k
from esl_dist.pseudo_labels.scores.coordinates import positions
from esl_dist.pseudo_labels.scores.keys import HIGH_BINS
from esl_dist.pseudo_labels.scores.kinds import KINDS, Kind

f32, i32 = np.float32, np.int32
ZERO, ONE, HALF, NONE = f32(0), f32(1), f32(0.5), f32(-1)
TINY, EXP_MIN, LOG2_E, ROUND, LN2_HIGH, LN2_LOW = (
    f32(x) for x in (k.TINY, k.EXP_MIN, k.LOG2_E, k.ROUND, k.LN2_HIGH, k.LN2_LOW)
)
L0, L1, L2, L3, L4, L5, L6, L7, L8 = (f32(x) for x in k.LOG_POLYNOMIAL)
E0, E1, E2, E3, E4, E5 = (f32(x) for x in k.EXP_POLYNOMIAL)
SQRT_HALF, MANTISSA, MAGNITUDE, HIGH_SHIFT = i32(k.SQRT_HALF_BITS), i32(23), i32(0x7FFFFFFF), i32(16)


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


@njit(error_model="numpy")
def _count(row, winner, high):
    """Add the upper digits of a row's keys to int64 ``high [C, bins]``, if it has a row."""
    if high.shape[0]:
        last = i32(high.shape[1] - 1)
        for x in range(row.shape[0]):
            b = i32(i32(f32(row[x]).view(np.int32) & MAGNITUDE) >> HIGH_SHIFT)
            high[winner[x], b if b < last else last] += 1


@njit(cache=True, error_model="numpy", nogil=True)
def _softmax(z, p):
    """Softmax of float32 ``z [C, n]`` into ``p``, the sum in class order."""
    num_classes, n = z.shape
    top, total = np.empty(n, np.float32), np.empty(n, np.float32)
    for i in range(n):
        top[i] = z[0, i]
    for c in range(1, num_classes):
        for i in range(n):
            v = z[c, i]
            top[i] = v if v > top[i] else top[i]
    for c in range(num_classes):
        for i in range(n):
            p[c, i] = _exp(z[c, i] - top[i])
    for i in range(n):
        total[i] = p[0, i]
    for c in range(1, num_classes):
        for i in range(n):
            total[i] = total[i] + p[c, i]
    for c in range(num_classes):
        for i in range(n):
            p[c, i] = p[c, i] / total[i]


@njit(cache=True, error_model="numpy", nogil=True)
def _widen(p, r, horizontal, out):
    """Row ``r`` of ``p [C, h, w]``, interpolated along the width: ``out [C, W]``."""
    left, right, weight = horizontal
    for c in range(p.shape[0]):
        row, line = p[c, r], out[c]
        for x in range(line.shape[0]):
            a = row[left[x]]
            line[x] = (row[right[x]] - a) * weight[x] + a


@njit(cache=True, error_model="numpy", nogil=True)
def _rows(p, horizontal, vertical, scale, label, maps, high, lines):
    """All output rows: ``label``, and of ``maps`` and ``high`` (in the order of ``kinds.KINDS``) those that are not
    empty, from probabilities ``[C, h, w]``.

    Only the two input rows around an output row are ever as wide as it, in float32 ``lines [2, C, W]``: they stay in
    the cache.
    """
    top, bottom, weight = vertical
    entropy, best, margin, logit_margin = maps
    high_entropy, high_best, high_margin, high_logit_margin = high
    num_classes, width = p.shape[0], label.shape[1]
    over, under, known = lines[0], lines[1], -1
    scratch, winner = np.empty((3, width), np.float32), np.empty(width, np.int32)
    # rows of one array: more arrays to keep apart would cost the vector loop
    best_row, total, second = scratch[0], scratch[1], scratch[2]
    wants_entropy, wants_second = entropy.shape[0] > 0, margin.shape[0] > 0 or logit_margin.shape[0] > 0
    for y in range(top.shape[0]):
        t = weight[y]
        if top[y] != known:
            if known >= 0 and top[y] == known + 1:
                over, under = under, over
            else:
                _widen(p, top[y], horizontal, over)
            _widen(p, bottom[y], horizontal, under)
            known = top[y]
        for x in range(width):
            best_row[x] = NONE
            total[x] = ZERO
            second[x] = ZERO
            winner[x] = i32(0)
        for c in range(num_classes):
            upper, lower, this = over[c], under[c], i32(c)
            if wants_second:
                for x in range(width):
                    a = upper[x]
                    q = (lower[x] - a) * t + a
                    beaten = q if q < best_row[x] else best_row[x]
                    second[x] = beaten if beaten > second[x] else second[x]
            if wants_entropy:
                for x in range(width):
                    a = upper[x]
                    q = (lower[x] - a) * t + a
                    wins = q > best_row[x]
                    winner[x] = this if wins else winner[x]
                    best_row[x] = q if wins else best_row[x]
                    total[x] = total[x] - q * _log(q if q > TINY else TINY)
            else:
                for x in range(width):
                    a = upper[x]
                    q = (lower[x] - a) * t + a
                    wins = q > best_row[x]
                    winner[x] = this if wins else winner[x]
                    best_row[x] = q if wins else best_row[x]
        label_row = label[y]
        for x in range(width):
            label_row[x] = np.uint8(winner[x])
        if wants_entropy:
            row = entropy[y]
            for x in range(width):
                e = total[x] * scale
                row[x] = e if e > ZERO else ZERO
            _count(row, winner, high_entropy)
        if best.shape[0]:
            row = best[y]
            for x in range(width):
                row[x] = best_row[x]
            _count(row, winner, high_best)
        if margin.shape[0]:
            row = margin[y]
            for x in range(width):
                row[x] = best_row[x] - second[x]
            _count(row, winner, high_margin)
        if logit_margin.shape[0]:
            row = logit_margin[y]
            for x in range(width):
                q, r = best_row[x], second[x]
                m = _log(q if q > TINY else TINY) - _log(r if r > TINY else TINY)
                row[x] = m if m > ZERO else ZERO
            _count(row, winner, high_logit_margin)


NO_MAP = np.empty((0, 0), np.float32)
NO_HISTOGRAM = np.empty((0, HIGH_BINS), np.int64)


def scratch_length(num_classes: int, h: int, w: int, width: int) -> int:
    """Floats of working memory for logits ``[C, h, w]`` and an output so many pixels wide."""
    return num_classes * (h * w + 2 * width)


def score(
    logits_chw: np.ndarray,
    label: np.ndarray,
    maps: Mapping[Kind, np.ndarray],
    high: Mapping[Kind, np.ndarray] = MappingProxyType({}),
    scratch: np.ndarray | None = None,
) -> None:
    """Fill label (uint8) and the confidences of ``maps`` (float32), each ``[H, W]``, from float32 logits ``[C, h, w]``.

    Every pixel is also added to the int64 histograms ``[C, bins]`` of ``high``, whose confidences must be among those
    of ``maps``. ``scratch`` is working memory, float32 of at least :func:`scratch_length`; None allocates it.
    """
    z = np.ascontiguousarray(logits_chw, np.float32)
    height, width = label.shape
    if scratch is None:
        scratch = np.empty(scratch_length(len(z), z.shape[1], z.shape[2], width), np.float32)
    classes, h, w = z.shape
    p = scratch[: classes * h * w].reshape(classes, h, w)
    lines = scratch[p.size : p.size + 2 * classes * width].reshape(2, classes, width)
    _softmax(z.reshape(classes, -1), p.reshape(classes, -1))
    wanted = tuple(maps.get(kind, NO_MAP) for kind in KINDS)
    counted = tuple(high.get(kind, NO_HISTOGRAM) for kind in KINDS)
    _rows(p, positions(w, width), positions(h, height), k.inverse_log(classes), label, wanted, counted, lines)
