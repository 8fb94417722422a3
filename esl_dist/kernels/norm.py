"""Batch norm with what stands around it, in Triton: statistics, normalise + residual + ReLU, and their backward.

An activation is taken as a matrix of rows (pixels of all images) and channels, which is how channels-last memory lies.
A program sums a chunk of rows of 64 channels; chunks depend on the shape alone and are combined in their order, so the
bits are the same in every run. Passes over memory: forward one for the statistics and one to normalise; backward one
for the two sums and one for the gradient.
"""

# mypy: disable-error-code="untyped-decorator,no-untyped-def"
from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from esl_dist.kernels.moments import combined, remember
from esl_dist.kernels.norm_backward import combine_sums, gradient_sums, input_gradient
from esl_dist.kernels.norm_ranks import combine_ranks
from esl_dist.kernels.tile import offsets_of, place_of

ROWS, CHANNELS = 32, 64
"""Of a tile: two 16-byte loads a thread and tensor in bf16, with the four warps that every kernel here runs on."""
OPTIONS = {"num_warps": 4, "enable_fp_fusion": False}
"""Of every launch. Without fused multiply-adds the ReLU's mask, made again in the backward, is the forward's to the
last bit.
"""
MOST_CHUNKS = 512
PROGRAMS = 1024
"""As many as fill a large GPU several times."""


class Statistics(NamedTuple):
    """Per channel, float32 ``[C]``: the mean, and one over the deviation (biased variance plus epsilon)."""

    mean: Tensor
    inverse: Tensor


class Running(NamedTuple):
    """What training leaves for evaluation, updated in place: averages float32 ``[C]``, batches seen int64, and the
    share of a new batch.
    """

    mean: Tensor
    variance: Tensor
    batches: Tensor
    momentum: float


@triton.jit(do_not_specialize=["rows", "tiles"])
def _moments(x, mean_out, squares_out, rows, channels, tiles, ROWS: tl.constexpr, CHANNELS: tl.constexpr):
    """Mean of a chunk and its sum of squared distances from it, around the chunk's first row, so that a large mean
    costs no digits.
    """
    chunk, block = place_of(channels, CHANNELS)
    first = chunk * tiles * ROWS
    offset, inside, channel, known = offsets_of(rows, channels, first, block, ROWS, CHANNELS)
    around = tl.load(x + first.to(tl.int64) * channels + channel, mask=known, other=0.0).to(tl.float32)[None, :]
    total = tl.zeros((ROWS, CHANNELS), tl.float32)
    squares = tl.zeros((ROWS, CHANNELS), tl.float32)
    for tile in range(tiles):
        offset, inside, channel, known = offsets_of(rows, channels, first + tile * ROWS, block, ROWS, CHANNELS)
        value = tl.load(x + offset, mask=inside, other=0.0).to(tl.float32)
        value = tl.where(inside, value - around, 0.0)
        total += value
        squares += value * value
    count = tl.minimum(rows - first, tiles * ROWS).to(tl.float32)
    away = tl.sum(total, 0) / count
    place = chunk * channels + channel
    tl.store(mean_out + place, tl.sum(around, 0) + away, mask=known)
    tl.store(squares_out + place, tl.maximum(tl.sum(squares, 0) - away * away * count, 0.0), mask=known)


@triton.jit(do_not_specialize=["rows", "chunks", "chunk_rows", "momentum"])
def _combine_moments(
    means,
    squares,
    mean_out,
    inverse_out,
    running_mean,
    running_variance,
    batches,
    rows,
    channels,
    chunks,
    chunk_rows,
    epsilon,
    momentum,
    TRACKED: tl.constexpr,
    PART: tl.constexpr,
    CHUNKS: tl.constexpr,
    CHANNELS: tl.constexpr,
):
    """Statistics of all rows from those of the chunks, and the running averages; of a ``PART`` of a batch the squared
    distances from its mean in place of one over the deviation.
    """
    channel = tl.program_id(0) * CHANNELS + tl.arange(0, CHANNELS)
    chunk = tl.arange(0, CHUNKS)
    known = channel < channels
    inside = (chunk < chunks)[:, None] & known[None, :]
    place = chunk[:, None] * channels + channel[None, :]
    count = tl.maximum(tl.minimum(rows - chunk * chunk_rows, chunk_rows), 0).to(tl.float32)[:, None]
    mean_of = tl.load(means + place, mask=inside, other=0.0)
    squares_of = tl.load(squares + place, mask=inside, other=0.0)
    around = tl.load(means + channel, mask=known, other=0.0)
    mean, total = combined(mean_of, squares_of, around, count, rows, inside)
    tl.store(mean_out + channel, mean, mask=known)
    tl.store(inverse_out + channel, total if PART else 1.0 / tl.sqrt_rn(total / rows + epsilon), mask=known)
    if TRACKED:
        remember(running_mean, running_variance, batches, channel, known, mean, total, rows, momentum)


