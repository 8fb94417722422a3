"""Bilinear upsampling of logits to the crop, and what is computed there without ever holding the upsampled logits.

With aligned corners the interpolation is two small matrices, ``R z K^T`` with R ``[H, h]`` and K ``[W, w]``, two
entries a row. So a band of its rows costs a product with a few rows of z, and its gradient the transposed product: sums
in a fixed order, also on CUDA, where the library's own backward adds atomically. Everything behind it (softmax,
logarithm, loss and their gradients) is local to a pixel and done band by band while the band lies in the processor's
cache; what is kept for the backward pass has the size of the logits.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import Function, once_differentiable

from esl_dist.losses import fused
from esl_dist.losses.precision import wide

BAND_BYTES = {"cpu": 1 << 19, "cuda": 1 << 28}
"""Size of a band of upsampled logits: within a core's second-level cache; on a GPU large enough to fill it."""


def upsample(logits: Tensor, size_hw: tuple[int, int]) -> Tensor:
    """Bilinear, corners aligned: ``[N, C, h, w]`` to ``[N, C, *size_hw]``, float32 (float64 stays float64)."""
    upsampled: Tensor = _Upsample.apply(wide(logits), tuple(size_hw))
    return upsampled


def upsampled_segmentation_loss(
    logits: Tensor, labels: Tensor, valid: Tensor | float | None = None, weights: Tensor | None = None
) -> Tensor:
    """``segmentation_loss(upsample(logits, size of labels), labels, valid)`` in bands: ``[N, C, h, w]`` and ``[N, H,
    W]`` to 0-dim.

    ``weights`` (``[N, H, W]``, floating, 0-1) multiply each pixel's cross-entropy; ``valid`` is then, by default, their
    sum over the labelled pixels.
    """
    assert len(labels) == len(logits) and (weights is None or weights.shape == labels.shape)
    if fused.usable(logits):
        total = fused.cross_entropy(logits, labels, weights)
    else:
        total = _CrossEntropy.apply(wide(logits), labels, weights)
    if valid is None:
        known = (labels >= 0) & (labels < logits.shape[1])
        valid = (
            known.sum().clamp_min(1)
            if weights is None
            else (weights * known).sum().clamp_min(torch.finfo(weights.dtype).tiny)
        )
    return total / (valid.to(total.dtype) if isinstance(valid, Tensor) else valid)


def upsampled_probabilities(logits: Tensor, size_hw: tuple[int, int], dtype: torch.dtype = torch.float32) -> Tensor:
    """``softmax(upsample(logits))`` over classes: float32 ``[N, C, *size_hw]``, channels last.

    ``dtype``: what the reader rounds it to anyway; a kernel (``run.kernels``) then writes that.
    """
    return _view(logits, size_hw, False, dtype)


def upsampled_information(logits: Tensor, size_hw: tuple[int, int], dtype: torch.dtype = torch.float32) -> Tensor:
    """``self_information(softmax(upsample(logits)))``: float32 ``[N, C, *size_hw]``, channels last; ``dtype`` as for
    ``upsampled_probabilities``.

    The logarithm comes from the log-softmax, so it needs no epsilon; the two differ where P < 1e-22, by less than
    1e-20.
    """
    return _view(logits, size_hw, True, dtype)


def _view(logits: Tensor, size_hw: tuple[int, int], information: bool, dtype: torch.dtype) -> Tensor:
    if fused.usable(logits):
        return fused.view(logits, (size_hw[0], size_hw[1]), information, dtype)
    made: Tensor = _View.apply(wide(logits), tuple(size_hw), information)
    return made


