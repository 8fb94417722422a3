"""A micro-batch as the ingredients of a step see it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from esl_dist.data.loader import Batch


class Known(NamedTuple):
    """What all ranks know about a step before its first pass."""

    step: int
    """Number of the optimiser step, 0-based."""
    counts: Tensor
    """Source pixels per class in the global batch, then of no class: int64 ``[C + 1]``."""
    pixels: float
    """Of one domain in the global batch, divided by the world size: what a sum over pixels is divided by, because
    gradients are averaged over the ranks."""
    labelled: Tensor
    """Likewise the labelled source pixels, 0-dim float64."""


@dataclass
class Moment:
    """One micro-batch, and what the teacher says of it."""

    known: Known
    source: Batch
    target: Batch
    truth: Tensor
    """The source's labels, uint8 ``[n, H, W]``, on the device."""
    counts: Tensor
    """Their pixels per class, a row per image, then of no class: int64 ``[n, C + 1]``."""
    guess: Tensor
    """The teacher's labels of the target, uint8 ``[n, H, W]``."""
    weight: Tensor
    """What each of them weighs, float32 ``[n, H, W]`` in [0, 1]; 0 in margins."""
