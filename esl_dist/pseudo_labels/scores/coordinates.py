"""Where an output pixel lies between input pixels, as exact rationals (bilinear, ``align_corners=True``)."""

from __future__ import annotations

from functools import lru_cache

import numpy as np


@lru_cache(maxsize=256)
def positions(n_in: int, n_out: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Left neighbours, right neighbours (int32 ``[n_out]``) and the weight of the right one (float32 ``[n_out]``, in
    [0, 1)).

    Position i is ``i * (n_in - 1) / (n_out - 1)``: the integer part by integer division, the remainder divided once in
    float64 and rounded once to float32, so that every machine gets the same weights.
    """
    assert n_in >= 1 and n_out >= 1
    scaled = np.arange(n_out, dtype=np.int64) * (n_in - 1)
    steps = max(n_out - 1, 1)
    left = scaled // steps
    weight = ((scaled - left * steps) / steps).astype(np.float32)
    right = np.minimum(left + 1, n_in - 1)
    tables = left.astype(np.int32), right.astype(np.int32), weight
    for table in tables:
        table.flags.writeable = False  # the cache hands the same arrays to everyone
    return tables
