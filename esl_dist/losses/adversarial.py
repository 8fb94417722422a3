"""What a discriminator, and the segmenter that deceives it, minimise."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from esl_dist.losses.precision import wide


def domain_loss(logits: Tensor, domain: int, kind: Literal["bce", "ls"] | str = "bce") -> Tensor:
    """How far a discriminator's ``logits`` (any shape) are from saying ``domain``, a mean over all positions; 0-dim.

    ``bce``: binary cross-entropy with logits (Tsai et al., CVPR 2018, eqs. 2 and 4; ADVENT, eqs. 5 and 6). ``ls``:
    squared error of the raw output (Mao et al., LSGAN, ICCV 2017; the LS variant of AdaptSegNet).

    Args:
        domain: 0 source, 1 target, as in the public code (the papers write 1 and 0, which trains the same).

    Raises:
        ValueError: unknown ``kind``.
    """
    logits = wide(logits)
    wanted = torch.full_like(logits, float(domain))
    if kind == "bce":
        return F.binary_cross_entropy_with_logits(logits, wanted)
    if kind == "ls":
        return F.mse_loss(logits, wanted)
    raise ValueError(f"align.gan: unknown discriminator loss {kind!r}; use bce or ls")
