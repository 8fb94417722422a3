"""Labels that are pictures: RGB colours to train ids."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from esl_dist.data import decode
from esl_dist.data.decode import DataError, EncodingError
from esl_dist.labels import IGNORE, Protocol

_UNKNOWN = 254

Colour = tuple[int, int, int]


@dataclass(frozen=True)
class ColourReader:
    """Reads a label file whose pixels' colours say their class, as the class file lists them."""

    known: tuple[tuple[Colour, int], ...]
    """Colours and the train id of each."""
    rest_ignored: bool

    @classmethod
    def of(cls, classes: Protocol) -> ColourReader:
        """
        Raises:
            ValueError: two classes share a colour.
        """
        known: dict[Colour, int] = {}
        for position, colours in enumerate(classes.colours):
            for colour in colours:
                if colour in known:
                    raise ValueError(
                        f"data.classes: {classes.classes[known[colour]]} and {classes.classes[position]} share the "
                        f"colour {list(colour)}, so labels cannot tell them apart"
                    )
                known[colour] = position
        known |= {colour: IGNORE for colour in classes.ignored if isinstance(colour, tuple)}
        return cls(tuple(known.items()), classes.rest_ignored)

    def __call__(self, file: Path) -> NDArray[np.uint8]:
        """uint8 train ids ``[H, W]``, 255 = ignore.

        Raises:
            DataError: unreadable, or in a format that loses colours.
            EncodingError: a colour that no class has.
        """
        if file.suffix.lower() in (".jpg", ".jpeg", ".webp"):
            raise DataError(f"{file} may have lost its colours to compression; labels must be PNG, BMP or TIFF")
        pixels = decode.read_exact_rgb(file).astype(np.uint32)
        code = (pixels[..., 0] << 16) | (pixels[..., 1] << 8) | pixels[..., 2]
        ids: NDArray[np.uint8] = np.take(_table(self.known), code)
        unknown = ids == _UNKNOWN
        if unknown.any():
            if self.rest_ignored:
                ids[unknown] = IGNORE
                return ids
            first = int(code[unknown][0])
            raise EncodingError(
                f"{file} holds the colour [{first >> 16}, {first >> 8 & 255}, {first & 255}] "
                f"({100 * unknown.mean():.2g} % of its pixels are of no class's colour); "
                "add it to a class or to ignore in the class file (or ignore: rest)"
            )
        return ids


@functools.lru_cache(maxsize=2)
def _table(known: tuple[tuple[Colour, int], ...]) -> NDArray[np.uint8]:
    """Train id of every 24-bit colour: 16 MiB, once a process."""
    table = np.full(1 << 24, _UNKNOWN, np.uint8)
    for (red, green, blue), position in known:
        table[red << 16 | green << 8 | blue] = position
    return table
