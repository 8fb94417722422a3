"""What happens to an image between the file and the network. Resizing and augmentation are on uint8 and exact: the same
bytes everywhere.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from esl_dist.data.decode import DataError
from esl_dist.data.sampler import uniform

MAX_SIGMA = 1.0
"""Blur strength is uniform in [0, MAX_SIGMA) pixels, as in MaxSquare."""

Fit = Literal["stretch", "pad", "width"]
"""How an image meets a size of another shape: stretched; kept in shape and filled up at the right or the bottom; or
scaled to the width alone.
"""

_STRIDE = 8
"""Output stride of the network: padding begins on its grid, so that logits can be cut where the image ends."""

_ONE = 1 << 11  # a blur kernel's sum; 255 * _ONE**2 still fits int32


def resize_image(image: NDArray[np.uint8], size: tuple[int, int]) -> Tensor:
    """Bicubic with antialiasing, within a grey level or two of Pillow's.

    Args:
        image: uint8 RGB ``[H, W, 3]``.
        size: width and height wanted.

    Returns:
        uint8 RGB ``[3, H', W']``, contiguous.
    """
    width, height = size
    pixels = torch.from_numpy(image).permute(2, 0, 1)
    if image.shape[:2] != (height, width):
        pixels = F.interpolate(pixels[None], size=(height, width), mode="bicubic", antialias=True, align_corners=False)[
            0
        ]
    return pixels.clone(memory_format=torch.contiguous_format)


def resize_label(label: NDArray[np.uint8], size: tuple[int, int]) -> Tensor:
    """Nearest neighbour, by Pillow itself: uint8 ``[H, W]`` to uint8 ``[H', W']`` for a wanted (width, height)."""
    if label.shape == (size[1], size[0]):
        return torch.from_numpy(label.copy())
    return torch.from_numpy(np.array(Image.fromarray(label).resize(size, Image.Resampling.NEAREST)))


def content_size(native: tuple[int, int], size: tuple[int, int], fit: Fit) -> tuple[int, int]:
    """Width and height that an image of ``native`` (width, height) takes of the canvas ``size``.

    Padding keeps the image's shape to within half an output stride: a side that does not fill the canvas is a multiple
    of 8 pixels.
    """
    if fit == "stretch":
        return size
    if fit == "width":
        return size[0], max(1, round(native[1] * size[0] / native[0]))
    scale = min(size[0] / native[0], size[1] / native[1])
    width, height = (
        min(side, max(_STRIDE, _STRIDE * round(scale * n / _STRIDE))) for n, side in zip(native, size, strict=True)
    )
    return (size[0], height) if scale == size[0] / native[0] else (width, size[1])


def fit_image(image: NDArray[np.uint8], size: tuple[int, int], fit: Fit) -> Tensor:
    """As ``resize_image``, the content at the top left of a canvas of ``size``, the rest black (0); no canvas where the
    width alone counts.
    """
    height, width = image.shape[:2]
    content = resize_image(image, content_size((width, height), size, fit))
    return content if fit == "width" else on_canvas(content, size, 0)


def fit_label(label: NDArray[np.uint8], size: tuple[int, int], fit: Fit) -> Tensor:
    """As ``resize_label``, the content at the top left of a canvas of ``size``, the rest 255 (ignored)."""
    height, width = label.shape
    return on_canvas(resize_label(label, content_size((width, height), size, fit)), size, 255)


def on_canvas(content: Tensor, size: tuple[int, int], fill: int) -> Tensor:
    """``[..., h, w]`` at the top left of ``[..., H, W]`` of ``size`` (width, height), the rest ``fill``."""
    height, width = content.shape[-2:]
    if (width, height) == size:
        return content
    canvas = content.new_full((*content.shape[:-2], size[1], size[0]), fill)
    canvas[..., :height, :width] = content
    return canvas


def cut_padding(logits: Tensor, native: tuple[int, int], size: tuple[int, int], fit: Fit) -> Tensor:
    """The part of ``[..., h, w]`` logits of a canvas of ``size`` that looks at the image of ``native`` (width, height),
    not at its padding.

    Upsampled with ``align_corners=True``, its corners fall on the image's corners to within a pixel of the canvas.
    """
    width, height = content_size(native, size, fit)
    rows, columns = (
        round((n - 1) * (cells - 1) / (side - 1)) + 1
        for n, side, cells in ((height, size[1], logits.shape[-2]), (width, size[0], logits.shape[-1]))
    )
    return logits[..., :rows, :columns]


def augment(
    image: Tensor, label: Tensor | None, *, seed: int, position: int, mirror: float, blur: float
) -> tuple[Tensor, Tensor | None]:
    """Mirror image and label with probability ``mirror``, blur the image with probability ``blur``: a pure function of
    its arguments.

    Args:
        image: uint8 ``[3, H, W]``.
        label: uint8 ``[..., H, W]``, or None.
        seed, position: of the stream (see ``sampler``); a position's draws do not depend on which augmentations are on.

    Returns:
        The two, new where changed. Blur is Gaussian, sigma uniform in [0, 1) pixels.
    """
    if uniform(seed, position, 0) < mirror:
        image = image.flip(-1)
        label = None if label is None else label.flip(-1)
    if uniform(seed, position, 1) < blur:
        image = gaussian_blur(image, MAX_SIGMA * uniform(seed, position, 2))
    return image, label


def random_crop(image: Tensor, side: int, *, seed: int, position: int) -> Tensor:
    """A square of ``side`` pixels out of ``[3, H, W]``, anywhere alike: a pure function of its arguments.

    Raises:
        DataError: the image is smaller.
    """
    height, width = image.shape[-2:]
    if min(height, width) < side:
        raise DataError(
            f"an image scaled to {width}x{height} has no crop of {side}x{side}; set a smaller translate.crop or a"
            " larger translate.load"
        )
    top, left = (int(uniform(seed, position, draw) * (length - side + 1)) for draw, length in ((3, height), (4, width)))
    return image[..., top : top + side, left : left + side].contiguous()


def gaussian_blur(image: Tensor, sigma: float) -> Tensor:
    """Blur uint8 ``[3, H, W]`` by ``sigma`` pixels, edges repeated. Integer arithmetic, rounded once: no machine rounds
    otherwise.
    """
    radius = min(math.ceil(3 * sigma), image.shape[-1] - 1, image.shape[-2] - 1)
    if radius <= 0:
        return image
    bell = [math.exp(-0.5 * (k / sigma) ** 2) for k in range(radius + 1)]
    total = bell[0] + 2 * sum(bell[1:])
    side = [round(_ONE * b / total) for b in bell[1:]]
    weights = [*reversed(side), _ONE - 2 * sum(side), *side]
    padded = F.pad(image.float(), (radius,) * 4, mode="replicate").to(torch.int32)  # exact: integers below 256
    height, width = image.shape[-2:]
    across = torch.zeros_like(padded[..., :width])
    for k, weight in enumerate(weights):
        across.add_(padded[..., k : k + width], alpha=weight)
    down = torch.full_like(across[:, :height], _ONE * _ONE // 2)
    for k, weight in enumerate(weights):
        down.add_(across[:, k : k + height], alpha=weight)
    return (down >> 22).to(torch.uint8)
