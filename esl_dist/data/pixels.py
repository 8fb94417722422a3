"""Which pixels of an image a sampled loss looks at: a pure function of (seed, position of the image, its labels)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from esl_dist.data.prefetch import sent
from esl_dist.data.sampler import key_of
from esl_dist.labels import IGNORE

_STRIDE = 8
_GOLDEN = 0x9E3779B97F4A7C15 - (1 << 64)
_FIRST = 0xBF58476D1CE4E5B9 - (1 << 64)
_SECOND = 0x94D049BB133111EB - (1 << 64)
"""Of SplitMix64 (``sampler._mix``), as signed numbers."""


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


def image_keys(seed: int, positions: Sequence[int], device: torch.device) -> Tensor:
    """What decides which pixels of each image are taken, int64 ``[n]``: a number for each position of the stream."""
    keys = np.array([key_of(seed, position) for position in positions], dtype=np.uint64)
    return sent(torch.from_numpy(keys.view(np.int64)), device)


def sample(labels: Tensor, num_classes: int, count: int, keys: Tensor) -> Pixels:
    """Up to ``count`` labelled pixels of each image, its classes in turn: a rare class is not lost, and every prefix is
    as balanced as the whole.

    In integers, which are the same on every device, and where the labels lie: nothing waits for them.

    Args:
        labels: uint8 ``[n, h, w]`` on the output grid; values outside ``[0, num_classes)`` are never taken. Zeros and
            one class sample
            an unlabelled image.
        keys: of ``image_keys``, on the same device.
    """
    label, order = labels.flatten(1).long(), _random_order(keys, labels[0].numel())
    known = label < num_classes
    length = label.shape[1]
    # Sorted by class, within a class in random order; what has no class comes last.
    by_class = order.gather(1, torch.where(known, label, num_classes).gather(1, order).argsort(dim=1, stable=True))
    of_class = torch.where(known, label, num_classes).gather(1, by_class)
    turn = torch.arange(length, device=label.device) - torch.searchsorted(of_class, of_class)
    turn = torch.where(of_class < num_classes, turn, length)
    # The first of every class, then the second of every class, each in random order.
    turn_at = turn.gather(1, by_class.argsort(dim=1))
    taken = order.gather(1, turn_at.gather(1, order).argsort(dim=1, stable=True))[:, :count]
    has = known.gather(1, taken)
    where = torch.where(has, taken, 0)
    chosen = torch.where(has, label.gather(1, taken), IGNORE).to(torch.uint8)
    missing = (0, count - taken.shape[1])
    return Pixels(F.pad(where, missing), F.pad(chosen, missing, value=IGNORE))


def _random_order(keys: Tensor, length: int) -> Tensor:
    """Places sorted by the random numbers of ``sampler.hashes`` for each key: int64 ``[n, length]``."""
    numbers = keys[:, None] + torch.arange(length, device=keys.device) * _GOLDEN
    numbers = numbers + _GOLDEN
    numbers = (numbers ^ ((numbers >> 30) & ((1 << 34) - 1))) * _FIRST
    numbers = (numbers ^ ((numbers >> 27) & ((1 << 37) - 1))) * _SECOND
    numbers = numbers ^ ((numbers >> 31) & ((1 << 33) - 1))
    return (numbers ^ -(1 << 63)).argsort(dim=1, stable=True)  # as if they had no sign
