"""Masked target images: MIC's context consistency (Hoyer et al., CVPR 2023)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from esl_dist.data.sampler import hashes


def grid_size(size_hw: tuple[int, int], block: int) -> tuple[int, int]:
    """Blocks of a mask along height and width: ``round(side / block)``, halves to even, at least 1 (1120 / 64 gives
    18).
    """
    height, width = size_hw
    return max(1, round(height / block)), max(1, round(width / block))


def block_mask(size_hw: tuple[int, int], block: int, ratio: float, seed: int, positions: Sequence[int]) -> Tensor:
    """bool ``[n, 1, H, W]``, True where the image is kept: each block of each image is dropped with probability
    ``ratio``.

    Args:
        block: side of a block in pixels; the grid that it gives is spread evenly over the image.
        seed: of this purpose (``draws.stream``); ``positions`` are the images'.
    """
    rows, columns = grid_size(size_hw, block)
    dropped = np.uint64(int(ratio * (1 << 53)))
    keep = np.stack([(hashes(seed, position, rows * columns) >> np.uint64(11)) > dropped for position in positions])
    grid = torch.from_numpy(keep).view(len(positions), rows, columns)
    height, width = size_hw
    at_row = torch.arange(height) * rows // height
    at_column = torch.arange(width) * columns // width
    return grid[:, at_row][:, :, at_column][:, None]


def masked(images: Tensor, keep: Tensor, mean_rgb: Tensor) -> Tensor:
    """Images ``[n, 3, H, W]`` with the network's mean colour where they are dropped: zero after normalisation."""
    return torch.where(keep, images, mean_rgb.view(1, 3, 1, 1).to(images))
