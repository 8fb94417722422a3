"""Windows that slide over an image larger than what a network was trained on, and the mean of what it says where they
overlap.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from esl_dist.config.schema import EvalConfig

Predict = Callable[[Tensor], Tensor]
Averaged = Literal["logits", "probabilities"]


def starts(side: int, window: int, stride: int) -> list[int]:
    """Where windows begin along a side; the last one ends at the border."""
    count = -(-max(side - window, 0) // stride) + 1
    return [min(i * stride, side - window) for i in range(count)]


def sliding(predict: Predict, window: tuple[int, int], stride: tuple[int, int], averaged: Averaged) -> Predict:
    """``predict`` on windows (width, height) every ``stride`` pixels, the mean where they overlap at the image's size.

    Each window's logits are upsampled to its pixels (bilinear, corners aligned), then averaged as they are or
    as ``probabilities``; of these the result holds the logarithm, whose argmax is theirs.

    Raises:
        ValueError: an image is smaller than the window.
    """

    def windows(images: Tensor) -> Tensor:
        height, width = images.shape[-2:]
        if width < window[0] or height < window[1]:
            raise ValueError(
                f"eval.window: {window[0]}x{window[1]} is larger than the images, {width}x{height}; make it smaller"
            )
        total: Tensor | None = None
        for top in starts(height, window[1], stride[1]):
            for left in starts(width, window[0], stride[0]):
                rows, columns = slice(top, top + window[1]), slice(left, left + window[0])
                said = _at(predict(images[..., rows, columns].contiguous()), (window[1], window[0]))
                if total is None:
                    total = said.new_zeros((*said.shape[:2], height, width))
                total[..., rows, columns] += torch.softmax(said, dim=1) if averaged == "probabilities" else said
        assert total is not None
        counts = _overlaps(height, window[1], stride[1])[:, None] * _overlaps(width, window[0], stride[0])
        mean = total / counts.to(total.device)
        return mean.clamp_min_(torch.finfo(mean.dtype).tiny).log_() if averaged == "probabilities" else mean

    return windows


def windowed(predict: Predict, options: EvalConfig) -> Predict:
    """``predict`` as ``eval.window``, ``eval.stride`` and ``eval.averaged`` want it."""
    if options.window == (0, 0):
        return predict
    half = (max(options.window[0] // 2, 1), max(options.window[1] // 2, 1))
    return sliding(predict, options.window, half if options.stride == (0, 0) else options.stride, options.averaged)


def _overlaps(side: int, window: int, stride: int) -> Tensor:
    counts = torch.zeros(side)
    for start in starts(side, window, stride):
        counts[start : start + window] += 1
    return counts


def _at(logits: Tensor, size_hw: tuple[int, int]) -> Tensor:
    return functional.interpolate(logits.float(), size_hw, mode="bilinear", align_corners=True)
