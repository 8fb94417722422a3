"""The kernels of batch norm's backward: two sums over pixels, the gradient of the input. ``norm`` launches them."""

# mypy: disable-error-code="untyped-decorator,no-untyped-def"
from __future__ import annotations

import triton
import triton.language as tl

from esl_dist.kernels.tile import offsets_of, place_of


@triton.jit
def _gradient(
    dy, other, y, value, scale, shift, offset, inside, BOTH: tl.constexpr, RESIDUAL: tl.constexpr, RELU: tl.constexpr
):
    """Of a tile before the ReLU: the sum of what came from both users of the output, 0 where the output was cut off."""
    grad = tl.load(dy + offset, mask=inside, other=0.0).to(tl.float32)
    if BOTH:
        grad += tl.load(other + offset, mask=inside, other=0.0).to(tl.float32)
    if RELU:
        if RESIDUAL:
            kept = tl.load(y + offset, mask=inside, other=0.0) > 0.0
        else:  # made again from what is read anyway, as the forward made it
            kept = value * scale + shift > 0.0
        grad = tl.where(kept, grad, 0.0)
    return grad


@triton.jit(do_not_specialize=["rows", "tiles"])
def gradient_sums(
    x,
    dy,
    other,
    y,
    before_relu,
    sum_out,
    product_out,
    mean,
    inverse,
    gain,
    shift,
    rows,
    channels,
    tiles,
    BOTH: tl.constexpr,
    RESIDUAL: tl.constexpr,
    RELU: tl.constexpr,
    ROWS: tl.constexpr,
    CHANNELS: tl.constexpr,
):
    """Per chunk and channel the sum of the gradient before the ReLU and of its product with the normalised value.

    With a shortcut that gradient is also the shortcut's, so it is written, and the next pass reads it.
    """
    chunk, block = place_of(channels, CHANNELS)
    first = chunk * tiles * ROWS
    offset, inside, channel, known = offsets_of(rows, channels, first, block, ROWS, CHANNELS)
    middle = tl.load(mean + channel, mask=known, other=0.0)[None, :]
    inverse_of = tl.load(inverse + channel, mask=known, other=0.0)[None, :]
    scale = inverse_of * tl.load(gain + channel, mask=known, other=0.0)[None, :]
    shift_of = tl.load(shift + channel, mask=known, other=0.0)[None, :]
    total = tl.zeros((ROWS, CHANNELS), tl.float32)
    product = tl.zeros((ROWS, CHANNELS), tl.float32)
    for tile in range(tiles):
        offset, inside, channel, known = offsets_of(rows, channels, first + tile * ROWS, block, ROWS, CHANNELS)
        value = tl.load(x + offset, mask=inside, other=0.0).to(tl.float32) - middle
        grad = _gradient(dy, other, y, value, scale, shift_of, offset, inside, BOTH, RESIDUAL, RELU)
        grad = tl.where(inside, grad, 0.0)
        if RESIDUAL:
            rounded = grad.to(before_relu.dtype.element_ty)
            tl.store(before_relu + offset, rounded, mask=inside)
            grad = rounded.to(tl.float32)
        total += grad
        product += grad * (value * inverse_of)
    place = chunk * channels + channel
    tl.store(sum_out + place, tl.sum(total, 0), mask=known)
    tl.store(product_out + place, tl.sum(product, 0), mask=known)


@triton.jit(do_not_specialize=["chunks"])
def combine_sums(sums, products, sum_out, product_out, channels, chunks, CHUNKS: tl.constexpr, CHANNELS: tl.constexpr):
    channel = tl.program_id(0) * CHANNELS + tl.arange(0, CHANNELS)
    chunk = tl.arange(0, CHUNKS)
    known = channel < channels
    inside = (chunk < chunks)[:, None] & known[None, :]
    place = chunk[:, None] * channels + channel[None, :]
    tl.store(sum_out + channel, tl.sum(tl.load(sums + place, mask=inside, other=0.0), 0), mask=known)
    tl.store(product_out + channel, tl.sum(tl.load(products + place, mask=inside, other=0.0), 0), mask=known)


@triton.jit(do_not_specialize=["rows", "divisor"])
def input_gradient(
    x,
    dy,
    other,
    y,
    dx,
    mean,
    inverse,
    gain,
    shift,
    total,
    product,
    rows,
    channels,
    divisor,
    BATCH: tl.constexpr,
    BOTH: tl.constexpr,
    RESIDUAL: tl.constexpr,
    RELU: tl.constexpr,
    ROWS: tl.constexpr,
    CHANNELS: tl.constexpr,
):
    """``dx = gain / deviation * (g - mean(g) - normalised * mean(g * normalised))``; without the means for frozen
    statistics (``BATCH`` false). ``divisor`` makes means of the sums: the rows, or 1 where they are means already.
    """
    tile, block = place_of(channels, CHANNELS)
    offset, inside, channel, known = offsets_of(rows, channels, tile * ROWS, block, ROWS, CHANNELS)
    inverse_of = tl.load(inverse + channel, mask=known, other=0.0)[None, :]
    scale = inverse_of * tl.load(gain + channel, mask=known, other=0.0)[None, :]
    value = (
        tl.load(x + offset, mask=inside, other=0.0).to(tl.float32)
        - tl.load(mean + channel, mask=known, other=0.0)[None, :]
    )
    shift_of = tl.load(shift + channel, mask=known, other=0.0)[None, :]
    grad = _gradient(dy, other, y, value, scale, shift_of, offset, inside, BOTH, RESIDUAL, RELU)
    if BATCH:
        mean_grad = tl.load(total + channel, mask=known, other=0.0)[None, :] / divisor
        mean_product = tl.load(product + channel, mask=known, other=0.0)[None, :] / divisor
        grad = grad - mean_grad - value * inverse_of * mean_product
    tl.store(dx + offset, (grad * scale).to(dx.dtype.element_ty), mask=inside)
