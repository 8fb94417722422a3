"""Statistics of a batch from those of its parts, and what training leaves of them for evaluation: of the chunks of one
rank's batch and of the batches of all ranks alike.
"""

# mypy: disable-error-code="untyped-decorator,no-untyped-def"
from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def combined(means, squares, around, count, rows, inside):
    """Mean of all rows and their sum of squared distances from it (Chan, Golub and LeVeque 1983), per channel.

    ``means`` and ``squares`` ``[parts, channels]`` of parts with ``count`` ``[parts, 1]`` rows; sums are taken of
    distances from ``around``, the first part's mean, so that a large mean costs no digits.
    """
    away = tl.sum(tl.where(inside, means - around[None, :], 0.0) * count, 0) / rows
    mean = around + away
    distance = tl.where(inside, means - mean[None, :], 0.0)
    return mean, tl.sum(squares + distance * distance * count, 0)


@triton.jit
def remember(running_mean, running_variance, batches, channel, known, mean, squares, rows, momentum):
    """Take a batch into the running averages, with its unbiased variance, as torch does."""
    old_mean = tl.load(running_mean + channel, mask=known, other=0.0)
    old_variance = tl.load(running_variance + channel, mask=known, other=0.0)
    tl.store(running_mean + channel, (1.0 - momentum) * old_mean + momentum * mean, mask=known)
    variance = squares / (rows - 1)
    tl.store(running_variance + channel, (1.0 - momentum) * old_variance + momentum * variance, mask=known)
    if tl.program_id(0) == 0:
        tl.store(batches, tl.load(batches) + 1)
