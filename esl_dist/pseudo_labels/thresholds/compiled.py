"""The second pass and the mask compiled by numba: one pass over the pixels instead of numpy's five; without the
interpreter's lock.
"""

# mypy: disable-error-code="untyped-decorator,no-untyped-def"
from __future__ import annotations

import numpy as np
from numba import njit

i32 = np.int32
HIGH_SHIFT = i32(16)


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
