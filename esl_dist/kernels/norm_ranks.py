"""Statistics of a batch norm over the batches of all ranks, from those of each, in rank order."""

# mypy: disable-error-code="untyped-decorator,no-untyped-def"
from __future__ import annotations

import triton
import triton.language as tl

from esl_dist.kernels.moments import combined, remember


@triton.jit(do_not_specialize=["world", "momentum"])
def combine_ranks(
    gathered,
    mean_out,
    inverse_out,
    count_out,
    running_mean,
    running_variance,
    batches,
    world,
    channels,
    epsilon,
    momentum,
    TRACKED: tl.constexpr,
    WORLD: tl.constexpr,
    CHANNELS: tl.constexpr,
):
    """Mean, one over the deviation and rows of all ranks, and the running averages.

    A rank's row of ``gathered`` has its means, its squared distances from them, and its number of rows.
    """
    channel = tl.program_id(0) * CHANNELS + tl.arange(0, CHANNELS)
    rank = tl.arange(0, WORLD)
    known = channel < channels
    inside = (rank < world)[:, None] & known[None, :]
    width = 2 * channels + 1
    place = rank[:, None] * width + channel[None, :]
    count = tl.load(gathered + rank * width + 2 * channels, mask=rank < world, other=0.0)
    rows = tl.sum(count, 0)
    mean_of = tl.load(gathered + place, mask=inside, other=0.0)
    squares_of = tl.load(gathered + place + channels, mask=inside, other=0.0)
    around = tl.load(gathered + channel, mask=known, other=0.0)
    mean, total = combined(mean_of, squares_of, around, count[:, None], rows, inside)
    tl.store(mean_out + channel, mean, mask=known)
    tl.store(inverse_out + channel, 1.0 / tl.sqrt_rn(total / rows + epsilon), mask=known)
    if tl.program_id(0) == 0:
        tl.store(count_out, rows)
    if TRACKED:
        remember(running_mean, running_variance, batches, channel, known, mean, total, rows, momentum)
