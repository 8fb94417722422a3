"""Initial weights as a function of a seed, by the type of a module or by what the module says of itself.

Torch's initialisers without their global generator: a network is built on the meta device, given storage, and every
entry is drawn here.
"""

from __future__ import annotations

import math
from typing import Protocol, TypeVar, runtime_checkable

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

Network = TypeVar("Network", bound=nn.Module)


@runtime_checkable
class Drawn(Protocol):
    """A module with parameters of its own, or other distributions for its children than ``initialise`` gives."""

    def draw(self, generator: torch.Generator) -> None:
        """Overwrite them."""


@torch.no_grad()
def initialise(network: Network, seed: int) -> Network:
    """Overwrite every entry of ``network`` by a pure function of ``seed``; torch's global generator is neither read nor
    moved.

    Transformers' convention, as MiT and ViT-Adapter publish it: linear N(0, 0.02) truncated at two absolute units,
    convolutions N(0, sqrt(2 / fan-out)), biases 0, norms the identity. A module's ``draw`` comes after its children's
    and may overwrite them.
    """
    generator = torch.Generator().manual_seed(seed)
    for module in reversed(list(network.modules())):
        if isinstance(module, Drawn):
            module.draw(generator)
        elif isinstance(module, nn.Linear):
            truncated(module.weight, 0.02, generator)
            _zero(module.bias)
        elif isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            fan_out = module.kernel_size[0] * module.kernel_size[1] * module.out_channels // module.groups
            normal(module.weight, math.sqrt(2 / fan_out), generator)
            _zero(module.bias)
        elif isinstance(module, nn.LayerNorm | _BatchNorm):
            module.reset_parameters()
    return network


def normal(tensor: Tensor, deviation: float, generator: torch.Generator) -> None:
    nn.init.normal_(tensor, 0.0, deviation, generator=generator)


def truncated(tensor: Tensor, deviation: float, generator: torch.Generator) -> None:
    nn.init.trunc_normal_(tensor, std=deviation, generator=generator)


def torchs_own(module: nn.Linear | nn.Conv2d | nn.ConvTranspose2d, generator: torch.Generator) -> None:
    """What torch draws at construction: weights and bias U(-b, b), b = 1 / sqrt(fan-in)."""
    nn.init.kaiming_uniform_(module.weight, a=math.sqrt(5), generator=generator)
    if module.bias is not None:
        bound = module.weight[0].numel() ** -0.5
        nn.init.uniform_(module.bias, -bound, bound, generator=generator)


def _zero(bias: Tensor | None) -> None:
    if bias is not None:
        nn.init.zeros_(bias)
