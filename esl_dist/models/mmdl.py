"""The multi-modal head of DRSL (Iqbal et al., 2022): an embedding of the shared base's features and K representatives
of each class in it.

Size and normalisation are ours; the paper's are not public to us (see ``losses/mmdl.py``).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

MEMORY = 0.99
"""Decay per step of the average usage of modes: about a hundred steps."""
TINY = 1e-30


class Embedded(NamedTuple):
    """Sampled pixels ``[N, S, d]`` and representatives ``[C, K, d]``, each of length 1."""

    pixels: Tensor
    representatives: Tensor


class ModeHead(nn.Module):
    """A 1x1 convolution from ``channels`` to ``dim``, evaluated at sampled positions only, and ``[num_classes, modes,
    dim]`` representatives.

    Both outputs are scaled to length 1: distances then mean the same all through a training, and alignment cannot be
    had by shrinking the space.
    """

    def __init__(self, channels: int, num_classes: int, modes: int, dim: int) -> None:
        super().__init__()
        self.embedding = nn.Linear(channels, dim)
        self.representatives = nn.Parameter(torch.empty(num_classes, modes, dim))
        self.register_buffer("usage", torch.zeros(num_classes, modes))
        self.usage: Tensor
        """Source pixels nearest to each mode in a step, averaged over the last steps; the same on every rank."""

    def forward(self, features: Tensor, where: Tensor) -> Embedded:
        """Features ``[N, channels, h, w]`` and int64 ``[N, S]`` positions ``y * w + x`` in them."""
        rows = features.flatten(2).transpose(1, 2)
        # By index, not by ``gather``, whose gradient waits for a copy from the host on CUDA where it is deterministic.
        picked = rows[torch.arange(len(rows), device=rows.device)[:, None], where]
        pixels = self.embedding(picked).to(self.representatives.dtype)  # half precision ends here
        return Embedded(F.normalize(pixels, dim=-1), F.normalize(self.representatives, dim=-1))

    def shares(self) -> Tensor:
        """How the pixels of each class spread over its modes, ``[C, K]``; even for a class that was not seen yet."""
        total = self.usage.sum(-1, keepdim=True)
        return torch.where(total > 0, self.usage / total.clamp_min(TINY), 1 / self.usage.shape[1])

    @torch.no_grad()
    def remember(self, members: Tensor) -> None:
        """Take one step's ``[C, K]`` counts into the average."""
        self.usage.lerp_(members.to(self.usage.dtype), 1 - MEMORY)


@torch.no_grad()
def initialise(head: ModeHead, seed: int) -> ModeHead:
    """A pure function of ``seed``: N(0, 0.01) weights as the segmentation heads; modes of a class 0.6 apart around a
    random direction of its own.
    """
    generator = torch.Generator().manual_seed(seed)
    nn.init.normal_(head.embedding.weight, 0.0, 0.01, generator=generator)
    nn.init.zeros_(head.embedding.bias)
    shape = head.representatives.shape
    around = F.normalize(torch.randn((shape[0], 1, shape[2]), generator=generator), dim=-1)
    head.representatives.copy_(
        F.normalize(around + 0.5 * F.normalize(torch.randn(shape, generator=generator), dim=-1), dim=-1)
    )
    head.usage.zero_()
    return head
