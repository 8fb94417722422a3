"""The shifted sum of taps behind an atrous pyramid's one matrix product, with its gradient; ``esl_dist.kernels.taps``
does the work.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import Function, once_differentiable


def shifted_sum(taps: Tensor, bias: Tensor, size_hw: tuple[int, int], dilation: int) -> Tensor:
    """Maps ``[N, B * C * 9, h * w]`` of the taps of B branches and ``bias [B, C]`` to float32 logits ``[N, C, h,
    w]``.
    """
    logits: Tensor = _ShiftedSum.apply(taps, bias, size_hw, dilation)
    return logits


class _ShiftedSum(Function):
    @staticmethod
    def forward(ctx: Any, taps: Tensor, bias: Tensor, size_hw: tuple[int, int], dilation: int) -> Tensor:
        from esl_dist.kernels import taps as kernel

        ctx.branches, ctx.dilation, ctx.dtype = len(bias), dilation, taps.dtype
        return kernel.shifted_sum(taps.contiguous(), bias.float().contiguous(), size_hw, dilation)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None, None]:
        from esl_dist.kernels import taps as kernel

        grad = grad.to(torch.float32).contiguous()
        bias = grad.sum((0, 2, 3)).expand(ctx.branches, -1)
        return kernel.taps_gradient(grad, ctx.branches, ctx.dilation, ctx.dtype), bias, None, None
