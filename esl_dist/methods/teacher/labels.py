"""What the teacher says of target images, and how much of it counts: labels, confidence and DACS's weight q.

Tranheden et al., "DACS" (WACV 2021); Hoyer et al., "DAFormer" (CVPR 2022): every pixel is learned, with the weight
``q = share of pixels that the teacher is sure of``.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from esl_dist.losses.entropy import self_information


class Guess(NamedTuple):
    """The teacher's labels of a micro-batch."""

    labels: Tensor
    """uint8 ``[n, H, W]``: the most probable class, the first of equal ones."""
    confidence: Tensor
    """float32 ``[n, H, W]``: its probability."""
    doubt: Tensor | None
    """float32 ``[n, H, W]`` in [0, 1], small where the teacher is sure; None where nothing selects by it."""


def guess(prob: Tensor, doubt: str = "", judged: Tensor | None = None) -> Guess:
    """Labels from probabilities ``[n, C, H, W]``.

    Args:
        doubt: ``entropy`` (ESL's, over log C), ``probability`` (1 - p of the label), ``margin`` (1 - (p1 - p2)); empty:
            none.
        judged: probabilities that the doubt is taken of in place of ``prob``; 1 where they are for another class.
    """
    assert prob.shape[1] <= 255
    confidence, labels = prob.max(dim=1)
    if not doubt:
        return Guess(labels.to(torch.uint8), confidence, None)
    if judged is None:
        return Guess(labels.to(torch.uint8), confidence, doubt_of(prob, confidence, doubt))
    best, other = judged.max(dim=1)
    unsure = torch.where(other == labels, doubt_of(judged, best, doubt), 1.0)
    return Guess(labels.to(torch.uint8), confidence, unsure)


def doubt_of(prob: Tensor, confidence: Tensor, kind: str) -> Tensor:
    """How unsure each pixel is, ``[n, H, W]`` in [0, 1]: see ``guess``."""
    match kind:
        case "entropy":
            return self_information(prob).sum(dim=1).clamp_(0, 1)
        case "probability":
            return 1 - confidence
        case "margin":
            best = prob.topk(2, dim=1).values
            return 1 - (best[:, 0] - best[:, 1])
    raise ValueError(f"teacher.select.by: unknown {kind!r}; one of entropy, probability, margin")


def confident(confidence: Tensor, tau: float) -> Tensor:
    """Per image: pixels at or above ``tau``, and pixels; int64 ``[n, 2]``.

    Summed over a step's images and over the ranks, the two columns' quotient is the published q of the batch; an
    image's own quotient is the papers' q of that image.
    """
    sure = (confidence >= tau).flatten(1).sum(dim=1)
    return torch.stack([sure, torch.full_like(sure, confidence[0].numel())], dim=1)
