"""The domain discriminator of AdaptSegNet and ADVENT: fully convolutional, from class maps to a map of
domain logits.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SLOPE = 0.2


class Discriminator(nn.Sequential):
    """Five 4x4 convolutions of stride 2 with LeakyReLU(0.2) between, no normalisation (Radford et al., DCGAN, as in
    Tsai et al., CVPR 2018).

    ``[N, in_channels, H, W]`` maps (probabilities or weighted self-information, at crop size) to logits ``[N, 1, H/32,
    W/32]``; H and W of at least 32. State-dict keys are 0, 2, 4, 6 and 8, as in ADVENT and ESL.
    """

    def __init__(self, in_channels: int, ndf: int = 64) -> None:
        channels = (in_channels, ndf, ndf * 2, ndf * 4, ndf * 8, 1)
        modules: list[nn.Module] = []
        for before, after in pairwise(channels):
            modules += [nn.Conv2d(before, after, 4, stride=2, padding=1), nn.LeakyReLU(SLOPE, inplace=True)]
        super().__init__(*modules[:-1])
        self.in_channels, self.ndf = in_channels, ndf


def together(networks: Sequence[Discriminator], maps: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """What each network says of its own maps ``[N, C, H, W]``, all of one shape, as one pass: the networks' layers are
    groups of one convolution. Their weights stay theirs, gradients included.
    """
    x = torch.cat(list(maps), dim=1)
    for layers in zip(*networks, strict=True):
        convolutions = [layer for layer in layers if isinstance(layer, nn.Conv2d)]
        if not convolutions:
            x = layers[0](x)
            continue
        weight = torch.cat([layer.weight for layer in convolutions])
        bias = torch.cat([layer.bias for layer in convolutions if layer.bias is not None])
        first = convolutions[0]
        x = F.conv2d(x, weight, bias, first.stride, first.padding, groups=len(convolutions))
    return x.chunk(len(networks), dim=1)


@torch.no_grad()
def initialise(model: Discriminator, seed: int) -> Discriminator:
    """Torch's default convolution weights (which the published code keeps), as a pure function of ``seed``."""
    generator = torch.Generator().manual_seed(seed)
    for module in model:
        if isinstance(module, nn.Conv2d):
            bound = 1 / math.sqrt(module.weight[0].numel())
            nn.init.uniform_(module.weight, -bound, bound, generator=generator)
            assert module.bias is not None
            nn.init.uniform_(module.bias, -bound, bound, generator=generator)
    return model
