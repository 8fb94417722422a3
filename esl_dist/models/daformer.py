"""DAFormer (Hoyer et al., CVPR 2022): a Mix Transformer and a decoder that fuses its four maps with context, under the
published key names.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from esl_dist.models.initial import normal, torchs_own
from esl_dist.models.mit import MixTransformer, Shape
from esl_dist.models.segmenter import Featured, Outputs
from esl_dist.models.stochastic import ChannelDropout, number_places

DILATIONS = (1, 6, 12, 18)
CHANNELS = 256
DROPOUT = 0.1
CLASSIFIER_SPREAD = 0.01


class DaFormer(nn.Module):
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
        if num_classes < 2:
            raise ValueError(f"DaFormer: needs 2 or more classes, not {num_classes}")
        self.num_classes, self.output_stride, self.feature_channels = num_classes, 4, shape.channels[-1]
        self.channels = channels
        self.backbone = MixTransformer(shape, drop_path, checkpointing)
        self.decode_head = Decoder(num_classes, shape.channels, channels, Pyramid)
        number_places(self)

    def forward(self, images: Tensor, features: bool = False) -> Outputs | Featured:
        """Images ``[N, 3, H, W]`` to logits ``[N, K, ceil(H/4), ceil(W/4)]``; with ``features`` also the encoder's last
        map (stride 32).
        """
        maps = self.encode(images)
        outputs = self.decode(maps)
        return Featured(outputs, maps[-1]) if features else outputs

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

    def forward_order(self) -> Iterator[nn.Parameter]:
        """The parameters as the forward comes to them."""
        yield from self.backbone.forward_order()
        yield from self.decode_head.parameters()


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
        size = maps[0].shape[2:]
        embedded = [embed(x) for embed, x in zip(self.embed_layers.values(), maps, strict=True)]
        resized = [embedded[0], *(F.interpolate(x, size, mode="bilinear", align_corners=False) for x in embedded[1:])]
        logits: Tensor = self.conv_seg(self.dropout(self.fuse_layer(torch.cat(resized, dim=1))))
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
