"""Losses at the size of the crop from logits at output stride 8, in Triton: upsampling, softmax and what follows it in
registers.

A program takes a band of output rows (those between the same two rows of logits) and a block of columns, all classes
of it. It interpolates, takes the softmax, and either sums the cross-entropy or writes probabilities or weighted
self-information for a discriminator. A gradient is summed over the band's rows in registers, then over its columns into
the cells of the logits as a small matrix product; what bands and blocks share is added in their order by a second
kernel. No address is written twice, so the bits are the same in every run.
"""

# mypy: disable-error-code="untyped-decorator,no-untyped-def"
from __future__ import annotations

import math
from functools import cache
from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

COLUMNS = 64
CELLS = 256
"""Of a program that adds what bands and blocks share."""


class Across(NamedTuple):
    """How output columns lie between cells: per column its lower cell (int32) and the share of the upper (float32);
    per block of columns its first cell (int32); and how many cells a block reaches, a power of 2.
    """

    lower: Tensor
    share: Tensor
    first: Tensor
    reach: int


class Down(NamedTuple):
    """How output rows lie between rows of logits: the share of the lower row (float32) of each; per band (rows between
    the same two) its first row and its rows, int32 ``[h - 1]``.
    """

    share: Tensor
    first: Tensor
    rows: Tensor


@triton.jit
def _corner(logits, lower, row, classes, h, w, image, c, known):
    """Logits ``[classes, columns]`` of a row of cells, left and right of every column."""
    place = ((image * classes + c) * h + row)[:, None] * w + lower[None, :]
    left = tl.load(logits + place, mask=known, other=0.0)
    return left, tl.load(logits + place + 1, mask=known, other=0.0)


@triton.jit
def _wide_rows(logits, lower_x, share_x, classes, h, w, image, band, c, x, known):
    """The two rows of logits around a band, interpolated to its columns."""
    lower = tl.load(lower_x + x)
    share = tl.load(share_x + x)[None, :]
    left, right = _corner(logits, lower, band, classes, h, w, image, c, known)
    upper = left + (right - left) * share
    left, right = _corner(logits, lower, band + 1, classes, h, w, image, c, known)
    return upper, left + (right - left) * share, lower, share


@triton.jit
def _softmax(upper, below, t, in_class):
    """Log-probabilities and probabilities of a row ``[classes, columns]``; classes beyond the last have none."""
    z = tl.where(in_class[:, None], upper + (below - upper) * t, float("-inf"))
    z = z - tl.max(z, 0)[None, :]
    e = tl.exp(z)
    total = tl.sum(e, 0)[None, :]
    return z - tl.log(total), e / total


@triton.jit
def _store_gradient(
    partial, top, bottom, lower, share, x_inside, first_cell, image, band, block, bands, blocks, classes, c, in_class,
    CLASSES: tl.constexpr, COLUMNS: tl.constexpr, REACH: tl.constexpr,
):  # fmt: skip
    """Sums over a block's columns into its cells, for the rows of logits above and below the band."""
    cell = tl.arange(0, REACH)[None, :]
    at = (lower - first_cell)[:, None]
    weight = tl.where(cell == at, 1.0 - tl.trans(share), 0.0) + tl.where(cell == at + 1, tl.trans(share), 0.0)
    weight = tl.where(x_inside[:, None], weight, 0.0)
    to = (((image * bands + band) * 2) * blocks + block) * classes
    place = (to + c)[:, None] * REACH + cell
    tl.store(partial + place, tl.dot(top, weight, input_precision="ieee"), mask=in_class[:, None] & (cell >= 0))
    place = place + blocks * classes * REACH
    tl.store(partial + place, tl.dot(bottom, weight, input_precision="ieee"), mask=in_class[:, None] & (cell >= 0))


