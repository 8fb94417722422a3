"""The shifted sum of an atrous pyramid's taps, in Triton: what ``torch.nn.functional.fold`` computes, as a gather in
both directions.

One matrix product makes a map for every tap of every branch (``models/taps.py``). An output pixel is the sum
over branches and taps of those maps, each shifted by its tap; the gradient of a tap's map is the output's gradient
shifted back. No address is written twice.
"""

# mypy: disable-error-code="untyped-decorator,no-untyped-def"
from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

PIXELS = 256
TAPS = 9


@triton.jit(do_not_specialize=["width", "plane"])
def _gather(
    taps, bias, out, classes, height, width, plane, BRANCHES: tl.constexpr, DILATION: tl.constexpr, PIXELS: tl.constexpr
):
    image, channel = tl.program_id(2), tl.program_id(1)
    pixel = tl.program_id(0) * PIXELS + tl.arange(0, PIXELS)
    y, x = pixel // width, pixel % width
    total = tl.zeros((PIXELS,), tl.float32)
    for branch in tl.static_range(BRANCHES):
        reach = DILATION * (branch + 1)
        row = ((image * BRANCHES + branch) * classes + channel) * 9
        part = tl.zeros((PIXELS,), tl.float32)
        for tap in tl.static_range(9):
            from_y = y + reach * (1 - tap // 3)
            from_x = x + reach * (1 - tap % 3)
            inside = (pixel < plane) & (from_y >= 0) & (from_y < height) & (from_x >= 0) & (from_x < width)
            part += tl.load(
                taps + (row + tap).to(tl.int64) * plane + from_y * width + from_x, mask=inside, other=0.0
            ).to(tl.float32)
        total += part
        total += tl.load(bias + branch * classes + channel)
    tl.store(out + (image * classes + channel).to(tl.int64) * plane + pixel, total, mask=pixel < plane)


@triton.jit(do_not_specialize=["width", "plane"])
def _scatter_back(
    grad, taps_grad, classes, height, width, plane, BRANCHES: tl.constexpr, DILATION: tl.constexpr, PIXELS: tl.constexpr
):
    image, row = tl.program_id(2), tl.program_id(1)
    tap = row % 9
    channel = (row // 9) % classes
    reach = DILATION * (row // 9 // classes + 1)
    pixel = tl.program_id(0) * PIXELS + tl.arange(0, PIXELS)
    to_y = pixel // width + reach * (tap // 3 - 1)
    to_x = pixel % width + reach * (tap % 3 - 1)
    inside = (pixel < plane) & (to_y >= 0) & (to_y < height) & (to_x >= 0) & (to_x < width)
    value = tl.load(
        grad + (image * classes + channel).to(tl.int64) * plane + to_y * width + to_x, mask=inside, other=0.0
    )
    place = (image * classes * BRANCHES * 9 + row).to(tl.int64) * plane + pixel
    tl.store(taps_grad + place, value.to(taps_grad.dtype.element_ty), mask=pixel < plane)


def shifted_sum(taps: Tensor, bias: Tensor, size_hw: tuple[int, int], dilation: int) -> Tensor:
    """``[N, B * C * 9, h * w]`` maps (contiguous; branch b's dilation is ``(b + 1) * dilation``) and float32 ``bias [B,
    C]`` to float32 ``[N, C, h, w]``.

    Within a branch in the order of its taps, then branch by branch, as a sum of ``fold``s adds.
    """
    branches, classes = bias.shape
    assert (
        taps.is_contiguous()
        and taps.shape[1:] == (branches * classes * TAPS, size_hw[0] * size_hw[1])
        and bias.is_contiguous()
    )
    out = torch.empty((len(taps), classes, *size_hw), dtype=torch.float32, device=taps.device)
    plane = taps.shape[2]
    grid = (triton.cdiv(plane, PIXELS), classes, len(taps))
    _gather[grid](
        taps,
        bias,
        out,
        classes,
        *size_hw,
        plane,
        BRANCHES=branches,
        DILATION=dilation,
        PIXELS=PIXELS,
        enable_fp_fusion=False,
    )
    return out


def taps_gradient(grad: Tensor, branches: int, dilation: int, dtype: torch.dtype) -> Tensor:
    """Backward of ``shifted_sum``: contiguous float32 ``[N, C, h, w]`` to ``[N, B * C * 9, h * w]`` in ``dtype``."""
    assert grad.is_contiguous() and grad.dtype == torch.float32
    n, classes, height, width = grad.shape
    plane = height * width
    taps_grad = torch.empty((n, branches * classes * TAPS, plane), dtype=dtype, device=grad.device)
    grid = (triton.cdiv(plane, PIXELS), branches * classes * TAPS, n)
    _scatter_back[grid](
        grad,
        taps_grad,
        classes,
        height,
        width,
        plane,
        BRANCHES=branches,
        DILATION=dilation,
        PIXELS=PIXELS,
        enable_fp_fusion=False,
    )
    return taps_grad