@triton.jit(do_not_specialize=["rows"])
def _normalise(
    x,
    shortcut,
    y,
    mean,
    inverse,
    gain,
    shift,
    rows,
    channels,
    RESIDUAL: tl.constexpr,
    RELU: tl.constexpr,
    ROWS: tl.constexpr,
    CHANNELS: tl.constexpr,
):
    tile, block = place_of(channels, CHANNELS)
    offset, inside, channel, known = offsets_of(rows, channels, tile * ROWS, block, ROWS, CHANNELS)
    middle = tl.load(mean + channel, mask=known, other=0.0)[None, :]
    scale = (tl.load(inverse + channel, mask=known, other=0.0) * tl.load(gain + channel, mask=known, other=0.0))[
        None, :
    ]
    value = tl.load(x + offset, mask=inside, other=0.0).to(tl.float32)
    value = (value - middle) * scale + tl.load(shift + channel, mask=known, other=0.0)[None, :]
    if RESIDUAL:
        value += tl.load(shortcut + offset, mask=inside, other=0.0).to(tl.float32)
    if RELU:
        value = tl.maximum(value, 0.0)
    tl.store(y + offset, value.to(y.dtype.element_ty), mask=inside)


def _shape(x: Tensor) -> tuple[int, int]:
    """Rows and channels of a channels-last activation ``[N, C, H, W]``."""
    return x.shape[0] * x.shape[2] * x.shape[3], x.shape[1]