@triton.jit(do_not_specialize=["h", "w", "height", "width", "blocks"])
def _cross_entropy(
    logits, labels, weights, loss, partial, lower_x, share_x, share_y, first_x, first_row, row_count,
    classes, h, w, height, width, blocks,
    WEIGHTED: tl.constexpr, GRADIENT: tl.constexpr, CLASSES: tl.constexpr, COLUMNS: tl.constexpr, REACH: tl.constexpr,
):  # fmt: skip
    block, band, image = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    x = block * COLUMNS + tl.arange(0, COLUMNS)
    x_inside = x < width
    x_in = tl.where(x_inside, x, 0)
    c = tl.arange(0, CLASSES)
    in_class = c < classes
    known = in_class[:, None] & x_inside[None, :]
    upper, below, lower, share = _wide_rows(logits, lower_x, share_x, classes, h, w, image, band, c, x_in, known)
    top = tl.zeros((CLASSES, COLUMNS), tl.float32)
    bottom = tl.zeros((CLASSES, COLUMNS), tl.float32)
    total = tl.zeros((COLUMNS,), tl.float32)
    begin = tl.load(first_row + band)
    for y in range(begin, begin + tl.load(row_count + band)):
        t = tl.load(share_y + y)
        log_prob, prob = _softmax(upper, below, t, in_class)
        pixel = (image * height + y).to(tl.int64) * width + x
        label = tl.load(labels + pixel, mask=x_inside, other=255).to(tl.int32)
        weight = ((label >= 0) & (label < classes) & x_inside).to(tl.float32)
        if WEIGHTED:
            weight *= tl.load(weights + pixel, mask=x_inside, other=0.0)
        chosen = c[:, None] == label[None, :]
        total -= tl.sum(tl.where(chosen, log_prob, 0.0), 0) * weight
        if GRADIENT:
            grad = (prob - chosen.to(tl.float32)) * weight[None, :]
            top += grad * (1.0 - t)
            bottom += grad * t
    bands = h - 1
    tl.store(loss + (image * bands + band) * blocks + block, tl.sum(total, 0))
    if GRADIENT:
        _store_gradient(
            partial, top, bottom, lower, share, x_inside, tl.load(first_x + block), image, band, block, bands, blocks,
            classes, c, in_class, CLASSES, COLUMNS, REACH,
        )  # fmt: skip


