"""Margins of target images whose teacher labels are not trusted: rectified borders, the bonnet of the car.

Fractions of the side, rounded down. Published in pixels: v1 15 rows at the top and 120 at the bottom of the 512 x 512
*crop* (right only where the crop is as high as the image; DAFormer), v2 30, 240, 30, 30 of the 2048 x 1024 *original*
(HRDA, MIC); VFM-UDA 3, 25, 3 and 3 % of the original.
"""

from __future__ import annotations

from fractions import Fraction
from typing import NamedTuple

import torch
from torch import Tensor


class Margins(NamedTuple):
    """Fractions of an image's height (top, bottom) and width (left, right)."""

    top: Fraction
    bottom: Fraction
    left: Fraction
    right: Fraction


NONE = Margins(Fraction(0), Fraction(0), Fraction(0), Fraction(0))
OF_CROP = {"v1": Margins(Fraction(15, 512), Fraction(120, 512), Fraction(0), Fraction(0))}
OF_ORIGINAL = {
    "v2": Margins(Fraction(30, 1024), Fraction(240, 1024), Fraction(30, 2048), Fraction(30, 2048)),
    "vfm": Margins(Fraction(3, 100), Fraction(25, 100), Fraction(3, 100), Fraction(3, 100)),
}
SCHEMES = ("none", *OF_CROP, *OF_ORIGINAL)


def trusted(size_hw: tuple[int, int], margins: Margins) -> Tensor:
    """uint8 ``[H, W]``: 255 inside the margins, 0 in them: a pixel weight in 255ths that moves with the image."""
    height, width = size_hw
    mask = torch.zeros(size_hw, dtype=torch.uint8)
    top, left = int(margins.top * height), int(margins.left * width)
    mask[top : height - int(margins.bottom * height), left : width - int(margins.right * width)] = 255
    return mask
