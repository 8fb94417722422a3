"""Options of the networks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from esl_dist.config.bounds import Bound, PositiveInt


@dataclass(frozen=True)
class ModelConfig:
    """DeepLab-v2 and its discriminators."""

    layers: tuple[PositiveInt, PositiveInt, PositiveInt, PositiveInt] = (3, 4, 23, 3)
    """Bottlenecks per residual layer; (3, 4, 23, 3) is ResNet-101."""
    width: Annotated[int, Bound(4, 65_536)] = 64
    """Channels of the stem; 64 is ResNet."""
    multi_level: bool = True
    """A second (aux) head on layer3."""
    aspp_branches: Literal[2, 4] = 4
    """Dilated convolutions summed by a head: 4 in ADVENT, ESL and BDL, 2 in AdaptSegNet and MaxSquare."""
    init: Literal["normal", "kaiming"] = "normal"
    """Distribution of the convolutions before a checkpoint is loaded: N(0, 0.01) as published, or Kaiming for training
    from nothing.
    """
    checkpoint: str = ""
    """Initial weights (ImageNet+COCO ResNet-101, or any lineage's checkpoint); empty starts from ``init``."""
    layout: str = "auto"
    """Lineage of ``checkpoint`` where its keys cannot tell: auto, advent, adaptsegnet, bdl, maxsquare,
    crst, resnet101.
    """
    bn: Literal["train", "frozen", "sync"] = "train"
    """Batch-norm statistics. The affine part is always frozen.

    train: of the batch, source and target each its own (as the papers; at one image a rank, of that image), running
    averages kept for evaluation. frozen: the running averages of the weights that a stage starts from, neither used up
    nor moved: N ranks then equal one process exactly. sync: as train, over the batch of all ranks: the statistics
    change with the number of ranks, and every layer waits for all (CUDA).
    """
    discriminator_width: PositiveInt = 64
    """Channels of the first discriminator convolution (ndf)."""
