"""Evaluation of padded images: at each label's own size, and blind to whatever the network says about the padding."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from esl_dist.metrics.evaluate import Conditions, evaluate

SIZES = [(128, 64), (64, 128), (96, 96), (128, 96)]


class Striped:
    """Images whose left half is black class 0 and whose right half is white class 1, of four shapes."""

    names = tuple(f"{i}" for i in range(len(SIZES)))
    labelled = True

    def __len__(self) -> int:
        return len(SIZES)

    def size(self, index: int) -> tuple[int, int]:
        return SIZES[index]

    def image(self, index: int) -> np.ndarray:
        return np.repeat(self.label(index)[:, :, None] * 254 + 1, 3, axis=2).astype(np.uint8)  # 1 and 255: 0 is padding

    def label(self, index: int) -> np.ndarray:
        width, height = SIZES[index]
        return np.repeat((np.arange(width) >= width // 2)[None], height, axis=0).astype(np.uint8)


def brightness(images: torch.Tensor) -> torch.Tensor:
    """Logits at stride 8, corners aligned: class 0 where dark, 1 where bright, 2 with certainty where there
    is padding.
    """
    grey = images[:, :1].float()
    size = (-(-grey.shape[2] // 8) + 1, -(-grey.shape[3] // 8) + 1)
    small = torch.nn.functional.interpolate(grey, size, mode="bilinear", align_corners=True)
    return torch.cat([128 - small, small - 128, 1e4 * (small == 0)], dim=1)


@pytest.mark.parametrize("at", ["native", "crop"])
def test_padding_is_not_scored(at: str) -> None:
    conditions = Conditions(("dark", "bright", "padding"), (128, 96), 3, at, fit="pad")  # type: ignore[arg-type]
    result = evaluate(brightness, Striped(), conditions)
    assert result.confusion[:, 2].sum() == 0
    assert result.iou[:2].min() > 0.9
    if at == "native":
        assert result.confusion.sum() == sum(width * height for width, height in SIZES)
    stretched = evaluate(brightness, Striped(), dataclasses.replace(conditions, fit="stretch"))
    assert stretched.confusion[:, 2].sum() == 0 and stretched.iou[:2].min() > 0.9
