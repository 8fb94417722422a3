"""The numbers of the IEEE-only scores: every implementation takes them from here, so that none can drift.

The polynomials are those of Cephes' single-precision ``logf`` and ``expf`` (Moshier, netlib), as floats. ``LN2_HIGH +
LN2_LOW`` is ln 2 split so that ``n * LN2_HIGH`` is exact for the exponents that occur.
"""

from __future__ import annotations

import numpy as np

LOG_POLYNOMIAL = (
    7.0376836292e-2,
    -1.1514610310e-1,
    1.1676998740e-1,
    -1.2420140846e-1,
    1.4249322787e-1,
    -1.6668057665e-1,
    2.0000714765e-1,
    -2.4999993993e-1,
    3.3333331174e-1,
)
EXP_POLYNOMIAL = (1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1)
LN2_HIGH = 0.693359375
LN2_LOW = -2.12194440e-4
LOG2_E = 1.44269504088896341
ROUND = 12582912.0  # 1.5 * 2^23: adding and subtracting it rounds a float32 to an integer, ties to even
TINY = 2.0**-126  # smallest normal float32: log takes nothing smaller, so that 0 * log 0 is 0
EXP_MIN = -86.0  # below it exp is 0; above it 2^n stays normal
SQRT_HALF_BITS = 0x3F3504F3  # bits of sqrt(1/2): splits a float into m * 2^e with m in [sqrt(1/2), sqrt(2))


def inverse_log(num_classes: int) -> np.float32:
    """``1 / ln C``, rounded once to float32: it scales an entropy to [0, 1]."""
    assert num_classes >= 2
    return np.float32(1.0 / np.log(float(num_classes)))
