"""Scores as the published code computes them: torch's softmax, interpolate, log and sum. Their bits depend on the
machine.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def probabilities(logits_chw: Tensor, size_hw: tuple[int, int]) -> Tensor:
    """Softmax upsampled as probabilities (bilinear, ``align_corners=True``), float32 ``[C, H, W]``."""
    p = torch.softmax(logits_chw.float()[None], 1)
    return F.interpolate(p, size=size_hw, mode="bilinear", align_corners=True)[0]


def score(logits_chw: Tensor, size_hw: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor]:
    """Label, normalised entropy (NaN where a probability underflowed to 0, as in the published code), maximum
    probability.
    """
    p = probabilities(logits_chw, size_hw)
    best, label = p.max(0)
    entropy = torch.sum(p * torch.log(p), 0) * (-1.0 / math.log(len(p)))
    return label.to(torch.uint8), entropy, best
