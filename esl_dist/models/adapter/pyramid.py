"""VFM-UDA++'s pyramid head: from the coarsest map up, each finer map added on the way."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from esl_dist.models.adapter.interaction import norm


class PyramidHead(nn.Module):
    """Four maps of ``dim`` channels at strides 4 to 32 to one of ``dim / 8`` at stride 4."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        for i in (1, 2, 3):
            before, channels = dim >> (i - 1), dim >> i
            setattr(self, f"up_conv{i}", nn.ConvTranspose2d(before, channels, 2, stride=2))
            setattr(self, f"reduce_conv{i}", nn.Conv2d(dim, channels, 1))
            setattr(self, f"smooth_conv{i}", nn.Conv2d(channels, channels, 3, padding=1))
            setattr(self, f"norm{i}", norm(channels))
        self.smooth_conv4 = nn.Conv2d(dim >> 3, dim >> 3, 3, padding=1)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        *finer, x = maps
        for i, lateral in enumerate(reversed(finer), start=1):
            up, reduce, smooth, normalise = (
                getattr(self, f"{name}{i}") for name in ("up_conv", "reduce_conv", "smooth_conv", "norm")
            )
            x = F.relu(normalise(smooth(up(x) + reduce(lateral))))
        out: Tensor = self.smooth_conv4(x)
        return out

    def draw(self, generator: torch.Generator) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                # Stored as [in, out, k, k], a transposed convolution has its inputs where torch counts the fan-out.
                mode: Literal["fan_in", "fan_out"] = "fan_out" if isinstance(module, nn.ConvTranspose2d) else "fan_in"
                nn.init.kaiming_uniform_(module.weight, mode=mode, nonlinearity="relu", generator=generator)
