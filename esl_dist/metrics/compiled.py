"""The argmax by cells and the count of pairs compiled by numba: the pixels and the integers of ``upsample`` and
``confusion``.

No fastmath, so that products and sums are rounded one by one as torch rounds them, and every constant a float32. Both
functions release the interpreter.
"""

# mypy: disable-error-code="untyped-decorator,no-untyped-def"
from __future__ import annotations

import numpy as np
from numba import njit

ONE = np.float32(1)
MARGIN = np.float32(1e-5)
"""Of the largest magnitude. Two levels of interpolation round by less than a twentieth of it."""


@njit(cache=True, error_model="numpy", nogil=True)
def label_cells(corners, winner, rows, row_weight, columns, column_weight, margin, label):
    """Fill ``label``, uint8 ``[H, W]``, from finite float32 ``corners [h, w, C]`` and their ``winner``, uint8 ``[h,
    w]``.

    ``rows`` and ``columns`` are the cell of every output row and column, int64 and rising, with the float32 weight of
    the far corner. A class that lies ``margin`` below one other class at all four corners lies below it everywhere
    inside, rounding included: it is left out, and of most mixed cells two or three classes remain.
    """
    h, w, classes = corners.shape
    height, width = label.shape
    kept = np.empty(classes, np.int64)
    first_x = np.searchsorted(columns, np.arange(w))
    first_y = np.searchsorted(rows, np.arange(h))
    first_x[w - 1], first_y[h - 1] = width, height
    widest = 0
    for j in range(w - 1):
        widest = max(widest, first_x[j + 1] - first_x[j])
    upper, lower, best = np.empty(widest, np.float32), np.empty(widest, np.float32), np.empty((0, 0), np.float32)
    found = np.empty((0, 0), np.int32)
    for i in range(h - 1):
        y0, y1 = first_y[i], first_y[i + 1]
        if y0 == y1:
            continue
        for j in range(w - 1):
            label[y0, first_x[j] : first_x[j + 1]] = winner[i, j]
        for y in range(y0 + 1, y1):
            label[y] = label[y0]
        if best.shape[0] < y1 - y0:
            best, found = np.empty((y1 - y0, widest), np.float32), np.empty((y1 - y0, widest), np.int32)
        for j in range(w - 1):
            a, b, c, d = winner[i, j], winner[i, j + 1], winner[i + 1, j], winner[i + 1, j + 1]
            x0, x1 = first_x[j], first_x[j + 1]
            if (a == b and a == c and a == d) or x0 == x1:
                continue
            near, right, below, far = corners[i, j], corners[i, j + 1], corners[i + 1, j], corners[i + 1, j + 1]
            left = 0
            for k in range(classes):
                hopeless = False
                for rival in (a, b, c, d):
                    hopeless |= (
                        near[rival] - near[k] > margin
                        and right[rival] - right[k] > margin
                        and below[rival] - below[k] > margin
                        and far[rival] - far[k] > margin
                    )
                if not hopeless:
                    kept[left] = k
                    left += 1
            for index in range(left):
                k = kept[index]
                name = np.int32(k)
                for x in range(x1 - x0):
                    t = column_weight[x0 + x]
                    upper[x] = near[k] * (ONE - t) + right[k] * t
                    lower[x] = below[k] * (ONE - t) + far[k] * t
                for y in range(y1 - y0):
                    t = row_weight[y0 + y]
                    s = ONE - t
                    best_row, found_row = best[y], found[y]
                    if index == 0:
                        for x in range(x1 - x0):
                            best_row[x] = upper[x] * s + lower[x] * t
                            found_row[x] = name
                    else:
                        for x in range(x1 - x0):
                            value = upper[x] * s + lower[x] * t
                            wins = value > best_row[x]
                            best_row[x] = value if wins else best_row[x]
                            found_row[x] = name if wins else found_row[x]
            for y in range(y1 - y0):
                for x in range(x1 - x0):
                    label[y0 + y, x0 + x] = found[y, x]


@njit(cache=True, error_model="numpy", nogil=True)
def count_pairs(label, prediction, classes):
    """int64 ``[C, C]`` of flat uint8 labels (rows) and predictions; a value of C or more in either leaves its pixel
    out.

    Four tables, because neighbours are mostly alike and a single counter would wait for itself.
    """
    side = classes + 1  # the last row and column take what is left out
    tables = np.zeros((4, side * side), np.int64)
    n = label.shape[0]
    for i in range(n):
        row, column = min(np.int64(label[i]), classes), min(np.int64(prediction[i]), classes)
        tables[i & 3, row * side + column] += 1
    total = tables[0] + tables[1] + tables[2] + tables[3]
    return total.reshape(side, side)[:classes, :classes].copy()
