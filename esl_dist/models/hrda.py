"""HRDA's multi-resolution form of a segmenter (Hoyer et al., ECCV 2022): the whole image at half size, a quarter of it
at full size, fused by attention.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from esl_dist.models import stochastic
from esl_dist.models.boxes import Box, DrawnBox
from esl_dist.models.initial import initialise
from esl_dist.models.resize import Size, resized
from esl_dist.models.segmenter import Featured, Outputs, ParameterGroup, Segmenter
from esl_dist.models.transformer import Divided
from esl_dist.models.vfm import LightHead

UNIT = 64
"""What sides of images are multiples of."""


class MultiResolution(NamedTuple):
    """Fused logits of the whole image; while training also the detail's own logits, which have a loss of their own, and
    where the detail lies.
    """

    main: Tensor
    aux: None
    detail: Tensor | None
    box: Box | DrawnBox | None


class Hrda(Segmenter):
    """A segmenter seen at two resolutions: one encoder and one decoder for both, and a head on the context's features
    for the scale attention.

    Images whose sides are no multiples of 64 are resized to them; crops and windows are such already.

    Args:
        published_box: never let a detail touch the right or lower border, as the published code, whose draw leaves the
            last corner out.
    """

    multi_level = False
    draws = True

    def __init__(self, segmenter: Segmenter, published_box: bool = False) -> None:
        super().__init__()
        assert not segmenter.multi_level, "the logits of one head are fused"
        self.segmenter = segmenter if isinstance(segmenter, Divided) else Whole(segmenter)
        self.num_classes, self.feature_channels = segmenter.num_classes, segmenter.feature_channels
        self.output_stride, self.normalisation = segmenter.output_stride, segmenter.normalisation
        self.published_box = published_box
        self.attention = self.segmenter.attention_head()
        stochastic.number_places(self)

    def forward(self, images: Tensor, features: bool = False, box: Box | None = None) -> Outputs | Featured:
        """Images ``[N, 3, H, W]`` to ``MultiResolution``, whose ``main`` are logits on the detail's grid and which
        stands for ``Outputs`` everywhere; with ``features`` also the context's last encoder map.

        Args:
            box: where the detail lies, its corner at multiples of ``box_step``. None: drawn while training; nine
                details, averaged where they overlap, in eval mode and in a pass that draws nothing.
        """
        if self.training and images.shape[2:] != fitted_size(images.shape, UNIT):
            raise ValueError(
                f"model.hrda: trains on sides that are multiples of {UNIT}, not {images.shape[3]}x{images.shape[2]};"
                " set the domains' size or teacher.crop.size to such"
            )
        images = fitted(images, UNIT)
        size = h, w = images.shape[2], images.shape[3]
        maps = self._encode(resized(images, (h // 2, w // 2)))
        context = self._decode(maps)
        grid = (context.shape[2], context.shape[3])
        attention = torch.sigmoid(self.attention(maps))
        if box is None and stochastic.draws_nothing(self):
            boxes = [Box(i * h // 4, j * w // 4, h // 2, w // 2) for i in range(3) for j in range(3)]
            details = self._decode(self._encode(torch.cat([part.of(images) for part in boxes]))).unflatten(
                0, (len(boxes), -1)
            )
            whole = averaged(details, [part.scaled(size, (2 * grid[0], 2 * grid[1])) for part in boxes])
            fused, detail, near = fuse(context, attention, whole), None, None
        else:
            near = box or draw_box(size, box_step(size, grid), self.published_box, images.device)
            with stochastic.another_pass(1):
                detail = self._decode(self._encode(near.of(images).contiguous()))
            fine = (2 * grid[0], 2 * grid[1])
            # There is no detail to attend to outside.
            fused = fuse(
                context, near.scaled(size, grid).within(attention), near.scaled(size, fine).placed(detail, fine)
            )
        out = cast(Outputs, MultiResolution(fused, None, detail, near))
        return Featured(out, maps[-1]) if features else out

    def features_of(self, images: Tensor) -> Tensor:
        """The context's last encoder map; no detail is looked at."""
        images = fitted(images, UNIT)
        return self._encode(resized(images, (images.shape[2] // 2, images.shape[3] // 2)))[-1]

    def initialise(self, seed: int, how: str) -> None:
        """The segmenter as it is alone; the attention from a seed of its own."""
        self.segmenter.initialise(seed, how)
        initialise(self.attention, 2 * seed + 1)

    def output_size(self, size_hw: tuple[int, int]) -> tuple[int, int]:
        """Twice the context's: that of the segmenter on the whole image, where sides are multiples of ``UNIT``."""
        h, w = fitted_size(size_hw, UNIT)
        rows, columns = self.segmenter.output_size((h // 2, w // 2))
        return 2 * rows, 2 * columns

    def feature_size(self, size_hw: tuple[int, int]) -> tuple[int, int]:
        """The context's."""
        h, w = fitted_size(size_hw, UNIT)
        return self.segmenter.feature_size((h // 2, w // 2))

    def parameter_groups(self) -> list[ParameterGroup]:
        """The segmenter's, and the attention with its decoder."""
        found = [
            dataclasses.replace(group, parameters=tuple((f"segmenter.{name}", p) for name, p in group.parameters))
            for group in self.segmenter.parameter_groups()
        ]
        own = tuple((f"attention.{name}", p) for name, p in self.attention.named_parameters())
        return [*found, ParameterGroup("attention", own, head=True)]

    def forward_order(self) -> Iterator[nn.Parameter]:
        """The parameters as the forward comes to them."""
        yield from self.segmenter.forward_order()
        yield from self.attention.parameters()

    def aux_parameters(self) -> list[nn.Parameter]:
        return []

    def describe(self) -> str:
        return f"{self.segmenter.describe()}, at two resolutions (HRDA)"

    def _encode(self, images: Tensor) -> tuple[Tensor, ...]:
        return self.segmenter.encode(images)

    def _decode(self, maps: Sequence[Tensor]) -> Tensor:
        return self.segmenter.decode(maps).main


class Whole(Divided):
    """Any segmenter of one head, taken as an encoder whose last map already holds the logits, at stride 8.

    Networks whose grid has a cell more than the image has strides (DeepLab-v2: 33 for 256) are resized to the image's.
    """

    def __init__(self, segmenter: Segmenter) -> None:
        super().__init__()
        self.inner = segmenter
        self.num_classes, self.feature_channels = segmenter.num_classes, segmenter.feature_channels
        self.output_stride, self.normalisation = segmenter.output_stride, segmenter.normalisation

    def encode(self, images: Tensor) -> tuple[Tensor, ...]:
        """Logits and features."""
        outputs, features = self.inner(images, features=True)
        size = self.output_size((images.shape[2], images.shape[3]))
        return resized(outputs.main, size), resized(features, size)

    def decode(self, maps: Sequence[Tensor]) -> Outputs:
        return Outputs(maps[0], None)

    def attention_head(self) -> nn.Module:
        return LightHead(self.feature_channels, self.num_classes, finer=1)

    def output_size(self, size_hw: tuple[int, int]) -> tuple[int, int]:
        return size_hw[0] // self.output_stride, size_hw[1] // self.output_stride

    def initialise(self, seed: int, how: str) -> None:
        self.inner.initialise(seed, how)

    def depth_of(self, name: str) -> int | None:
        raise NotImplementedError("groups are the inner network's own")

    def parameter_groups(self) -> list[ParameterGroup]:
        return [
            dataclasses.replace(group, parameters=tuple((f"inner.{name}", p) for name, p in group.parameters))
            for group in self.inner.parameter_groups()
        ]

    def forward_order(self) -> Iterator[nn.Parameter]:
        return self.inner.forward_order()

    def describe(self) -> str:
        return self.inner.describe()


def fitted_size(size: Sequence[int], unit: int) -> Size:
    """The nearest multiples of ``unit``, at least one."""
    h, w = (max(unit, round(side / unit) * unit) for side in size[-2:])
    return h, w


def fitted(images: Tensor, unit: int) -> Tensor:
    """Images ``[N, 3, H, W]`` whose sides are multiples of ``unit``: themselves, or resized to the nearest ones."""
    return resized(images, fitted_size(images.shape, unit))


def box_step(size: Size, grid: Size) -> Size:
    """What corners of a detail are multiples of, in pixels, so that it begins between cells of the context's ``grid``:
    8 for 1024 pixels and 128 cells.
    """
    return size[0] // math.gcd(size[0], grid[0]), size[1] // math.gcd(size[1], grid[1])


def draw_box(size: Size, step: Size, published: bool = False, device: torch.device | str = "cpu") -> DrawnBox:
    """A quarter of an image of ``size``, its corner anywhere at multiples of ``step``: a function of the pass's
    ``common`` number where one was given.

    Args:
        published: leave the last corner of each axis out.
        device: of the images.
    """
    draws = stochastic.current()
    common = draws.common if draws is not None else torch.randint(1 << 62, (1,), device=device)
    corners = []
    for number, side, unit in zip(stochastic.uniform(common, 0, 2)[0].split(1), size, step, strict=True):
        places = side // 2 // unit + (0 if published and side // 2 >= unit else 1)
        corners.append((number * places).long() * unit)
    return DrawnBox(corners[0], corners[1], size[0] // 2, size[1] // 2)


def averaged(parts: Tensor, boxes: Sequence[Box]) -> Tensor:
    """Parts ``[P, N, K, h, w]`` at their places in a map twice as large, averaged where they overlap."""
    size = (2 * parts.shape[-2], 2 * parts.shape[-1])
    total = sum(box.placed(part, size) for part, box in zip(parts, boxes, strict=True))
    count = sum(box.placed(torch.ones_like(parts[0, :1, :1]), size) for box in boxes)
    return cast(Tensor, total / count)


def fuse(context: Tensor, attention: Tensor, detail: Tensor) -> Tensor:
    """``up(a) * detail + up((1 - a) * context)``, up: bilinear to twice the size.

    Args:
        context: logits ``[N, K, h, w]`` of the image at half size.
        attention: ``[N, K, h, w]`` in 0-1, zero where there is no detail.
        detail: logits ``[N, K, 2h, 2w]``, zero where there is none.
    """
    coarse = (1 - attention) * context
    size = (2 * context.shape[2], 2 * context.shape[3])
    return resized(attention, size) * detail + resized(coarse, size)
