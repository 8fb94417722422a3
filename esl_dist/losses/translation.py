"""What generators and patch discriminators minimise (CycleGAN, Zhu et al., ICCV 2017; BDL, Li et al., CVPR 2019).
Means, 0-dim.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from esl_dist.losses.precision import wide


def realism_loss(judged: Tensor, real: bool) -> Tensor:
    """LSGAN: the mean of ``(judged - 1)^2`` or, with ``real`` false, of ``judged^2`` over all cells of all images."""
    judged = wide(judged)
    return (judged - 1).square().mean() if real else judged.square().mean()


def reconstruction_loss(made: Tensor, wanted: Tensor) -> Tensor:
    """Mean of ``|made - wanted|`` over ``[N, 3, H, W]`` images in [-1, 1]: cycle consistency, and identity on a
    generator's own output domain.
    """
    return (wide(made) - wide(wanted)).abs().mean()


def perceptual_loss(logits: Tensor, wanted: Tensor) -> Tensor:
    """BDL's: the mean of ``(IN(logits) - IN(wanted))^2``, IN normalising each class map of each image to mean 0 and
    variance 1.

    A segmenter shall see the same scene before and after translation, in contrast if not in confidence. ``[N, C, h,
    w]`` each.
    """
    return (F.instance_norm(wide(logits)) - F.instance_norm(wide(wanted))).square().mean()
