"""CycleGAN's networks (Zhu et al., ICCV 2017): a generator of residual blocks and a discriminator of 70x70 patches."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import Tensor, nn

from esl_dist.models.discriminator import SLOPE

INIT_STD = 0.02

M = TypeVar("M", bound=nn.Module)


class Reflect(nn.Module):
    """Mirror ``[N, C, H, W]`` at its edges by ``by`` pixels.

    Built of slices because the gradient of torch's own reflection padding adds in no fixed order on CUDA.
    """

    def __init__(self, by: int) -> None:
        super().__init__()
        self.by = by

    def forward(self, x: Tensor) -> Tensor:
        for axis in (2, 3):
            size = x.shape[axis]
            before, after = (x.narrow(axis, start, self.by).flip(axis) for start in (1, size - 1 - self.by))
            x = torch.cat([before, x, after], dim=axis)
        return x


class Residual(nn.Sequential):
    """``x + f(x)``: two 3x3 convolutions with reflection padding and instance norm."""

    def __init__(self, channels: int) -> None:
        super().__init__(
            Reflect(1),
            nn.Conv2d(channels, channels, 3),
            *_norm_relu(channels),
            Reflect(1),
            nn.Conv2d(channels, channels, 3),
            nn.InstanceNorm2d(channels),
        )

    def forward(self, input: Tensor) -> Tensor:
        out: Tensor = super().forward(input)
        return input + out


class Generator(nn.Sequential):
    """RGB images ``[N, 3, H, W]`` in [-1, 1] to images of the other domain, same shape and range; H and W multiples of
    4.

    7x7, two convolutions of stride 2, ``blocks`` residual blocks, two transposed ones, 7x7, tanh. No image sees
    another: batches and ranks of any size compute the same. 9 blocks of width 64 have 11 378 179 parameters.
    """

    def __init__(self, blocks: int = 9, width: int = 64) -> None:
        modules: list[nn.Module] = [Reflect(3), nn.Conv2d(3, width, 7), *_norm_relu(width)]
        for channels in (width, 2 * width):
            modules += [nn.Conv2d(channels, 2 * channels, 3, stride=2, padding=1), *_norm_relu(2 * channels)]
        modules += [Residual(4 * width) for _ in range(blocks)]
        for channels in (4 * width, 2 * width):
            modules += [
                nn.ConvTranspose2d(channels, channels // 2, 3, stride=2, padding=1, output_padding=1),
                *_norm_relu(channels // 2),
            ]
        super().__init__(*modules, Reflect(3), nn.Conv2d(width, 3, 7), nn.Tanh())


class PatchDiscriminator(nn.Sequential):
    """Images ``[N, 3, H, W]`` to a map ``[N, 1, H/8 - 2, W/8 - 2]``, each cell a judgement of the 70x70 pixels it sees
    (1 real, 0 made).

    Five 4x4 convolutions, three of stride 2, instance norm in the middle ones. Width 64 has 2 764 737 parameters.
    """

    def __init__(self, width: int = 64) -> None:
        modules: list[nn.Module] = [nn.Conv2d(3, width, 4, stride=2, padding=1), nn.LeakyReLU(SLOPE)]
        for before, after, stride in ((width, 2 * width, 2), (2 * width, 4 * width, 2), (4 * width, 8 * width, 1)):
            modules += [
                nn.Conv2d(before, after, 4, stride=stride, padding=1),
                nn.InstanceNorm2d(after),
                nn.LeakyReLU(SLOPE),
            ]
        super().__init__(*modules, nn.Conv2d(8 * width, 1, 4, padding=1))


def _norm_relu(channels: int) -> tuple[nn.Module, nn.Module]:
    return nn.InstanceNorm2d(channels), nn.ReLU()


@torch.no_grad()
def initialise(network: M, seed: int) -> M:
    """Weights N(0, 0.02), biases 0, as published: a pure function of ``seed``."""
    generator = torch.Generator().manual_seed(seed)
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(module.weight, 0.0, INIT_STD, generator=generator)
            assert module.bias is not None
            nn.init.zeros_(module.bias)
    return network
