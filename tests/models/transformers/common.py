"""Networks small enough for a test."""

from __future__ import annotations

import torch
from torch import Tensor

from esl_dist.models import dinov2, mit
from esl_dist.models.adapter import VfmUdaPlus
from esl_dist.models.daformer import DaFormer
from esl_dist.models.hrda import Hrda
from esl_dist.models.segmenter import Segmenter
from esl_dist.models.vfm import VfmUda

CLASSES = 5
MIT = mit.TINY
VIT = dinov2.TINY
NAMES = ("daformer", "vfm_uda", "vfm_uda_plus", "hrda-daformer", "hrda-vfm_uda")


def network(name: str, drop_path: float = 0.0, checkpointing: bool = False) -> Segmenter:
    """A network of ``NAMES``, unfilled."""
    if name.startswith("hrda-"):
        return Hrda(network(name.removeprefix("hrda-"), drop_path, checkpointing))
    if name == "daformer":
        return DaFormer(CLASSES, MIT, drop_path, checkpointing, channels=16)
    kind = {"vfm_uda": VfmUda, "vfm_uda_plus": VfmUdaPlus}[name]
    return kind(CLASSES, VIT, drop_path, checkpointing, grid=5)


def built(name: str, seed: int = 1, drop_path: float = 0.0, checkpointing: bool = False) -> Segmenter:
    """The same with its initial weights, in eval mode."""
    with torch.device("meta"):
        made = network(name, drop_path, checkpointing)
    made.to_empty(device="cpu").initialise(seed, "random")
    return made.eval()


def images(count: int = 2, h: int = 64, w: int = 128, seed: int = 3) -> Tensor:
    return torch.randn(count, 3, h, w, generator=torch.Generator().manual_seed(seed))