def _chunks(rows: int, channels: int) -> tuple[int, int]:
    """How many chunks of rows, and tiles in each: of the shape alone, because the bits depend on them."""
    tiles = triton.cdiv(rows, ROWS)
    wanted = min(tiles, MOST_CHUNKS, max(1, PROGRAMS // triton.cdiv(channels, CHANNELS)))
    each = triton.cdiv(tiles, wanted)
    return triton.cdiv(tiles, each), each


NARROW = 16
"""Channels of a program that combines chunks."""


def statistics(x: Tensor, epsilon: float, running: Running | None) -> Statistics:
    """Of a channels-last ``[N, C, H, W]`` (at least two rows); ``running`` is updated as torch does, with the unbiased
    variance.
    """
    made = x.new_empty((2, x.shape[1]), dtype=torch.float32)
    _statistics(x, made, epsilon, running, part=False)
    return Statistics(made[0], made[1])


class OfAll(NamedTuple):
    """Statistics of the batch of all ranks, and its rows, float32 ``[1]``."""

    statistics: Statistics
    rows: Tensor


def statistics_of_all(x: Tensor, epsilon: float, running: Running | None, gather: Callable[[Tensor], Tensor]) -> OfAll:
    """As ``statistics``, of the batches of all ranks; ranks may have different numbers of rows.

    Args:
        gather: every rank's tensor in rank order, ``[world, ...]``; called once, with ``[2 C + 1]``.
    """
    rows, channels = _shape(x)
    own = x.new_empty(2 * channels + 1, dtype=torch.float32)
    own[-1:].fill_(rows)
    _statistics(x, own[:-1].view(2, channels), epsilon, None, part=True)
    everyone = gather(own)
    made, count = x.new_empty((2, channels), dtype=torch.float32), x.new_empty(1, dtype=torch.float32)
    old = running or Running(made, made, made, 0.0)
    combine_ranks[(triton.cdiv(channels, NARROW),)](
        everyone,
        made[0],
        made[1],
        count,
        old.mean,
        old.variance,
        old.batches,
        len(everyone),
        channels,
        epsilon,
        old.momentum,
        TRACKED=running is not None,
        WORLD=triton.next_power_of_2(len(everyone)),
        CHANNELS=NARROW,
        **OPTIONS,
    )
    return OfAll(Statistics(made[0], made[1]), count)


def _statistics(x: Tensor, made: Tensor, epsilon: float, running: Running | None, part: bool) -> None:
    """Into ``made [2, C]``."""
    rows, channels = _shape(x)
    chunks, tiles = _chunks(rows, channels)
    partial = x.new_empty((2, chunks, channels), dtype=torch.float32)
    _moments[(triton.cdiv(channels, CHANNELS) * chunks,)](
        x, partial[0], partial[1], rows, channels, tiles, ROWS=ROWS, CHANNELS=CHANNELS, **OPTIONS
    )
    old = running or Running(made, made, made, 0.0)
    _combine_moments[(triton.cdiv(channels, NARROW),)](
        partial[0],
        partial[1],
        made[0],
        made[1],
        old.mean,
        old.variance,
        old.batches,
        rows,
        channels,
        chunks,
        tiles * ROWS,
        epsilon,
        old.momentum,
        TRACKED=running is not None,
        PART=part,
        CHUNKS=triton.next_power_of_2(chunks),
        CHANNELS=NARROW,
        **OPTIONS,
    )


def normalise(
    x: Tensor, statistics: Statistics, gain: Tensor, shift: Tensor, shortcut: Tensor | None, relu: bool
) -> Tensor:
    """``relu((x - mean) / deviation * gain + shift + shortcut)``, channels-last, in ``x``'s type; computed in float32,
    rounded once.
    """
    rows, channels = _shape(x)
    y = torch.empty_like(x)
    grid = (triton.cdiv(channels, CHANNELS) * triton.cdiv(rows, ROWS),)
    kinds = {"RESIDUAL": shortcut is not None, "RELU": relu, "ROWS": ROWS, "CHANNELS": CHANNELS, **OPTIONS}
    _normalise[grid](x, x if shortcut is None else shortcut, y, *statistics, gain, shift, rows, channels, **kinds)
    return y


class Gradients(NamedTuple):
    """Of the input and of the shortcut (None without one), as the activations lie; of gain and shift, float32 ``[C]``
    (None for frozen statistics).
    """

    x: Tensor
    shortcut: Tensor | None
    gain: Tensor | None
    shift: Tensor | None


def gradients(
    grads: tuple[Tensor, Tensor | None],
    x: Tensor,
    y: Tensor | None,
    statistics: Statistics,
    affine: tuple[Tensor, Tensor],
    relu: bool,
    batch: bool,
    mean_of_all: Callable[[Tensor], Tensor] | None = None,
) -> Gradients:
    """Backward of ``normalise``.

    Args:
        grads: of its output, from one user or from two (they are added in float32).
        y: the output, where there was a shortcut; else None.
        batch: the statistics are those of ``x`` itself.
        mean_of_all: of statistics of all ranks, this rank's sums ``[2, C]`` to new ones over all ranks and rows.
    """
    rows, channels = _shape(x)
    dy, other = grads
    residual = y is not None
    kinds = {
        "BOTH": other is not None,
        "RESIDUAL": residual,
        "RELU": relu,
        "ROWS": ROWS,
        "CHANNELS": CHANNELS,
        **OPTIONS,
    }
    output, second = (x if y is None else y), (dy if other is None else other)
    columns, dx = triton.cdiv(channels, CHANNELS), torch.empty_like(x)
    before_relu = torch.empty_like(x) if residual else dx
    sums = x.new_empty((2, channels), dtype=torch.float32)
    if batch or residual:
        chunks, tiles = _chunks(rows, channels)
        partial = x.new_empty((2, chunks, channels), dtype=torch.float32)
        gradient_sums[(columns * chunks,)](
            x,
            dy,
            second,
            output,
            before_relu,
            partial[0],
            partial[1],
            *statistics,
            *affine,
            rows,
            channels,
            tiles,
            **kinds,
        )
        combine_sums[(triton.cdiv(channels, NARROW),)](
            partial[0],
            partial[1],
            sums[0],
            sums[1],
            channels,
            chunks,
            CHUNKS=triton.next_power_of_2(chunks),
            CHANNELS=NARROW,
            **OPTIONS,
        )
        if residual:  # summed and cut off already
            dy, second, kinds = before_relu, before_relu, {**kinds, "BOTH": False, "RESIDUAL": False, "RELU": False}
    means, divisor = (sums, rows) if mean_of_all is None else (mean_of_all(sums), 1)
    input_gradient[(columns * triton.cdiv(rows, ROWS),)](
        x,
        dy,
        second,
        output,
        dx,
        *statistics,
        *affine,
        means[0],
        means[1],
        rows,
        channels,
        divisor,
        BATCH=batch,
        **kinds,
    )
    return Gradients(dx, before_relu if residual else None, sums[1] if batch else None, sums[0] if batch else None)
