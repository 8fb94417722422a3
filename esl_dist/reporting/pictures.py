"""Pictures of target images and their labels, as data URIs that a page carries inside itself (the ESL paper's Figure
2).
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

WIDEST = 480
"""Pixels across: larger label maps are shown smaller."""

DROPPED = (236, 238, 240)
"""Colour of pixels without a label."""

_GREYS = 32
_FIRST_GREY = 255 - _GREYS

Palette = Sequence[tuple[int, int, int]]


@dataclass(frozen=True)
class Panel:
    """One picture with its title and a line of figures."""

    title: str
    uri: str
    caption: str = ""


def shown_size(height: int, width: int) -> tuple[int, int]:
    """Width and height at which a label map of this shape is shown."""
    factor = min(1.0, WIDEST / width)
    return max(1, round(width * factor)), max(1, round(height * factor))


def photo(image: NDArray[np.uint8], size: tuple[int, int]) -> str:
    """uint8 ``[H, W, 3]`` RGB as a JPEG of ``size`` (width, height)."""
    return _uri(_resized(image, size), "JPEG", quality=84)


def label_map(label: NDArray[np.uint8], palette: Palette, size: tuple[int, int]) -> str:
    """uint8 ``[H, W]`` class ids (255 = none) in the protocol's colours."""
    return _uri(_indexed(label, palette, size), "PNG", optimize=True)


def mask(wrong: NDArray[np.bool_]) -> str:
    """bool ``[H, W]`` as a PNG that is red where True and transparent elsewhere."""
    picture = Image.fromarray(wrong.astype(np.uint8)).convert("L").convert("P")
    picture.putpalette([0, 0, 0, 214, 31, 64])
    return _uri(picture, "PNG", optimize=True, transparency=0)


def difference(
    image: NDArray[np.uint8], label: NDArray[np.uint8], mask: NDArray[np.bool_], palette: Palette, size: tuple[int, int]
) -> str:
    """The labels under ``mask`` in colour, on a pale grey version of the photograph.

    Args:
        label: uint8 ``[H, W]``; image is resized to it.
        mask: bool ``[H, W]``, the pixels to show.
    """
    grey = np.asarray(_resized(image, (label.shape[1], label.shape[0])).convert("L"), dtype=np.uint16)
    pale = (_FIRST_GREY + grey * _GREYS // 256).astype(np.uint8)
    return _uri(_indexed(np.where(mask, label, pale), palette, size), "PNG", optimize=True)


def _indexed(indices: NDArray[np.uint8], palette: Palette, size: tuple[int, int]) -> Image.Image:
    """Indices below the number of classes take its colours, the greys start above, 255 is "dropped"."""
    assert len(palette) <= _FIRST_GREY
    table = np.zeros((256, 3), dtype=np.uint8)
    table[: len(palette)] = palette
    table[_FIRST_GREY:255] = np.linspace(150, 250, _GREYS)[:, None]  # pale: the coloured pixels carry the message
    table[255] = DROPPED
    picture = Image.fromarray(np.ascontiguousarray(indices, dtype=np.uint8)).convert("L")
    picture = picture.resize(size, Image.Resampling.NEAREST) if picture.size != size else picture
    picture.putpalette(table.tobytes())
    return picture


def _resized(image: NDArray[np.uint8], size: tuple[int, int]) -> Image.Image:
    picture = Image.fromarray(image)
    return picture if picture.size == size else picture.resize(size, Image.Resampling.LANCZOS)


def _uri(picture: Image.Image, kind: str, **options: int | bool) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(buffer.getvalue()).decode()}"
