"""A micro-batch as the ingredients of a step see it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from esl_dist.data.loader import Batch
from esl_dist.methods.draws import Keys


class Known(NamedTuple):
    """What all ranks know about a step before its first pass."""

    step: int
    """Number of the optimiser step, 0-based; a captured step must not read it."""
    counts: Tensor
    """Source pixels per class in the global batch, then of no class: int64 ``[C + 1]``."""
    pixels: float
    """Of one domain in the global batch, divided by the world size: what a sum over pixels is divided by, because
    gradients are averaged over the ranks."""
    labelled: Tensor
    """Likewise the labelled source pixels, 0-dim float64."""


class Scene(NamedTuple):
    """One micro-batch before any network has seen it: all that draws may depend on."""

    known: Known
    source: Batch
    target: Batch
    truth: Tensor
    """The source's labels, uint8 ``[n, H, W]``, on the device."""
    counts: Tensor
    """Their pixels per class, a row per image, then of no class: int64 ``[n, C + 1]``."""


class Sight(NamedTuple):
    """What the student is shown in a pass, and what else is drawn for it."""

    images: Tensor
    """RGB ``[n, 3, H, W]``, uint8 or floating in 0-255."""
    keys: Keys | None
    """What the network draws from."""
    of_source: Tensor | None = None
    """bool, ``[n, H, W]`` or ``[n, 1, 1]``: what of them is the source's."""
    hidden: Tensor | None = None
    """bool ``[n, rows, columns]``: patches that the network must not see."""


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
