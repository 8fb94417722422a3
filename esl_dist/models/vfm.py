"""VFM-UDA's network (Englert et al., "Exploring the Benefits of Vision Foundation Models for Unsupervised Domain
Adaptation", 2024).

DINOv2 and a light decoder, under the published key names.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Self, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from esl_dist.models.dinov2 import GRID, SHAPES, DinoV2
from esl_dist.models.initial import normal, torchs_own
from esl_dist.models.resize import resized
from esl_dist.models.segmenter import Featured, Outputs
from esl_dist.models.soma import LowRank, adapt, merge
from esl_dist.models.stochastic import ChannelDropout, number_places
from esl_dist.models.transformer import IMAGENET, Divided, check_classes
from esl_dist.models.vit import PATCH, Shape

ENLARGED = 1.1
"""Images are enlarged before they are cut into patches: 1024 becomes 1120, which is 80 patches."""
CLASSIFIER_SPREAD = 0.1


class VfmUda(Divided):
    """Logits at four per patch and axis: ``[N, K, 4 rows, 4 columns]``, which for 1024x1024 is 320x320.

    Args:
        drop_path: stochastic depth of the last block; the publication's is 0.
        grid: rows and columns of the encoder's stored positions.
        soma: rank and first block of SoMA: the encoder is frozen but for its least used directions.
    """

    output_stride = 3

    def __init__(
        self,
        num_classes: int,
        shape: Shape,
        drop_path: float = 0.0,
        checkpointing: bool = False,
        grid: int = GRID,
        soma: tuple[int, int] | None = None,
    ) -> None:
        super().__init__()
        check_classes("VfmUda", num_classes)
        self.num_classes, self.feature_channels, self.normalisation = num_classes, shape.dim, IMAGENET
        self.encoder = DinoV2(shape, drop_path=drop_path, checkpointing=checkpointing, grid=grid)
        if soma is not None:
            adapt(self.encoder, *soma)
        self.upscale = upscale(shape.dim)
        self.out = nn.Conv2d(shape.dim // 4, num_classes, 1, bias=False)
        self.draws = number_places(self)

    def forward(self, images: Tensor, features: bool = False, mask: Tensor | None = None) -> Outputs | Featured:
        """Normalised images ``[N, 3, H, W]`` to logits; with ``features`` also the normed patches ``[N, C, rows,
        columns]``.

        Args:
            mask: bool ``[N, rows, columns]`` of ``patch_grid``: patches that DINOv2's mask token replaces.
        """
        maps = self.encode(images, mask)
        outputs = self.decode(maps)
        return Featured(outputs, maps[0]) if features else outputs

    def patch_grid(self, height: int, width: int) -> tuple[int, int]:
        """(rows, columns) of patches of an image."""
        return max(1, int(height * ENLARGED) // PATCH), max(1, int(width * ENLARGED) // PATCH)

    def encode(self, images: Tensor, mask: Tensor | None = None) -> tuple[Tensor, ...]:
        """One map, of the patch tokens."""
        rows, columns = self.patch_grid(images.shape[2], images.shape[3])
        images = resized(images, (rows * PATCH, columns * PATCH))
        return (self.encoder.patches(self.encoder(images, mask), (rows, columns)),)

    def decode(self, maps: Sequence[Tensor]) -> Outputs:
        return Outputs(self.out(self.upscale(maps[0])), None)

    def attention_head(self) -> nn.Module:
        return LightHead(self.feature_channels, self.num_classes)

    def output_size(self, size_hw: tuple[int, int]) -> tuple[int, int]:
        """1024 rows give 320."""
        rows, columns = self.patch_grid(*size_hw)
        return 4 * rows, 4 * columns

    def feature_size(self, size_hw: tuple[int, int]) -> tuple[int, int]:
        """1024 rows give 80."""
        return self.patch_grid(*size_hw)

    def depth_of(self, name: str) -> int | None:
        return depth_in(name, self.encoder.shape.depth, ())

    def forward_order(self) -> Iterator[nn.Parameter]:
        """The parameters as the forward comes to them."""
        yield from self.encoder.forward_order()
        yield from self.upscale.parameters()
        yield from self.out.parameters()

    def plainly(self) -> Self:
        """Low-rank layers become one matrix each."""
        return merge(self)

    def describe(self) -> str:
        return f"VFM-UDA: {size_of(self.encoder)}, light decoder"

    def draw(self, generator: torch.Generator) -> None:
        for module in self.upscale:
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                torchs_own(module, generator)
        normal(self.out.weight, CLASSIFIER_SPREAD, generator)


def depth_in(name: str, blocks: int, decoder: tuple[str, ...]) -> int | None:
    """``Divided.depth_of`` for an ``encoder`` of DINOv2, of which ``decoder`` are prefixes of what was added to it."""
    own = name.removeprefix("encoder.")
    if own == name or own.startswith(decoder or "\0"):
        return None
    return blocks - 1 - int(own.split(".")[1]) if own.startswith("blocks.") else blocks


def size_of(encoder: DinoV2) -> str:
    """The encoder in words."""
    name = next((f"ViT-{name[0].upper()}" for name, shape in SHAPES.items() if shape == encoder.shape), "ViT-tiny")
    trained = sum(p.numel() for p in encoder.parameters() if p.requires_grad)
    adapted = any(isinstance(module, LowRank) for module in encoder.modules())
    return f"DINOv2 {name}" + (f", frozen but for {trained:,} low-rank parameters (SoMA)" if adapted else "")


class ChannelNorm(nn.LayerNorm):
    """Layer norm over the channels of ``[N, C, H, W]``."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def upscale(dim: int) -> nn.Sequential:
    """Patch tokens ``[N, C, h, w]`` to ``[N, C/4, 4h, 4w]``."""
    return nn.Sequential(
        nn.ConvTranspose2d(dim, dim // 2, 2, stride=2, bias=False),
        ChannelNorm(dim // 2),
        nn.GELU(),
        nn.ConvTranspose2d(dim // 2, dim // 4, 2, stride=2, bias=False),
        ChannelNorm(dim // 4),
        nn.Conv2d(dim // 4, dim // 4, 3, padding=1, bias=False),
        ChannelNorm(dim // 4),
    )


class LightHead(nn.Module):
    """One of the maps to logits ``finer`` times as fine: 1x1 convolution, batch norm, ReLU, channel dropout, 1x1
    convolution, bilinear.

    HRDA's attention head on a vision transformer; not published.
    """

    def __init__(
        self, channels_in: int, num_classes: int, level: int = -1, finer: int = 4, channels: int = 256
    ) -> None:
        super().__init__()
        self.level, self.finer = level, finer
        self.conv = nn.Conv2d(channels_in, channels, 1, bias=False)
        self.bn = nn.BatchNorm2d(channels)
        self.dropout = ChannelDropout(0.1)
        self.conv_seg = nn.Conv2d(channels, num_classes, 1)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        logits = self.conv_seg(self.dropout(F.relu(self.bn(self.conv(maps[self.level])))))
        return resized(logits, (self.finer * logits.shape[2], self.finer * logits.shape[3]))

    def draw(self, generator: torch.Generator) -> None:
        normal(self.conv_seg.weight, 0.01, generator)
        nn.init.zeros_(cast(Tensor, self.conv_seg.bias))
