"""``losses.upsampling`` with its gradients in kernels of our own (``run.kernels``, ``esl_dist.kernels.losses``): the
same sums, in another order.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import Function, once_differentiable

from esl_dist import kernels


def usable(logits: Tensor) -> bool:
    """Whether the kernels are in use and know these logits."""
    return kernels.active("losses", logits) and min(logits.shape[2:]) >= 2 and logits.shape[1] <= 64


def cross_entropy(logits: Tensor, labels: Tensor, weights: Tensor | None) -> Tensor:
    """Sum over the labelled pixels of the (weighted) cross-entropy of logits upsampled to the labels' size; 0-dim."""
    total: Tensor = _CrossEntropy.apply(logits, labels, weights)
    return total


def view(logits: Tensor, size_hw: tuple[int, int], information: bool, dtype: torch.dtype) -> Tensor:
    """Probabilities, or weighted self-information, at ``size_hw``, channels last."""
    made: Tensor = _View.apply(logits, size_hw, information, dtype)
    return made


class _CrossEntropy(Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, labels: Tensor, weights: Tensor | None) -> Tensor:
        from esl_dist.kernels import losses as kernel

        weights = None if weights is None else weights.float().contiguous()
        wide = logits.float().contiguous()
        total, gradient = kernel.cross_entropy(wide, labels.contiguous(), weights, ctx.needs_input_grad[0])
        if gradient is not None:
            ctx.save_for_backward(gradient)
        ctx.dtype = logits.dtype
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (gradient,) = ctx.saved_tensors
        return (gradient * grad).to(ctx.dtype), None, None


class _View(Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, size_hw: tuple[int, int], information: bool, dtype: torch.dtype) -> Tensor:
        from esl_dist.kernels import losses as kernel

        wide = logits.float().contiguous()
        ctx.save_for_backward(wide)
        ctx.information, ctx.dtype = information, logits.dtype
        return kernel.view(wide, size_hw, information, dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        from esl_dist.kernels import losses as kernel

        (wide,) = ctx.saved_tensors
        grad = grad.contiguous(memory_format=torch.channels_last)
        return kernel.view_gradient(wide, grad, ctx.information).to(ctx.dtype), None, None, None
