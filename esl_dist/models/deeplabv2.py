"""DeepLab-v2 on a dilated ResNet, with one or two segmentation heads: the network of AdaptSegNet, ADVENT, BDL,
MaxSquare and ESL.

Chen et al., "DeepLab: Semantic Image Segmentation with Deep Convolutional Nets, Atrous Convolution, and Fully Connected
CRFs" (TPAMI 2018), in the multi-level form of Tsai et al., "Learning to Adapt Structured Output Space" (CVPR 2018).
State-dict keys are the lineage's.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from esl_dist import kernels
from esl_dist.config.model import DeepLabV2Config
from esl_dist.models.batch_norm import norm_add_relu, norm_relu, plain_norm
from esl_dist.models.normalisation import Normalisation
from esl_dist.models.segmenter import Featured, Outputs, ParameterGroup, Segmenter, grouped
from esl_dist.models.taps import shifted_sum

DILATIONS = (6, 12, 18, 24)
EXPANSION = 4
HEADS = ("layer5", "layer6")
CAFFE_MEAN = (104.00698793, 116.66876762, 122.67891434)
"""Of ImageNet, B, G, R, as the ResNets of Caffe subtract it."""


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 with a shortcut. The stride sits in the first 1x1 (Caffe's ResNet), not in the 3x3
    (torchvision's).
    """

    def __init__(self, channels_in: int, planes: int, stride: int, dilation: int, project: bool) -> None:
        super().__init__()
        channels_out = planes * EXPANSION
        self.conv1 = nn.Conv2d(channels_in, planes, 1, stride, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, padding=dilation, dilation=dilation, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.conv3 = nn.Conv2d(planes, channels_out, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(channels_out)
        self.downsample: nn.Sequential | None = None
        if project:
            self.downsample = nn.Sequential(
                nn.Conv2d(channels_in, channels_out, 1, stride, bias=False), nn.BatchNorm2d(channels_out)
            )

    def forward(self, x: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """An activation for its two users, branch and shortcut, to the next (``norm_add_relu`` says why there are
        two).
        """
        branch, shortcut = x
        if self.downsample is not None:
            project, norm = self.downsample
            shortcut = plain_norm(norm, project(shortcut))
        out = norm_relu(self.bn1, self.conv1(branch))
        out = norm_relu(self.bn2, self.conv2(out))
        return norm_add_relu(self.bn3, self.conv3(out), shortcut)


class Head(nn.Module):
    """Atrous spatial pyramid: the sum of ``branches`` 3x3 convolutions with dilation 6, 12, 18, 24.

    AdaptSegNet and MaxSquare publish four branches and sum two. Convolutions that no output reaches would stop DDP, so
    a network of two branches registers two.
    """

    plain: bool = False
    """Sum the convolutions as they stand, the same for every size: what public code and an exported graph compute."""

    def __init__(self, channels_in: int, num_classes: int, branches: int) -> None:
        super().__init__()
        self.conv2d_list = nn.ModuleList(
            nn.Conv2d(channels_in, num_classes, 3, padding=d, dilation=d) for d in DILATIONS[:branches]
        )

    def forward(self, x: Tensor) -> Tensor:
        if not self.plain and x.shape[2] > DILATIONS[len(self.conv2d_list) - 1]:
            return self._product(x)
        total, *others = (branch(x) if self.plain else _atrous(branch, x) for branch in self.conv2d_list)
        for other in others:
            total = total + other
        return total

    def _product(self, x: Tensor) -> Tensor:
        """The same sum as one matrix product, every tap of every branch a row, whose maps are then shifted by their
        taps and added, in float32.

        Dilated convolutions with as few outputs as there are classes use neither a CPU's nor a GPU's units well, least
        of all backward.
        """
        n, channels, h, w = x.shape
        branches = [branch for branch in self.conv2d_list if isinstance(branch, nn.Conv2d)]
        biases = [branch.bias for branch in branches if branch.bias is not None]
        # A tap moves its map against its own direction, hence the flip.
        weight = torch.cat([branch.weight.flip(2, 3).permute(0, 2, 3, 1).reshape(-1, channels) for branch in branches])
        taps = weight @ x.permute(0, 2, 3, 1).reshape(n, h * w, channels).transpose(1, 2)
        if kernels.active("heads", taps):
            return shifted_sum(taps, torch.stack(biases), (h, w), DILATIONS[0])
        maps = (taps if taps.dtype == torch.float64 else taps.float()).chunk(len(branches), dim=1)
        total = maps[0].new_zeros(())
        for branch, bias, part in zip(branches, biases, maps, strict=True):
            shifted = F.fold(part, (h, w), 3, dilation=branch.dilation, padding=branch.dilation[0])
            total = total + shifted + bias.view(1, -1, 1, 1)
        return total


def _atrous(branch: nn.Module, x: Tensor) -> Tensor:
    """``branch(x)``. Where its dilation reaches beyond the rows of a low map, only the middle row of taps meets any of
    it.

    The other six taps would multiply padding, which is an eighth of a step of the embedded pair on a CPU.
    """
    assert isinstance(branch, nn.Conv2d)
    dilation = branch.dilation[0]
    if dilation < x.shape[2]:
        out: Tensor = branch(x)
        return out
    return F.conv2d(x, branch.weight[:, :, 1:2], branch.bias, padding=(0, dilation), dilation=(1, dilation))


class DeepLabV2(Segmenter):
    """Dilated ResNet with output stride 8 and one or two heads.

    Weights are left as torch draws them; ``esl_dist.models.build_segmenter`` makes them a function of a seed.

    Args:
        num_classes: channels of the logits.
        layers: bottlenecks per residual layer; (3, 4, 23, 3) is ResNet-101.
        multi_level: add the aux head on layer3.
        aspp_branches: dilated convolutions summed by a head: 4 in ADVENT, ESL and BDL, 2 in AdaptSegNet and MaxSquare.
        width: channels of the stem and the first bottleneck; 64 is ResNet. Everything else scales with it.
        train_affine: batch norm's gain and shift are trained, the stem's aside (MaxSquare); False: all are frozen, as
            in the other published versions.
    """

    output_stride = 8
    normalisation = Normalisation("bgr", CAFFE_MEAN)

    def __init__(
        self,
        num_classes: int,
        layers: tuple[int, int, int, int] = (3, 4, 23, 3),
        multi_level: bool = True,
        aspp_branches: int = 4,
        width: int = 64,
        train_affine: bool = False,
    ) -> None:
        super().__init__()
        if num_classes < 2 or aspp_branches not in (2, 4) or len(layers) != 4:
            raise ValueError(
                f"DeepLabV2: needs 2 or more classes, 4 layers and 2 or 4 ASPP branches, not {num_classes},"
                f" {tuple(layers)} and {aspp_branches}"
            )
        self.num_classes, self.layers, self.multi_level, self.aspp_branches, self.width = (
            num_classes,
            tuple(layers),
            multi_level,
            aspp_branches,
            width,
        )
        self.feature_channels = width * 8 * EXPANSION
        self.conv1 = nn.Conv2d(3, width, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.layer1 = _layer(width, width, layers[0], stride=1, dilation=1)
        self.layer2 = _layer(width * 4, width * 2, layers[1], stride=2, dilation=1)
        self.layer3 = _layer(width * 8, width * 4, layers[2], stride=1, dilation=2)
        self.layer4 = _layer(width * 16, width * 8, layers[3], stride=1, dilation=4)
        self.layer5 = Head(width * 16, num_classes, aspp_branches) if multi_level else None
        self.layer6 = Head(width * 32, num_classes, aspp_branches)
        for norm in self.norms():
            norm.requires_grad_(train_affine and norm is not self.bn1)

    def forward(self, x: Tensor, features: bool = False) -> Outputs | Featured:
        """Images ``[N, 3, H, W]`` (B G R, 0-255, mean subtracted) to logits at output stride 8 (512x1024 gives 65x129):
        the head on layer4, and the one on layer3. Features are layer4's output.
        """
        x = norm_relu(self.bn1, self.conv1(x))
        x = F.max_pool2d(x, 3, stride=2, padding=1, ceil_mode=True)
        branch, shortcut = self.layer3(self.layer2(self.layer1((x, x))))
        aux = self.layer5(shortcut) if self.layer5 is not None else None
        x, _ = self.layer4((branch, shortcut))
        outputs = Outputs(self.layer6(x), aux)
        return Featured(outputs, x) if features else outputs

    def output_size(self, size_hw: tuple[int, int]) -> tuple[int, int]:
        """512 rows give 65."""
        rows, columns = (((n - 1) // 2 + 1) // 4 + 1 for n in size_hw)
        return rows, columns

    def parameter_groups(self) -> list[ParameterGroup]:
        """The backbone, and the heads that learn faster; with the multiplicities of the public code."""
        backbone, heads = grouped(self, *HEADS)
        return [
            ParameterGroup(
                "backbone", tuple(backbone), multiplicity=tuple(published_multiplicity(n) for n, _ in backbone)
            ),
            ParameterGroup("heads", tuple(heads), head=True, multiplicity=(1,) * len(heads)),
        ]

    def forward_order(self) -> Iterator[nn.Parameter]:
        """The parameters as the forward comes to them: the aux head before the last residual layer."""
        for module in (
            self.conv1,
            self.bn1,
            self.layer1,
            self.layer2,
            self.layer3,
            self.layer5,
            self.layer4,
            self.layer6,
        ):
            if module is not None:
                yield from module.parameters()

    def aux_parameters(self) -> list[nn.Parameter]:
        return [] if self.layer5 is None else list(self.layer5.parameters())

    def describe(self) -> str:
        heads = "two heads" if self.multi_level else "one head"
        layers = "-".join(map(str, self.layers))
        return f"DeepLab-v2, layers {layers}, width {self.width}, {heads} of {self.aspp_branches} branches"

    def plainly(self) -> Self:
        for head in (self.layer5, self.layer6):
            if head is not None:
                head.plain = True
        return self

    @torch.no_grad()
    def initialise(self, seed: int, how: str) -> None:
        """``normal``: convolutions of the backbone are N(0, 0.01) as published (then a checkpoint is loaded);
        ``kaiming``: He et al.'s by fan-out, for training from nothing. Heads are N(0, 0.01) with torch's usual bias
        either way.
        """
        generator = torch.Generator().manual_seed(seed)
        for name, module in self.named_modules():
            if isinstance(module, _BatchNorm):
                module.reset_parameters()
            elif isinstance(module, nn.Conv2d):
                if how == "kaiming" and not name.startswith(HEADS):
                    nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu", generator=generator)
                else:
                    nn.init.normal_(module.weight, 0.0, 0.01, generator=generator)
                if module.bias is not None:
                    bound = (module.weight[0].numel()) ** -0.5
                    nn.init.uniform_(module.bias, -bound, bound, generator=generator)


def build(options: DeepLabV2Config, num_classes: int) -> DeepLabV2:
    """The network of ``model.deeplabv2``."""
    return DeepLabV2(
        num_classes, options.layers, options.multi_level, options.aspp_branches, options.width, options.train_affine
    )


def published_multiplicity(name: str) -> int:
    """How many times the public code lists parameter ``name`` in its SGD group: 4 for a projection, 3 within a
    bottleneck, 1 elsewhere.

    It walks the modules of every residual layer and lists each module's parameters recursively, so a tensor appears
    once per enclosing module below the layer. Torch 0.4.1, which the authors ran, updated a tensor once per entry.
    """
    if name.startswith(HEADS) or not name.startswith("layer"):
        return 1
    return 4 if ".downsample." in name else 3


def _layer(channels_in: int, planes: int, blocks: int, stride: int, dilation: int) -> nn.Sequential:
    first = Bottleneck(channels_in, planes, stride, dilation, project=True)
    rest = (Bottleneck(planes * EXPANSION, planes, 1, dilation, project=False) for _ in range(blocks - 1))
    return nn.Sequential(first, *rest)
