"""DAFormer (Hoyer et al., CVPR 2022): a Mix Transformer and a decoder that fuses its four maps with context, under the
published key names.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from esl_dist.config.transformers import DaFormerConfig
from esl_dist.models.initial import normal, torchs_own
from esl_dist.models.mit import SHAPES, TINY, MixTransformer, Shape
from esl_dist.models.resize import resized
from esl_dist.models.segmenter import Outputs
from esl_dist.models.stochastic import ChannelDropout, number_places
from esl_dist.models.transformer import IMAGENET, Divided, check_classes

DILATIONS = (1, 6, 12, 18)
CHANNELS = 256
DROPOUT = 0.1
CLASSIFIER_SPREAD = 0.01


class DaFormer(Divided):
    """Logits at stride 4.

    Args:
        channels: of the decoder; 256 as published.
    """

    def __init__(
        self,
        num_classes: int,
        shape: Shape,
        drop_path: float = 0.1,
        checkpointing: bool = False,
        channels: int = CHANNELS,
    ) -> None:
        super().__init__()
        check_classes("DaFormer", num_classes)
        self.num_classes, self.output_stride, self.feature_channels = num_classes, 4, shape.channels[-1]
        self.channels, self.normalisation = channels, IMAGENET
        self.backbone = MixTransformer(shape, drop_path, checkpointing)
        self.decode_head = Decoder(num_classes, shape.channels, channels, Pyramid)
        self.draws = number_places(self)

    def encode(self, images: Tensor) -> tuple[Tensor, ...]:
        """The encoder's maps at strides 4, 8, 16 and 32."""
        return cast(tuple[Tensor, ...], self.backbone(images))

    def decode(self, maps: Sequence[Tensor]) -> Outputs:
        return Outputs(self.decode_head(maps), None)

    def attention_head(self) -> nn.Module:
        """HRDA's head for scale attention on this network's maps: the decoder with a 1x1 convolution in the place of
        its pyramid.
        """
        return Decoder(self.num_classes, self.backbone.shape.channels, self.channels, Fusion)

    def output_size(self, size_hw: tuple[int, int]) -> tuple[int, int]:
        """512 rows give 128."""
        return -(-size_hw[0] // 4), -(-size_hw[1] // 4)

    def feature_size(self, size_hw: tuple[int, int]) -> tuple[int, int]:
        """512 rows give 16."""
        h, w = self.output_size(size_hw)
        for _ in range(3):
            h, w = -(-h // 2), -(-w // 2)
        return h, w

    def depth_of(self, name: str) -> int | None:
        if not name.startswith("backbone."):
            return None
        part, _, rest = name.removeprefix("backbone.").partition(".")
        stage, depths = int(part[-1]) - 1, self.backbone.shape.depths
        block = {"b": int(rest.partition(".")[0]) if part[0] == "b" else 0, "p": 0, "n": depths[stage] - 1}[part[0]]
        after = sum(depths[stage:]) - block - 1
        return after + 1 if part == "patch_embed1" else after

    def forward_order(self) -> Iterator[nn.Parameter]:
        """The parameters as the forward comes to them."""
        yield from self.backbone.forward_order()
        yield from self.decode_head.parameters()

    def describe(self) -> str:
        name = next((name for name, shape in SHAPES.items() if shape == self.backbone.shape), "tiny")
        return f"DAFormer: MiT-{name.upper()}, decoder of {self.channels} channels"


class Decoder(nn.Module):
    """Every map to ``channels`` by a linear layer, resized to the first's size, concatenated and fused; channel
    dropout; a 1x1 convolution to classes.
    """

    def __init__(
        self, num_classes: int, channels_in: Sequence[int], channels: int, fusion: type[Pyramid] | type[Fusion]
    ) -> None:
        super().__init__()
        self.embed_layers = nn.ModuleDict({str(i): Embedding(c, channels) for i, c in enumerate(channels_in)})
        self.fuse_layer = fusion(len(channels_in) * channels, channels)
        self.dropout = ChannelDropout(DROPOUT)
        self.conv_seg = nn.Conv2d(channels, num_classes, 1)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        size = (maps[0].shape[2], maps[0].shape[3])
        embedded = [embed(x) for embed, x in zip(self.embed_layers.values(), maps, strict=True)]
        alike = [embedded[0], *(resized(x, size) for x in embedded[1:])]
        logits: Tensor = self.conv_seg(self.dropout(self.fuse_layer(torch.cat(alike, dim=1))))
        return logits

    def draw(self, generator: torch.Generator) -> None:
        normal(self.conv_seg.weight, CLASSIFIER_SPREAD, generator)
        nn.init.zeros_(cast(Tensor, self.conv_seg.bias))


class Embedding(nn.Module):
    """A linear layer over the channels of a map."""

    def __init__(self, channels_in: int, channels: int) -> None:
        super().__init__()
        self.proj = nn.Linear(channels_in, channels)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.proj(x.flatten(2).transpose(1, 2)).transpose(1, 2).unflatten(2, x.shape[2:])
        return out

    def draw(self, generator: torch.Generator) -> None:
        torchs_own(self.proj, generator)


class Fusion(nn.Module):
    """Convolution without bias, batch norm, ReLU."""

    def __init__(self, channels_in: int, channels: int, kernel: int = 1, dilation: int = 1, groups: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            channels_in,
            channels,
            kernel,
            padding=dilation * (kernel // 2),
            dilation=dilation,
            groups=groups,
            bias=False,
        )
        self.bn = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)))

    def draw(self, generator: torch.Generator) -> None:
        # Torch counts the fan-out of a depthwise convolution over all of its channels, and so did the published
        # training.
        nn.init.kaiming_normal_(self.conv.weight, mode="fan_out", nonlinearity="relu", generator=generator)


class Separable(nn.Module):
    """A dilated 3x3 depthwise and a 1x1 convolution, each with norm and ReLU."""

    def __init__(self, channels_in: int, channels: int, dilation: int) -> None:
        super().__init__()
        self.depthwise_conv = Fusion(channels_in, channels_in, 3, dilation, groups=channels_in)
        self.pointwise_conv = Fusion(channels_in, channels)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.pointwise_conv(self.depthwise_conv(x))
        return out


class Pyramid(nn.Module):
    """Atrous spatial pyramid without image pooling: a 1x1 branch and separable branches of dilation 6, 12 and 18, fused
    by a 3x3 convolution.
    """

    def __init__(self, channels_in: int, channels: int) -> None:
        super().__init__()
        first, *others = DILATIONS
        branches = [
            Fusion(channels_in, channels, dilation=first),
            *(Separable(channels_in, channels, d) for d in others),
        ]
        self.aspp_modules = nn.ModuleList(branches)
        self.bottleneck = Fusion(len(DILATIONS) * channels, channels, 3)

    def forward(self, x: Tensor) -> Tensor:
        fused: Tensor = self.bottleneck(torch.cat([branch(x) for branch in self.aspp_modules], dim=1))
        return fused


def build(options: DaFormerConfig, num_classes: int) -> DaFormer:
    """The network of ``model.daformer``."""
    shape = TINY if options.encoder == "tiny" else SHAPES[options.encoder]
    return DaFormer(num_classes, shape, options.drop_path, options.checkpointing, options.channels)
