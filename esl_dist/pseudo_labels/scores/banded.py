"""The exact scores in numpy, in place and in blocks that stay in the processor's cache: the host's way without numba.

The bits of ``spec`` by the same operations on the same numbers, with what the order of the operations leaves free: all
classes of a few output rows at a time, memory that is used again, an entropy's sum as one reduction in class order.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from esl_dist.pseudo_labels.scores import constants as k
from esl_dist.pseudo_labels.scores import spec
from esl_dist.pseudo_labels.scores.coordinates import positions
from esl_dist.pseudo_labels.scores.kinds import MARGINS, Kind

BLOCK = 1 << 16
"""Class values at a time: six arrays of so many float32 are 1.5 MiB, about what a core's second-level cache holds; with
fewer, the calls take longer than the arithmetic.
"""

f32, i32 = np.float32, np.int32
EXPONENT = i32(-(1 << 23))
"""Mask of a float32's sign and exponent."""
ULP_OF_EXPONENT = f32(2.0**-23)
SQRT_HALF = i32(k.SQRT_HALF_BITS)
TINY, ZERO, ONE, HALF = f32(k.TINY), f32(0), f32(1), f32(0.5)
POLYNOMIAL = tuple(f32(c) for c in k.LOG_POLYNOMIAL)
# The exponent e is left where it lies in the float's bits, so it comes as e * 2^23; a power of two rounds nothing.
LOW, HIGH = f32(k.LN2_LOW) * ULP_OF_EXPONENT, f32(k.LN2_HIGH) * ULP_OF_EXPONENT


class _Log:
    """Natural logarithm of up to ``size`` values, into memory of its own."""

    def __init__(self, size: int) -> None:
        self.floats = [np.empty(size, f32) for _ in range(4)]
        self.tiny = np.full(size, TINY)
        self.integers = np.empty(size, i32)

    def __call__(self, q: np.ndarray) -> np.ndarray:
        """``log(max(q, 2^-126))`` of a flat array, in memory that the next call uses again."""
        f, e, z, product = (scratch[: len(q)] for scratch in self.floats)
        t = self.integers[: len(q)]
        np.maximum(q, self.tiny[: len(q)], out=f)  # an array: numpy has no vector loop for a scalar here
        bits = f.view(i32)
        np.subtract(bits, SQRT_HALF, out=t)
        np.bitwise_and(t, EXPONENT, out=t)
        np.subtract(bits, t, out=bits)
        np.copyto(e, t, casting="same_kind")
        np.subtract(f, ONE, out=f)
        y = t.view(f32)
        np.multiply(f, POLYNOMIAL[0], out=y)
        np.add(y, POLYNOMIAL[1], out=y)
        for coefficient in POLYNOMIAL[2:]:
            np.multiply(y, f, out=y)
            np.add(y, coefficient, out=y)
        np.multiply(f, f, out=z)
        np.multiply(y, f, out=y)
        np.multiply(y, z, out=y)
        np.multiply(e, LOW, out=product)
        np.add(y, product, out=y)
        np.multiply(z, HALF, out=z)
        np.subtract(y, z, out=y)
        np.add(f, y, out=f)
        np.multiply(e, HIGH, out=e)
        np.add(f, e, out=f)
        return f


class Scratch:
    """Working memory of one thread, for any number of images."""

    def __init__(self) -> None:
        self.size = 0

    def of(self, size: int) -> tuple[np.ndarray, np.ndarray, _Log]:
        """Flat float32 and uint8 memory, and a logarithm, for ``size`` values at least."""
        if size > self.size:
            self.size = size
            self.values, self.flags, self.log = np.empty(size, f32), np.empty(size, np.uint8), _Log(size)
        return self.values[:size], self.flags[:size], self.log


def score(logits_chw: np.ndarray, label: np.ndarray, maps: Mapping[Kind, np.ndarray], scratch: Scratch) -> None:
    """Fill label (uint8) and the confidences of ``maps`` (float32), each ``[H, W]``, from float32 logits
    ``[C, h, w]``.
    """
    p = spec.softmax(logits_chw)
    classes, h, w = p.shape
    height, width = label.shape
    left, right, weight_x = positions(w, width)
    left, right = left.astype(np.intp), right.astype(np.intp)
    top, bottom, weight_y = positions(h, height)
    rows = max(1, BLOCK // (classes * width))
    upper, lower, step = np.empty((3, classes, width), f32)

    def widen(row: int, out: np.ndarray) -> None:
        """One row of the probabilities, interpolated along the width."""
        np.take(p[:, row], right, axis=1, out=out, mode="clip")
        np.take(p[:, row], left, axis=1, out=step, mode="clip")
        np.subtract(out, step, out=out)
        np.multiply(out, weight_x, out=out)
        np.add(out, step, out=out)

    start, known = 0, -1
    while start < height:
        above, below = int(top[start]), int(bottom[start])
        if above != known:
            if known >= 0 and above == known + 1:
                upper, lower = lower, upper
            else:
                widen(above, upper)
            widen(below, lower)
            np.subtract(lower, upper, out=step)
            known = above
        end = min(start + rows, int(np.searchsorted(top, above, side="right")))
        values, flags, log = scratch.of(classes * (end - start) * width)
        q = values.reshape(classes, end - start, width)
        for y in range(start, end):
            np.multiply(step, weight_y[y], out=q[:, y - start])
        np.add(q, upper[:, None], out=q)
        part = {kind: values[start:end] for kind, values in maps.items()}
        _block(q, flags.reshape(q.shape), log, label[start:end], part)
        start = end


def _block(q: np.ndarray, flags: np.ndarray, log: _Log, label: np.ndarray, maps: Mapping[Kind, np.ndarray]) -> None:
    """The scores of a few rows from their probabilities ``[C, rows, W]``, which margins change."""
    classes = len(q)
    best = np.maximum.reduce(q, axis=0, out=maps.get("probability"))
    if "entropy" in maps:
        terms = log(q.reshape(-1)).reshape(q.shape)
        np.multiply(terms, q, out=terms)
        total = maps["entropy"]
        np.subtract(ZERO, terms[0], out=terms[0])
        np.subtract.reduce(terms, axis=0, out=total)  # in class order, which a sum would not promise
        np.multiply(total, k.inverse_log(classes), out=total)
        np.maximum(total, ZERO, out=total)
    # the first class that has the maximum is the one with the largest mark
    np.equal(q, best, out=flags.view(bool))
    np.multiply(flags, np.arange(classes, 0, -1, dtype=np.uint8)[:, None, None], out=flags)
    np.maximum.reduce(flags, axis=0, out=label)
    np.subtract(np.uint8(classes), label, out=label)
    if MARGINS & set(maps):
        np.put_along_axis(q, label[None].astype(np.intp), f32(-1), axis=0)
        second = np.maximum.reduce(q, axis=0, initial=ZERO)
        if "margin" in maps:
            np.subtract(best, second, out=maps["margin"])
        if "logit_margin" in maps:
            odds = maps["logit_margin"]
            odds[...] = log(best.reshape(-1)).reshape(best.shape)
            np.subtract(odds, log(second.reshape(-1)).reshape(best.shape), out=odds)
            np.maximum(odds, ZERO, out=odds)