@triton.jit(do_not_specialize=["h", "w", "height", "width", "scale"])
def _view(
    logits, out, lower_x, share_x, share_y, first_row, row_count, classes, h, w, height, width, scale,
    INFORMATION: tl.constexpr, CLASSES: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """Probabilities of every pixel, or ``-P log P * scale``, channels last."""
    block, band, image = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    x = block * COLUMNS + tl.arange(0, COLUMNS)
    x_inside = x < width
    c = tl.arange(0, CLASSES)
    in_class = c < classes
    known = in_class[:, None] & x_inside[None, :]
    x_in = tl.where(x_inside, x, 0)
    upper, below, _, _ = _wide_rows(logits, lower_x, share_x, classes, h, w, image, band, c, x_in, known)
    begin = tl.load(first_row + band)
    for y in range(begin, begin + tl.load(row_count + band)):
        log_prob, prob = _softmax(upper, below, tl.load(share_y + y), in_class)
        value = prob
        if INFORMATION:
            value = tl.where(in_class[:, None], prob * log_prob * -scale, 0.0)
        place = ((image * height + y).to(tl.int64) * width + x[None, :]) * classes + c[:, None]
        tl.store(out + place, value.to(out.dtype.element_ty), mask=known)


@triton.jit(do_not_specialize=["h", "w", "height", "width", "blocks", "scale"])
def _view_gradient(
    logits, grad, partial, lower_x, share_x, share_y, first_x, first_row, row_count,
    classes, h, w, height, width, blocks, scale,
    INFORMATION: tl.constexpr, CLASSES: tl.constexpr, COLUMNS: tl.constexpr, REACH: tl.constexpr,
):  # fmt: skip
    block, band, image = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    x = block * COLUMNS + tl.arange(0, COLUMNS)
    x_inside = x < width
    c = tl.arange(0, CLASSES)
    in_class = c < classes
    known = in_class[:, None] & x_inside[None, :]
    x_in = tl.where(x_inside, x, 0)
    upper, below, lower, share = _wide_rows(logits, lower_x, share_x, classes, h, w, image, band, c, x_in, known)
    top = tl.zeros((CLASSES, COLUMNS), tl.float32)
    bottom = tl.zeros((CLASSES, COLUMNS), tl.float32)
    begin = tl.load(first_row + band)
    for y in range(begin, begin + tl.load(row_count + band)):
        t = tl.load(share_y + y)
        log_prob, prob = _softmax(upper, below, t, in_class)
        place = ((image * height + y).to(tl.int64) * width + x[None, :]) * classes + c[:, None]
        scaled = prob * tl.load(grad + place, mask=known, other=0.0).to(tl.float32)
        if INFORMATION:  # d(-P log P)/dP = -(1 + log P)
            scaled = tl.where(known, scaled * (1.0 + log_prob) * -scale, 0.0)
        scaled -= prob * tl.sum(scaled, 0)[None, :]
        top += scaled * (1.0 - t)
        bottom += scaled * t
    bands = h - 1
    _store_gradient(
        partial, top, bottom, lower, share, x_inside, tl.load(first_x + block), image, band, block, bands, blocks,
        classes, c, in_class, CLASSES, COLUMNS, REACH,
    )  # fmt: skip


@triton.jit(do_not_specialize=["total", "h", "w", "blocks"])
def _add_up(partial, first_x, out, total, classes, h, w, blocks, REACH: tl.constexpr, CELLS: tl.constexpr):
    """Every cell's gradient: what the band above has for its lower row, then the band below for its upper, by block."""
    place = tl.program_id(0) * CELLS + tl.arange(0, CELLS)
    inside = place < total
    j, row = place % w, place // w
    i, row = row % h, row // h
    c, image = row % classes, row // classes
    value = tl.zeros((CELLS,), tl.float32)
    for side in tl.static_range(2):
        band = i - 1 + side
        there = inside & (band >= 0) & (band < h - 1)
        for block in range(blocks):
            cell = j - tl.load(first_x + block)
            seen = there & (cell >= 0) & (cell < REACH)
            from_ = (((image * (h - 1) + band) * 2 + 1 - side) * blocks + block) * classes + c
            value += tl.load(partial + from_.to(tl.int64) * REACH + cell, mask=seen, other=0.0)
    tl.store(out + place, value, mask=inside)


def _positions(cells: int, length: int) -> tuple[Tensor, Tensor]:
    """Lower cell and share of the upper for every output position, corners aligned."""
    position = torch.arange(length, dtype=torch.float64) * ((cells - 1) / max(length - 1, 1))
    lower = position.long().clamp_(max=cells - 2)
    return lower, position - lower


@cache
def _across(cells: int, length: int, device: torch.device) -> Across:
    with torch.inference_mode(False):
        lower, share = _positions(cells, length)
        first = lower[::COLUMNS]
        last = lower[torch.arange(len(first)).mul_(COLUMNS).add_(COLUMNS - 1).clamp_(max=length - 1)]
        reach = triton.next_power_of_2(max(16, int((last + 2 - first).max())))
        return Across(lower.int().to(device), share.float().to(device), first.int().to(device), reach)


@cache
def _down(cells: int, length: int, device: torch.device) -> Down:
    with torch.inference_mode(False):
        lower, share = _positions(cells, length)
        rows = torch.bincount(lower, minlength=cells - 1)
        return Down(share.float().to(device), (rows.cumsum(0) - rows).int().to(device), rows.int().to(device))


class _Launch:
    """Sizes and tables that every kernel here takes."""

    def __init__(self, logits: Tensor, size_hw: tuple[int, int]) -> None:
        assert logits.is_contiguous() and logits.dtype == torch.float32 and min(logits.shape[2:]) >= 2
        (self.n, self.classes, self.h, self.w), (self.height, self.width) = logits.shape, size_hw
        self.across, self.down = (
            _across(self.w, self.width, logits.device),
            _down(self.h, self.height, logits.device),
        )
        self.blocks = triton.cdiv(self.width, COLUMNS)
        self.grid = (self.blocks, self.h - 1, self.n)
        self.options = {
            "CLASSES": max(16, triton.next_power_of_2(self.classes)),
            "COLUMNS": COLUMNS,
            "num_warps": 4,
            "enable_fp_fusion": False,
        }

    def partial(self, logits: Tensor) -> Tensor:
        return logits.new_empty((self.n, self.h - 1, 2, self.blocks, self.classes, self.across.reach))

    def add_up(self, partial: Tensor, logits: Tensor) -> Tensor:
        """The gradient of the logits from what bands and blocks have of it."""
        out = torch.empty_like(logits)
        grid = (triton.cdiv(out.numel(), CELLS),)
        sizes = (out.numel(), self.classes, self.h, self.w, self.blocks)
        kinds = {"REACH": self.across.reach, "CELLS": CELLS, "enable_fp_fusion": False}
        _add_up[grid](partial, self.across.first, out, *sizes, **kinds)
        return out


def cross_entropy(
    logits: Tensor, labels: Tensor, weights: Tensor | None, gradient: bool
) -> tuple[Tensor, Tensor | None]:
    """Sum over labelled pixels of the (weighted) cross-entropy of upsampled ``logits``, and its gradient if asked for.

    Args:
        logits: contiguous float32 ``[N, C, h, w]``.
        labels: contiguous integers ``[N, H, W]``; outside ``[0, C)`` ignored.
        weights: contiguous float32 ``[N, H, W]`` or None.
    """
    it = _Launch(logits, (labels.shape[1], labels.shape[2]))
    loss = logits.new_empty((it.n, it.h - 1, it.blocks))
    partial = it.partial(logits) if gradient else loss
    _cross_entropy[it.grid](
        logits,
        labels,
        loss if weights is None else weights,
        loss,
        partial,
        it.across.lower,
        it.across.share,
        it.down.share,
        it.across.first,
        it.down.first,
        it.down.rows,
        it.classes,
        it.h,
        it.w,
        it.height,
        it.width,
        it.blocks,
        WEIGHTED=weights is not None,
        GRADIENT=gradient,
        REACH=it.across.reach,
        **it.options,
    )
    return loss.sum(), it.add_up(partial, logits) if gradient else None


def view(logits: Tensor, size_hw: tuple[int, int], information: bool, dtype: torch.dtype) -> Tensor:
    """Probabilities of upsampled logits, or their weighted self-information: ``[N, C, *size_hw]``, channels last."""
    it = _Launch(logits, size_hw)
    shape = (it.n, it.classes, *size_hw)
    out = torch.empty(shape, dtype=dtype, device=logits.device, memory_format=torch.channels_last)
    _view[it.grid](
        logits,
        out,
        it.across.lower,
        it.across.share,
        it.down.share,
        it.down.first,
        it.down.rows,
        it.classes,
        it.h,
        it.w,
        it.height,
        it.width,
        1 / math.log(it.classes),
        INFORMATION=information,
        **it.options,
    )
    return out


def view_gradient(logits: Tensor, grad: Tensor, information: bool) -> Tensor:
    """Gradient of the logits from that of ``view``'s result, channels last."""
    it = _Launch(logits, (grad.shape[2], grad.shape[3]))
    partial = it.partial(logits)
    _view_gradient[it.grid](
        logits,
        grad,
        partial,
        it.across.lower,
        it.across.share,
        it.down.share,
        it.across.first,
        it.down.first,
        it.down.rows,
        it.classes,
        it.h,
        it.w,
        it.height,
        it.width,
        it.blocks,
        1 / math.log(it.classes),
        INFORMATION=information,
        REACH=it.across.reach,
        **it.options,
    )
    return it.add_up(partial, logits)
