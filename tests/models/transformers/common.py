"""Networks small enough for a test."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from esl_dist.models import mit, vit
from esl_dist.models.adapter import VfmUdaPlus
from esl_dist.models.daformer import DaFormer
from esl_dist.models.hrda import Hrda
from esl_dist.models.initial import initialise
from esl_dist.models.vfm import VfmUda

CLASSES = 5
MIT = mit.Shape((8, 16, 20, 32), (1, 2, 1, 1))
VIT = vit.Shape(64, 4, 4)
NAMES = ("daformer", "vfm_uda", "vfm_uda_plus", "hrda-daformer", "hrda-vfm_uda")


def network(name: str, drop_path: float = 0.0, checkpointing: bool = False) -> nn.Module:
    """A network of ``NAMES``, unfilled."""
    if name.startswith("hrda-"):
        return Hrda(network(name.removeprefix("hrda-"), drop_path, checkpointing))
    if name == "daformer":
        return DaFormer(CLASSES, MIT, drop_path, checkpointing, channels=16)
    kind = {"vfm_uda": VfmUda, "vfm_uda_plus": VfmUdaPlus}[name]
    return kind(CLASSES, VIT, drop_path, checkpointing, grid=5)


def built(name: str, seed: int = 1, drop_path: float = 0.0, checkpointing: bool = False) -> nn.Module:
    """The same with its initial weights, in eval mode."""
    with torch.device("meta"):
        made = network(name, drop_path, checkpointing)
    return initialise(made.to_empty(device="cpu"), seed).eval()


def images(count: int = 2, h: int = 64, w: int = 96, seed: int = 3) -> Tensor:
    return torch.randn(count, 3, h, w, generator=torch.Generator().manual_seed(seed))
