"""Which pixels of an image a sampled loss looks at: a pure function of (seed, position of the image, its labels)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from esl_dist.data.sampler import hashes
from esl_dist.labels import IGNORE

_STRIDE = 8


class Pixels(NamedTuple):
    """A fixed number of pixels of each image of a batch."""

    where: Tensor
    """int64 ``[n, count]``: ``y * w + x`` on the network's output grid."""
    labels: Tensor
    """uint8 ``[n, count]``: the class; 255 where an image has fewer labelled pixels than asked for."""


def on_grid(labels: Tensor, size_hw: tuple[int, int]) -> Tensor:
    """Labels ``[n, H, W]`` at the network's output grid ``[n, h, w]``: of the pixel at (8 y, 8 x), on which that output
    is centred.

    One label for 64 pixels, taken as it is (nearest, not a vote); the last row or column may lie beyond the crop and
    takes its edge.
    """
    rows, columns = (
        torch.arange(size, device=labels.device).mul(_STRIDE).clamp_max(full - 1)
        for size, full in zip(size_hw, labels.shape[1:], strict=True)
    )
    return labels[:, rows][:, :, columns]


def sample(labels: Tensor, num_classes: int, count: int, seed: int, positions: tuple[int, ...]) -> Pixels:
    """Up to ``count`` labelled pixels of each image, its classes in turn: a rare class is not lost, and every prefix is
    as balanced as the whole.

    On the host, whose integers are the same everywhere; a label map of the output grid is small.

    Args:
        labels: uint8 ``[n, h, w]`` on the output grid; values outside ``[0, num_classes)`` are never taken. Zeros and
            one class sample
            an unlabelled image.
        seed, positions: of the stream, one position for each image (see ``data/sampler.py``).
    """
    assert len(labels) == len(positions)
    where = torch.zeros((len(labels), count), dtype=torch.int64)
    chosen = torch.full((len(labels), count), IGNORE, dtype=torch.uint8)
    for row, (label, position) in enumerate(zip(labels.flatten(1).cpu().numpy(), positions, strict=True)):
        picked = _in_turn(label, num_classes, hashes(seed, position, len(label)))[:count]
        where[row, : len(picked)] = torch.from_numpy(picked)
        chosen[row, : len(picked)] = torch.from_numpy(label[picked])
    return Pixels(where, chosen)


def _in_turn(label: NDArray[np.uint8], num_classes: int, keys: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Indices of all labelled pixels: the first of every class, the second of every class, …, in the random order that
    ``keys`` give.
    """
    known = np.flatnonzero(label < num_classes)
    by_class = known[np.lexsort((keys[known], label[known]))]
    classes = label[by_class]
    begin = np.searchsorted(classes, classes)  # where the pixel's class begins
    turn = np.arange(len(by_class)) - begin
    return by_class[np.lexsort((keys[by_class], turn))]
