"""Colour jitter and blur of what the student sees, in plain torch, drawn from (seed, step, position).

Two libraries' meanings of the same four words: ``blend`` is torchvision's (brightness multiplies, contrast blends with
the mean grey, saturation with the pixel's grey), as VFM-UDA uses it; ``shift`` is kornia 0.5's (brightness adds,
contrast multiplies, saturation multiplies that of HSV), as DACS and DAFormer use it. Hue turns the same circle in both.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from esl_dist.data.sampler import uniform
from esl_dist.methods.teacher.draws import between, stream

GREY = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in a pixel's grey."""
_REACH = 6
"""Standard deviations at which a blur's kernel ends at the latest: what is beyond is under float32's resolution."""


@dataclass(frozen=True)
class Photometric:
    """An augmentation: with probability ``jitter`` each of the four by a factor within its amplitude, then perhaps a
    blur.
    """

    jitter: float
    """Probability of the colour jitter."""
    amplitude: tuple[float, float, float, float]
    """Of brightness, contrast and saturation (a factor in 1 ± a) and of hue (± a of the circle)."""
    blur: float
    """Probability of the blur."""
    sigma: tuple[float, float] = (0.15, 1.15)
    """Range of its standard deviation in pixels."""
    grey: float = 0.0
    """Probability of losing all colour."""
    colours: Literal["shift", "blend"] = "shift"
    together: bool = True
    """One decision per step for all images (DACS), or one per image (VFM-UDA); factors are each image's own
    either way.
    """


DACS = Photometric(jitter=0.8, amplitude=(0.2, 0.2, 0.2, 0.2), blur=0.5)
VFM_UDA = Photometric(0.8, (0.2, 0.2, 0.2, 0.2), 0.5, colours="blend", together=False)
VFM_WEAK = Photometric(0.9, (32 / 255, 0.5, 0.5, 18 / 360), 0.0, colours="blend", together=False)
VFM_STRONG = Photometric(0.8, (0.8, 0.8, 0.8, 0.4), 0.5, (0.15, 3.0), 0.1, "blend", together=False)


class Look(NamedTuple):
    """What is done to one image."""

    jitter: tuple[tuple[str, float], ...]
    """(``brightness`` …, factor) in the order in which they are applied; empty for none."""
    grey: bool
    sigma: float
    """Of the blur, pixels; 0 for none."""


def look(setting: Photometric, seed: int, step: int, position: int) -> Look:
    """The draw of the image at ``position`` in ``step``: a pure function of its arguments.

    Args:
        seed: of this pass (``draws.stream``).
    """
    deciding, number = (stream(seed, "step"), step) if setting.together else (seed, position)
    names = ("brightness", "contrast", "saturation", "hue")
    jitter: tuple[tuple[str, float], ...] = ()
    if uniform(deciding, number, 0) < setting.jitter:
        centres = (1.0, 1.0, 1.0, 0.0)
        factors = {
            name: between(max(centre - a, 0.0) if centre else -a, centre + a, seed, position, 8 + i)
            for i, (name, centre, a) in enumerate(zip(names, centres, setting.amplitude, strict=True))
        }
        order = sorted(names, key=lambda name: uniform(seed, position, 16 + names.index(name)))
        jitter = tuple((name, factors[name]) for name in order)
    blurred = uniform(deciding, number, 1) < setting.blur
    grey = uniform(deciding, number, 2) < setting.grey
    return Look(jitter, grey, between(*setting.sigma, seed, position, 24) if blurred else 0.0)


def augmented(images: Tensor, looks: Sequence[Look], colours: str) -> Tensor:
    """Images ``[n, 3, H, W]``, RGB in [0, 1], each with its look; float32, new."""
    return torch.stack([_one(image, own, colours) for image, own in zip(images.float(), looks, strict=True)])


def _one(image: Tensor, own: Look, colours: str) -> Tensor:
    operations = SHIFT if colours == "shift" else BLEND
    for name, factor in own.jitter:
        image = operations[name](image, factor).clamp(0, 1)
    if own.grey:
        image = _grey(image).expand_as(image)
    return blur(image, own.sigma) if own.sigma else image


def _grey(image: Tensor) -> Tensor:
    return (GREY[0] * image[0] + GREY[1] * image[1] + GREY[2] * image[2])[None]


def turn_hue(image: Tensor, turns: float) -> Tensor:
    """Hue moved by ``turns`` of the circle; saturation and value stay."""
    hue, saturation, value = hsv(image)
    return rgb((hue + turns) % 1, saturation, value)


def _scale_saturation(image: Tensor, factor: float) -> Tensor:
    hue, saturation, value = hsv(image)
    return rgb(hue, (saturation * factor).clamp(0, 1), value)


def _toward(image: Tensor, other: Tensor, factor: float) -> Tensor:
    return factor * image + (1 - factor) * other


_Operation = Callable[[Tensor, float], Tensor]
SHIFT: dict[str, _Operation] = {
    "brightness": lambda image, factor: image + (factor - 1),
    "contrast": lambda image, factor: image * factor,
    "saturation": _scale_saturation,
    "hue": turn_hue,
}
BLEND: dict[str, _Operation] = {
    "brightness": lambda image, factor: image * factor,
    "contrast": lambda image, factor: _toward(image, _grey(image).mean(), factor),
    "saturation": lambda image, factor: _toward(image, _grey(image), factor),
    "hue": turn_hue,
}


def hsv(image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """RGB ``[3, H, W]`` in [0, 1] to hue, saturation and value ``[H, W]``, each in [0, 1]; a grey pixel has hue 0."""
    red, green, blue = image
    value, strongest = image.max(dim=0)
    chroma = value - image.amin(dim=0)
    safe = torch.where(chroma > 0, chroma, 1)
    sector = torch.stack([(green - blue) / safe, (blue - red) / safe + 2, (red - green) / safe + 4])
    hue = sector.gather(0, strongest[None])[0] / 6 % 1
    return hue, chroma / torch.where(value > 0, value, 1), value


def rgb(hue: Tensor, saturation: Tensor, value: Tensor) -> Tensor:
    """The inverse of ``hsv``: ``[3, H, W]``."""
    channels = []
    for offset in (5, 3, 1):
        k = (hue * 6 + offset) % 6
        channels.append(value - value * saturation * torch.minimum(k, 4 - k).clamp(0, 1))
    return torch.stack(channels)


def kernel_side(side: int) -> int:
    """Taps of the published blur on an image of a given side: the largest odd number not above ``ceil(side / 10)``."""
    longest = math.ceil(0.1 * side)
    return max(longest - 1 + longest % 2, 1)


def blur(image: Tensor, sigma: float) -> Tensor:
    """Gaussian of ``sigma`` pixels on ``[3, H, W]``, borders mirrored, rows first; sums in a fixed order on
    any device.
    """
    height, width = image.shape[1:]
    for axis, side in ((2, width), (1, height)):
        radius = min(kernel_side(side) // 2, math.ceil(_REACH * sigma), side - 1)
        if radius == 0:
            continue
        bell = [math.exp(-0.5 * (k / sigma) ** 2) for k in range(-radius, radius + 1)]
        pad = (radius, radius, 0, 0) if axis == 2 else (0, 0, radius, radius)
        padded = F.pad(image, pad, mode="reflect")
        total = torch.zeros_like(image)
        for k, weight in enumerate(bell):
            total.add_(padded.narrow(axis, k, side), alpha=weight / sum(bell))
        image = total
    return image
