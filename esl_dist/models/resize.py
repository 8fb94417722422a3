"""Bilinear resizing whose gradient has a fixed order: on CUDA torch's own adds in none, or slowly by indexing."""

from __future__ import annotations

import functools

import torch
import torch.nn.functional as F
from torch import Tensor

Size = tuple[int, int]


def resized(x: Tensor, size: Size) -> Tensor:
    """``[N, C, h, w]`` at ``size``, bilinear, corners not aligned; itself where it has that size."""
    if x.shape[2:] == size:
        return x
    if x.is_cuda and x.requires_grad and torch.are_deterministic_algorithms_enabled():
        return by_products(x, size)
    return F.interpolate(x, size, mode="bilinear", align_corners=False)


def by_products(x: Tensor, size: Size) -> Tensor:
    """The same as two matrix products, in float32 or better, whatever the type of ``x``."""
    wide = x if x.dtype == torch.float64 else x.float()
    down, across = (_matrix(n, m, x.device).to(wide.dtype) for n, m in zip(x.shape[2:], size, strict=True))
    with torch.autocast(x.device.type, enabled=False):
        return (down @ wide @ across.T).to(x.dtype)


@functools.cache
def _matrix(stored: int, wanted: int, device: torch.device) -> Tensor:
    """``[wanted, stored]``: what a column of ``stored`` cells is multiplied by."""
    with torch.inference_mode(False), torch.no_grad():
        columns = torch.eye(stored, device=device)[None, :, :, None]
        resized_ones = F.interpolate(columns, (wanted, 1), mode="bilinear", align_corners=False)
        return resized_ones[0, :, :, 0].T.contiguous()
