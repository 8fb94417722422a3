"""Scores as the published code computes them: torch's softmax, interpolate, log and sum. Their bits depend on the
machine.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from esl_dist.pseudo_labels.scores.kinds import MARGINS, Kind


def probabilities(logits_chw: Tensor, size_hw: tuple[int, int]) -> Tensor:
    """Softmax upsampled as probabilities (bilinear, ``align_corners=True``), float32 ``[C, H, W]``."""
    p = torch.softmax(logits_chw.float()[None], 1)
    return F.interpolate(p, size=size_hw, mode="bilinear", align_corners=True)[0]


def score(logits_chw: Tensor, size_hw: tuple[int, int], kinds: Sequence[Kind]) -> tuple[Tensor, dict[Kind, Tensor]]:
    """Label (uint8) and the wanted confidences (float32), each ``[H, W]``.

    The entropy is NaN where a probability underflowed to 0, as in the published code; a margin of logits is infinite
    there.
    """
    p = probabilities(logits_chw, size_hw)
    best, label = p.max(0)
    maps: dict[Kind, Tensor] = {}
    if "entropy" in kinds:
        maps["entropy"] = torch.sum(p * torch.log(p), 0) * (-1.0 / math.log(len(p)))
    if "probability" in kinds:
        maps["probability"] = best
    if MARGINS & set(kinds):
        first, second = p.topk(2, 0).values
        margins: dict[Kind, Tensor] = {"margin": first - second, "logit_margin": torch.log(first) - torch.log(second)}
        maps.update({kind: value for kind, value in margins.items() if kind in kinds})
    return label.to(torch.uint8), maps
