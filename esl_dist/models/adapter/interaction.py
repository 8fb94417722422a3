"""What passes between a vision transformer and the adapter's maps (Chen et al., "Vision Transformer Adapter for Dense
Predictions", ICLR 2023).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from esl_dist.models.adapter.deformable import DeformableAttention, Grid, centres

MOMENTUM = 0.01
"""Of every batch norm of the adapter and its head."""
FFN_RATIO = 0.25
EXTRA = 2


class Geometry(NamedTuple):
    """Grids of the patches and of the adapter's three maps, and the centres of their cells."""

    patches: Grid
    levels: tuple[Grid, Grid, Grid]
    patch_centres: Tensor
    level_centres: Tensor

    @classmethod
    def of(cls, patches: Grid, levels: tuple[Grid, Grid, Grid], device: torch.device) -> Geometry:
        return cls(patches, levels, centres([patches], device), centres(levels, device))


class SpatialPrior(nn.Module):
    """Convolutions that see the image itself: maps of ``dim`` channels at strides 4, 8, 16 and 32."""

    def __init__(self, dim: int, width: int = 64) -> None:
        super().__init__()
        stem = [*_convolution(3, width, 2), *_convolution(width, width, 1), *_convolution(width, width, 1)]
        self.stem = nn.Sequential(*stem, nn.MaxPool2d(3, stride=2, padding=1))
        self.conv2 = nn.Sequential(*_convolution(width, 2 * width, 2))
        self.conv3 = nn.Sequential(*_convolution(2 * width, 4 * width, 2))
        self.conv4 = nn.Sequential(*_convolution(4 * width, 4 * width, 2))
        self.fc1, self.fc2, self.fc3, self.fc4 = (nn.Conv2d(factor * width, dim, 1) for factor in (1, 2, 4, 4))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        first = self.stem(images)
        second = self.conv2(first)
        third = self.conv3(second)
        fourth = self.conv4(third)
        return self.fc1(first), self.fc2(second), self.fc3(third), self.fc4(fourth)


class Interaction(nn.Module):
    """An injector before, and extractors after, a quarter of the transformer's blocks."""

    def __init__(self, dim: int, extra: bool) -> None:
        super().__init__()
        self.injector = Injector(dim)
        self.extractor = Extractor(dim)
        if extra:
            self.extra_extractors = nn.ModuleList(Extractor(dim) for _ in range(EXTRA))

    def extras(self) -> Iterator[nn.Parameter]:
        """Parameters of the extractors that only the last interaction has."""
        for extractor in getattr(self, "extra_extractors", ()):
            yield from extractor.parameters()

    def extract(self, maps: Tensor, patches: Tensor, geometry: Geometry) -> Tensor:
        """The adapter's maps ``[N, sum h w, C]`` after they have read the patches ``[N, rows * columns, C]``."""
        maps = self.extractor(maps, patches, geometry)
        for extractor in getattr(self, "extra_extractors", ()):
            maps = extractor(maps, patches, geometry)
        return maps


class Injector(nn.Module):
    """Patches read the adapter's three maps; nothing at the start, since ``gamma`` is zero."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.query_norm, self.feat_norm = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.attn = DeformableAttention(dim, dim // 64, levels=3)
        self.gamma = nn.Parameter(torch.zeros(dim))

    def forward(self, patches: Tensor, maps: Tensor, geometry: Geometry) -> Tensor:
        read: Tensor = self.attn(
            self.query_norm(patches), geometry.patch_centres, self.feat_norm(maps), geometry.levels
        )
        return patches + self.gamma * read

    def draw(self, generator: torch.Generator) -> None:
        nn.init.zeros_(self.gamma)


class Extractor(nn.Module):
    """The adapter's three maps read the patches."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.query_norm, self.feat_norm = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.attn = DeformableAttention(dim, dim // 64, levels=1)
        self.ffn = ConvolutionalMlp(dim)
        self.ffn_norm = nn.LayerNorm(dim)

    def forward(self, maps: Tensor, patches: Tensor, geometry: Geometry) -> Tensor:
        maps = maps + self.attn(
            self.query_norm(maps), geometry.level_centres, self.feat_norm(patches), [geometry.patches]
        )
        out: Tensor = maps + self.ffn(self.ffn_norm(maps), geometry.levels)
        return out


class ConvolutionalMlp(nn.Module):
    """Linear, 3x3 depthwise convolution on each map, GELU, linear."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        hidden = int(dim * FFN_RATIO)
        self.fc1 = nn.Linear(dim, hidden)
        self.dwconv = LevelConvolution(hidden)
        self.fc2 = nn.Linear(hidden, dim)

    def forward(self, x: Tensor, grids: Sequence[Grid]) -> Tensor:
        out: Tensor = self.fc2(F.gelu(self.dwconv(self.fc1(x), grids)))
        return out


class LevelConvolution(nn.Module):
    """One 3x3 depthwise convolution for all maps."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.dwconv = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)

    def forward(self, x: Tensor, grids: Sequence[Grid]) -> Tensor:
        parts = x.split([h * w for h, w in grids], dim=1)
        return torch.cat(
            [tokens(self.dwconv(as_map(part, grid))) for part, grid in zip(parts, grids, strict=True)], dim=1
        )


def tokens(x: Tensor) -> Tensor:
    """``[N, C, h, w]`` as ``[N, h * w, C]``."""
    return x.flatten(2).transpose(1, 2)


def as_map(x: Tensor, grid: Grid) -> Tensor:
    """``[N, h * w, C]`` as ``[N, C, h, w]``."""
    out: Tensor = x.transpose(1, 2).unflatten(2, grid)
    return out


def norm(channels: int) -> _BatchNorm:
    """Synchronised in the publication (``model.bn=sync``)."""
    return nn.BatchNorm2d(channels, momentum=MOMENTUM)


def _convolution(channels_in: int, channels: int, stride: int) -> list[nn.Module]:
    return [
        nn.Conv2d(channels_in, channels, 3, stride=stride, padding=1, bias=False),
        norm(channels),
        nn.ReLU(inplace=True),
    ]
