"""Random crops of labelled images, drawn again while they are poor: a pure function of (seed, position).

A crop is poor where one class covers nearly all of it, or - in rare-class sampling - where it has too little of the
class that the image was drawn for. The number of draws is bounded; the last is taken as it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from esl_dist.data.decode import DataError
from esl_dist.data.sampler import uniform

IGNORED = 255
_FIRST = 64
"""Numbers of these draws at a position begin here: two for each attempt."""


class Window(NamedTuple):
    """A crop: rows and columns of an image."""

    top: int
    left: int
    height: int
    width: int

    def of(self, image: Tensor) -> Tensor:
        """Of ``[..., H, W]``, contiguous."""
        cut = image[..., self.top : self.top + self.height, self.left : self.left + self.width]
        return cut.contiguous()


@dataclass(frozen=True)
class CropRule:
    """How a crop of ``size`` (width, height) is chosen."""

    size: tuple[int, int]
    largest: float = 1.0
    """A crop is poor where one class has this share of its labelled pixels or more, or is alone; 1 takes any."""
    redraws: int = 10
    """Times that a poor crop is drawn again."""
    wanted: int = 0
    """Pixels of the wanted class that a crop must exceed; 0 asks for none."""
    searches: int = 10
    """Times that all of it is done again for want of the wanted class."""


def crop_window(size_hw: tuple[int, int], rule: CropRule, seed: int, position: int, attempt: int) -> Window:
    """The window that an attempt draws, anywhere alike.

    Raises:
        DataError: the image is smaller than the crop.
    """
    width, height = rule.size
    if height > size_hw[0] or width > size_hw[1]:
        raise DataError(f"an image of {size_hw[1]}x{size_hw[0]} has no crop of {width}x{height}; make it smaller")
    draw = _FIRST + 2 * attempt
    top = int(uniform(seed, position, draw) * (size_hw[0] - height + 1))
    left = int(uniform(seed, position, draw + 1) * (size_hw[1] - width + 1))
    return Window(top, left, height, width)


def choose_crop(label: Tensor, rule: CropRule, seed: int, position: int, wanted: int | None = None) -> Window:
    """The first window that is not poor and has enough of the wanted class, or the last drawn.

    Args:
        label: uint8 ``[H, W]``.
        wanted: class that the image was drawn for; None: none was.
    """
    size_hw = (label.shape[0], label.shape[1])
    enough = rule.wanted if wanted is not None else 0
    window = Window(0, 0, *size_hw)
    for search in range(rule.searches + 1 if enough else 1):
        for redraw in range(rule.redraws + 1):
            window = crop_window(size_hw, rule, seed, position, search * (rule.redraws + 1) + redraw)
            counts = np.bincount(window.of(label).numpy().ravel(), minlength=256)
            if not _is_poor(counts[:IGNORED], rule.largest):
                break
        if not enough or counts[wanted] > enough:
            break
    return window


def _is_poor(counts: NDArray[np.int64], largest: float) -> bool:
    if largest >= 1:
        return False
    return bool(np.count_nonzero(counts) < 2 or counts.max() >= largest * counts.sum())
