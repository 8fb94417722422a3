"""How a kernel looks at a channels-last map: as a matrix of rows (pixels) and channels, a tile at a time."""

# mypy: disable-error-code="untyped-decorator,no-untyped-def"
from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def place_of(channels, CHANNELS: tl.constexpr):
    """Which chunk of rows a program has, and which block of channels; blocks come first, as memory lies.

    Both in the grid's first axis: the others end at 65,535, which the rows of eight images of 1280x720 come near.
    """
    blocks = tl.cdiv(channels, CHANNELS)
    return tl.program_id(0) // blocks, tl.program_id(0) % blocks


@triton.jit
def offsets_of(rows, channels, first_row, block, ROWS: tl.constexpr, CHANNELS: tl.constexpr):
    """Offsets of a tile, where it lies inside, and the channels' own offsets and mask."""
    row = first_row + tl.arange(0, ROWS)
    channel = block * CHANNELS + tl.arange(0, CHANNELS)
    inside = (row < rows)[:, None] & (channel < channels)[None, :]
    return row.to(tl.int64)[:, None] * channels + channel[None, :], inside, channel, channel < channels
