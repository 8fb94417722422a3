"""Test-time averages: every function takes ways to predict and returns one, so that they combine freely."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch.nn import functional

Predict = Callable[[torch.Tensor], torch.Tensor]


def flipped(predict: Predict) -> Predict:
    """Average the logits of an image and of its mirror image."""

    def both(images: torch.Tensor) -> torch.Tensor:
        return (predict(images) + predict(images.flip(-1)).flip(-1)) / 2

    return both


def multi_scale(predict: Predict, scales: Sequence[float]) -> Predict:
    """Average the logits over input sizes ``scales`` times the given one, at the finest scale's resolution.

    Raises:
        ValueError: no scale, or one that is not positive.
    """
    if not scales or min(scales) <= 0:
        raise ValueError(
            f"--scales: must be positive factors of the input size, such as 0.75,1,1.25; not {list(scales)}"
        )

    def every(images: torch.Tensor) -> torch.Tensor:
        height, width = images.shape[-2:]
        sizes = [(round(height * s), round(width * s)) for s in scales]
        return _mean([predict(_resized(images, size)) for size in sizes], [1.0] * len(sizes))

    return every


def weighted(predicts: Sequence[Predict], weights: Sequence[float]) -> Predict:
    """Weighted mean of several networks' logits (the literature's "AdvEnt+MinEnt" is 0.5 / 0.5).

    Raises:
        ValueError: not one weight per network, a negative weight, or all zero.
    """
    if len(predicts) != len(weights) or not predicts or min(weights) < 0 or sum(weights) <= 0:
        raise ValueError(
            f"--weight: give one of 0 or more per --checkpoint, not all 0; got {len(predicts)} checkpoint(s) and"
            f" {list(weights)}"
        )
    return lambda images: _mean([predict(images) for predict in predicts], weights)


def _mean(maps: Sequence[torch.Tensor], weights: Sequence[float]) -> torch.Tensor:
    height, width = max(m.shape[-2] for m in maps), max(m.shape[-1] for m in maps)
    summed = torch.zeros((), device=maps[0].device)
    for logits, weight in zip(maps, weights, strict=True):
        same = (
            logits
            if logits.shape[-2:] == (height, width)
            else functional.interpolate(logits.float(), (height, width), mode="bilinear", align_corners=True)
        )
        summed = summed + weight * same
    return summed / sum(weights)


def _resized(images: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """uint8 images at another size, as a photograph would be: bilinear, antialiased, rounded."""
    if images.shape[-2:] == size:
        return images
    return (
        functional.interpolate(images.float(), size, mode="bilinear", align_corners=False, antialias=True)
        .round()
        .clamp(0, 255)
        .to(torch.uint8)
    )
