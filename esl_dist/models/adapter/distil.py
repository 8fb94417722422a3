"""What VFM-UDA++'s feature distance needs: a frozen DINOv2, and a head from the student's features to its channels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from esl_dist.models.dinov2 import GRID, REGISTERS, SHAPES, TINY, DinoV2
from esl_dist.models.initial import initialise, torchs_own
from esl_dist.models.resize import resized
from esl_dist.models.segmenter import ParameterGroup
from esl_dist.models.vfm import ChannelNorm
from esl_dist.models.vit import PATCH

SIDE = 406
"""Rows and columns of what the reference sees, whatever the student does: 29 patches."""
PATCHES = SIDE // PATCH


class Reference(nn.Module):
    """A frozen DINOv2 with registers on normalised images of any size: its normed patches ``[N, C, 29, 29]``."""

    def __init__(self, size: str) -> None:
        super().__init__()
        shape, grid = (TINY, 5) if size == "tiny" else (SHAPES[size], GRID)
        self.encoder = DinoV2(shape, registers=REGISTERS, grid=grid)
        self.requires_grad_(False).eval()

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        seen = resized(images, (SIDE, SIDE))
        return self.encoder.patches(self.encoder(seen), (PATCHES, PATCHES))

    def train(self, mode: bool = True) -> Reference:
        """It never trains."""
        return super().train(False)


class DistilHead(nn.Module):
    """``[N, C, h, w]`` to the reference's channels and grid: 1x1 to four times the width, norm, GELU, 1x1."""

    def __init__(self, channels_in: int, channels: int) -> None:
        super().__init__()
        self.feat_project = nn.Sequential(
            nn.Conv2d(channels_in, 4 * channels_in, 1),
            ChannelNorm(4 * channels_in),
            nn.GELU(),
            nn.Conv2d(4 * channels_in, channels, 1),
        )

    def forward(self, features: Tensor) -> Tensor:
        """``[N, channels, 29, 29]``."""
        return resized(self.feat_project(features), (PATCHES, PATCHES))

    def parameter_groups(self) -> Sequence[ParameterGroup]:
        """All at the heads' rate."""
        return [ParameterGroup("distil", tuple(self.named_parameters()), head=True)]

    def draw(self, generator: torch.Generator) -> None:
        """Torch's own distribution, as published."""
        for module in self.feat_project:
            if isinstance(module, nn.Conv2d):
                torchs_own(module, generator)


class Distillation(NamedTuple):
    """The two networks of the feature distance."""

    reference: Reference
    head: DistilHead


def build_distillation(size: str, channels_in: int, seed: int) -> Distillation:
    """On the CPU; the head is a function of ``seed``, the reference is zero until its weights are loaded.

    Args:
        size: of the reference, as ``teacher.distil.encoder`` names it.
        channels_in: of the student's features.
    """
    with torch.device("meta"):
        reference = Reference(size)
        head = DistilHead(channels_in, reference.encoder.shape.dim)
    reference = reference.to_empty(device="cpu")
    for entry in reference.state_dict().values():
        entry.zero_()
    return Distillation(reference, initialise(head.to_empty(device="cpu"), seed))
