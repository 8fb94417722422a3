"""ESL inside a training step: per-class thresholds from the quantiles of the target stream's last images.

Ours. ESL (Saporta et al. 2020) takes the median entropy of each class over a finished pass of the whole target set;
here the teacher moves, so the set is the stream's last ``steps`` global batches, the present one included. What is kept
is one histogram per class and step, added over the ranks: integers, so thresholds are the same on every rank, for every
partition of a global batch over ranks, and after a resume.

A doubt's bin is the upper 16 bits of its float32 (non-negative floats sort as their bits), so bins are 0.8 % wide, and
one more below 2^-10, where nothing is left to tell apart. A threshold is the upper end of the bin that holds the order
statistic: the tightest on that grid that keeps at least the wanted share, counted, not estimated.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction

import torch
from torch import Tensor

from esl_dist.data.prefetch import sent

FIRST = 0x3A80
"""Upper bits of 2^-10, the first bin but one."""
LAST = 0x3F80
"""Upper bits of 1 and a little more: a doubt of exactly 1 has its bin; what is above (or NaN) falls into it too."""
BINS = LAST - FIRST + 2


def bins_of(doubt: Tensor) -> Tensor:
    """int64, one per float32 doubt in [0, 1]."""
    upper = doubt.float().clamp_min(0).contiguous().view(torch.int32) >> 16
    return upper.clamp(FIRST - 1, LAST).long() - (FIRST - 1)


def edge(bins: Tensor) -> Tensor:
    """The largest float32 of a bin."""
    bits = ((bins + FIRST) << 16) - 1
    return bits.to(torch.int32).view(torch.float32)


def histogram(labels: Tensor, doubt: Tensor, num_classes: int) -> Tensor:
    """Pixels per class and bin, int64 ``[C, BINS]``, of labels (uint8, others than classes left out) and doubts."""
    cells = torch.where(labels < num_classes, labels.long() * BINS + bins_of(doubt), num_classes * BINS).flatten()
    counts = torch.zeros(num_classes * BINS + 1, dtype=torch.int64, device=labels.device)
    return counts.scatter_add_(0, cells, torch.ones_like(cells))[:-1].view(num_classes, BINS)


def quantile_edges(counts: Tensor, share: Fraction) -> Tensor:
    """Per class the tightest threshold that keeps at least ``share`` of its pixels: float32 ``[C]``, -1 for an absent
    class.
    """
    below = counts.cumsum(dim=1)
    wanted = -(-below[:, -1] * share.numerator // share.denominator)
    found = (below < wanted[:, None]).sum(dim=1)
    return torch.where(below[:, -1] > 0, edge(found.clamp_max(BINS - 1)), -1.0)


class RunningQuantiles:
    """The histograms of the last ``steps`` optimiser steps and their sum; the same on all ranks.

    Memory: ``steps * C * 1282 * 4`` bytes (12 MB at 125 steps and 19 classes).
    """

    def __init__(self, num_classes: int, steps: int, share: Fraction, device: torch.device | str = "cpu") -> None:
        assert steps >= 1 and 0 < share <= 1
        self.share = share
        self.ring = torch.zeros((steps, num_classes, BINS), dtype=torch.int32, device=device)
        self.total = torch.zeros((num_classes, BINS), dtype=torch.int64, device=device)

    def slot(self, step: int) -> Tensor:
        """The place of optimiser step ``step`` in the window, int64 ``[1]``, on the device."""
        return sent(torch.tensor([step % len(self.ring)]), self.ring.device)

    def add(self, slot: Tensor, counts: Tensor) -> None:
        """Take in a step's ``[C, BINS]`` (already added over the ranks), in place of what had its ``slot``."""
        self.total += counts - self.ring.index_select(0, slot)[0]
        self.ring.index_copy_(0, slot, counts[None].to(torch.int32))

    def thresholds(self, bound: float) -> Tensor:
        """``max(bound, quantile)`` per class, float32 ``[C]``: ESL's rule with ``bound`` = nu."""
        return quantile_edges(self.total, self.share).clamp_min(bound)

    def memory(self) -> dict[str, Tensor]:
        return {"ring": self.ring}

    def recall(self, memory: Mapping[str, Tensor]) -> None:
        """Go on from a checkpoint's ``memory``. ``ValueError`` where its window has another length."""
        if memory["ring"].shape != self.ring.shape:
            raise ValueError(
                "teacher.select.window: is not what the checkpoint was trained with; set it back, or train anew"
            )
        self.ring.copy_(memory["ring"])
        self.total.copy_(self.ring.sum(dim=0, dtype=torch.int64))


def kept(labels: Tensor, doubt: Tensor, thresholds: Tensor) -> Tensor:
    """bool, where the doubt of a pixel is within its class's threshold; never outside the classes."""
    known = labels < len(thresholds)
    return known & (doubt <= thresholds[torch.where(known, labels, 0).long()])
