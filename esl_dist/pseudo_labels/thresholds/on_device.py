"""The second pass's histogram of one image after another where the scores are, in torch: the integers of ``counting``
on any device.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from esl_dist.pseudo_labels.scores.keys import LOW_BINS
from esl_dist.pseudo_labels.thresholds.counting import Cells


class LowDigits:
    """Counts of the lower 16 bits of the keys in some cells, kept on a device."""

    def __init__(self, cells: Cells, device: torch.device) -> None:
        # the row of each cell, or one more that takes what no cell wants
        slot = torch.from_numpy(cells.slot.reshape(-1).astype(np.int64))
        self._slot = torch.where(slot < 0, cells.count, slot).to(device)
        self._digits, self._rows = cells.slot.shape[1], cells.count
        self._histogram = torch.zeros(self._rows * LOW_BINS, dtype=torch.int64, device=device)

    def add(self, label: Tensor, score: Tensor) -> None:
        """One image: uint8 ``label`` and float32 ``score``, finite and 0 or more, of the same shape."""
        key = score.reshape(-1).view(torch.int32)
        row = self._slot[label.reshape(-1).long() * self._digits + (key >> 16)]
        wanted = (row < self._rows).nonzero().squeeze(1)
        self._histogram += torch.bincount(
            row[wanted] * LOW_BINS + (key[wanted] & 0xFFFF), minlength=len(self._histogram)
        )

    def histogram(self) -> np.ndarray:
        """int64 ``[slots, LOW_BINS]``, in host memory."""
        return self._histogram.view(self._rows, LOW_BINS).cpu().numpy()
