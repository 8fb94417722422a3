"""The second pass's histogram of one image after another where the scores are: the integers of ``counting`` on any
device, in torch or, on CUDA, in a kernel.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from esl_dist import kernels
from esl_dist.pseudo_labels.scores.keys import LOW_BINS
from esl_dist.pseudo_labels.thresholds.counting import Cells

log = logging.getLogger(__name__)

Count = Callable[[Tensor, Tensor, Tensor, Tensor], None]
"""Adds to int64 ``[slots, LOW_BINS]``, by int16 ``[C, digits]``, an image's labels and keys."""


def plain(histogram: Tensor, slot: Tensor, label: Tensor, key: Tensor) -> None:
    """In torch's operations, two of which wait for the device."""
    row = slot.flatten()[label.flatten().long() * slot.shape[1] + (key.flatten() >> 16)].long()
    wanted = (row >= 0).nonzero().squeeze(1)
    cell = row[wanted] * LOW_BINS + (key.flatten()[wanted] & (LOW_BINS - 1))
    histogram += torch.bincount(cell, minlength=histogram.numel()).view_as(histogram)


class LowDigits:
    """Counts of the lower 16 bits of the keys in some cells, kept on a device.

    Args:
        count: None takes what the device is fastest at: on CUDA the kernel, once it has given the plain way's counts.
    """

    def __init__(self, cells: Cells, device: torch.device, count: Count | None = None) -> None:
        self._slot = torch.from_numpy(cells.slot).to(device)
        self._histogram = torch.zeros(cells.count, LOW_BINS, dtype=torch.int64, device=device)
        self._count = count

    def add(self, label: Tensor, score: Tensor) -> None:
        """One image: uint8 ``label`` and float32 ``score``, finite and 0 or more, of the same shape."""
        label, key = label.contiguous(), score.contiguous().view(torch.int32)
        if self._count is None:
            self._count = self._chosen(label, key)
        self._count(self._histogram, self._slot, label, key)

    def _chosen(self, label: Tensor, key: Tensor) -> Count:
        """The kernel where there is CUDA and Triton and it counts this image as the plain way does."""
        if not (label.is_cuda and kernels.available()):
            return plain
        from esl_dist.pseudo_labels.thresholds.kernel import count_low

        found = [torch.zeros_like(self._histogram) for _ in range(2)]
        for count, histogram in zip((plain, count_low), found, strict=True):
            count(histogram, self._slot, label, key)
        if torch.equal(*found):
            return count_low
        log.warning("the kernel of the second pass counts otherwise than torch on this device, so torch counts")
        return plain

    def histogram(self) -> np.ndarray:
        """int64 ``[slots, LOW_BINS]``, in host memory."""
        return self._histogram.cpu().numpy()