@cache
def _weights(cells: int, length: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """``[length, cells]``: row i holds the weights of the low-resolution cells in output position i."""
    position = torch.arange(length, dtype=torch.float64) * ((cells - 1) / max(length - 1, 1))
    lower = position.long().clamp_(max=max(cells - 2, 0))
    share = position - lower
    matrix, each = torch.zeros(length, cells, dtype=torch.float64), torch.arange(length)
    matrix[each, lower] = 1 - share
    matrix[each, (lower + 1).clamp_(max=cells - 1)] += share
    return matrix.to(device, dtype)


class _Rows:
    """The rows of upsampled logits, a band at a time, and the way back of their gradients."""

    def __init__(self, logits: Tensor, size_hw: tuple[int, int]) -> None:
        (n, classes, self.cells, _), (self.height, width) = logits.shape, size_hw
        self.down = _weights(self.cells, self.height, logits.dtype, logits.device)
        self.across = _weights(logits.shape[3], width, logits.dtype, logits.device)
        self.wide = logits.contiguous() @ self.across.t()  # [N, C, h, W]
        self.step = max(1, BAND_BYTES.get(logits.device.type, 1 << 28) // (n * classes * width * logits.element_size()))

    def __iter__(self) -> Iterator[tuple[slice, slice]]:
        """Pairs of output rows and the low-resolution rows that they lie between."""
        scale = (self.cells - 1) / max(self.height - 1, 1)
        for first in range(0, self.height, self.step):
            end = min(first + self.step, self.height)
            # One cell further than the last row's lower neighbour, and one before the first's: a position may be
            # rounded up.
            yield slice(first, end), slice(max(int(first * scale) - 1, 0), min(int((end - 1) * scale) + 3, self.cells))

    def band(self, rows: slice, cells: slice) -> Tensor:
        """Upsampled logits ``[N, C, rows, W]``, new."""
        return self.down[rows, cells] @ self.wide[:, :, cells]

    def add_gradient(self, total: Tensor, rows: slice, cells: slice, grad: Tensor) -> None:
        """Gradient of a band into the gradient of ``wide``."""
        total[:, :, cells] += self.down[rows, cells].t() @ grad

    def gradient(self, total: Tensor) -> Tensor:
        """Gradient of the logits from that of ``wide``."""
        return total @ self.across


@contextlib.contextmanager
def _full_precision(device: torch.device) -> Iterator[None]:
    """Matrix products in the tensors' own precision, whatever the networks run in."""
    tf32 = torch.backends.cuda.matmul.allow_tf32
    with torch.autocast(device.type, enabled=False) if device.type in BAND_BYTES else contextlib.nullcontext():
        if tf32:
            torch.backends.cuda.matmul.allow_tf32 = False
        try:
            yield
        finally:
            if tf32:
                torch.backends.cuda.matmul.allow_tf32 = True


class _Upsample(Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, size_hw: tuple[int, int]) -> Tensor:
        ctx.cells = logits.shape[2:]
        with _full_precision(logits.device):
            rows = _Rows(logits, size_hw)
            return rows.down @ rows.wide

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (h, w), (height, width) = ctx.cells, grad.shape[2:]
        with _full_precision(grad.device):
            down, across = _weights(h, height, grad.dtype, grad.device), _weights(w, width, grad.dtype, grad.device)
            return down.t() @ grad.contiguous() @ across, None


class _CrossEntropy(Function):
    """Sum over the labelled pixels, weighted where there are weights. Its gradient is made with it: one more pass would
    cost one more softmax.
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, labels: Tensor, weights: Tensor | None) -> Tensor:
        ctx.learns = ctx.needs_input_grad[0]
        classes = torch.arange(logits.shape[1], device=logits.device, dtype=logits.dtype).view(1, -1, 1, 1)
        with _full_precision(logits.device):
            rows = _Rows(logits, (labels.shape[1], labels.shape[2]))
            total, grad = logits.new_zeros(()), torch.zeros_like(rows.wide)
            for band, cells in rows:
                log_prob = torch.log_softmax(rows.band(band, cells), dim=1)
                label = labels[:, None, band].long()
                known = (label >= 0) & (label < logits.shape[1])
                weight = known if weights is None else known * weights[:, None, band].to(logits.dtype)
                chosen_log = torch.where(known, log_prob.gather(1, torch.where(known, label, 0)), 0)
                total -= (chosen_log if weights is None else chosen_log * weight).sum()
                if ctx.learns:
                    chosen = torch.eq(label.to(logits.dtype), classes, out=torch.empty_like(log_prob))
                    rows.add_gradient(grad, band, cells, log_prob.exp_().sub_(chosen).mul_(weight))
            if ctx.learns:
                ctx.save_for_backward(rows.gradient(grad))
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (gradient,) = ctx.saved_tensors
        return gradient * grad, None, None


class _View(Function):
    """Probabilities P of the upsampled logits, or their weighted self-information ``-P log P / log C``."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, size_hw: tuple[int, int], information: bool) -> Tensor:
        ctx.save_for_backward(logits)
        ctx.information = information
        n, classes = logits.shape[:2]
        out = torch.empty(
            (n, classes, *size_hw), dtype=logits.dtype, device=logits.device, memory_format=torch.channels_last
        )
        with _full_precision(logits.device):
            rows = _Rows(logits, size_hw)
            for band, cells in rows:
                if information:
                    log_prob = torch.log_softmax(rows.band(band, cells), dim=1)
                    out[:, :, band] = log_prob.exp().mul_(log_prob).mul_(-1 / math.log(classes))
                else:
                    out[:, :, band] = torch.softmax(rows.band(band, cells), dim=1)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (logits,) = ctx.saved_tensors
        with _full_precision(logits.device):
            rows = _Rows(logits, (grad.shape[2], grad.shape[3]))
            total = torch.zeros_like(rows.wide)
            for band, cells in rows:
                log_prob = torch.log_softmax(rows.band(band, cells), dim=1)
                prob = log_prob.exp()
                if ctx.information:  # d(-P log P)/dP = -(1 + log P)
                    scaled = log_prob.add_(1).mul_(-1 / math.log(logits.shape[1])).mul_(prob).mul_(grad[:, :, band])
                else:
                    scaled = prob * grad[:, :, band]
                scaled.addcmul_(prob, scaled.sum(dim=1, keepdim=True), value=-1)
                rows.add_gradient(total, band, cells, scaled)
            return rows.gradient(total), None, None
