"""What a data set is to the rest of the program, and the one implementation: files on disk, paired by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from esl_dist.data import decode
from esl_dist.data.decode import DataError, EncodingError

__all__ = ["DataError", "Dataset", "EncodingError", "FolderDataset", "lookup_table"]

Image = NDArray[np.uint8]

_ILLEGAL = 254
"""Marks an id that the data set does not have, in a lookup table whose train ids are far smaller."""


class Dataset(Protocol):
    """Images with names and, where they are not withheld, labels."""

    @property
    def names(self) -> Sequence[str]:
        """Unique, without extension, ``/`` between folders; sorted, or in the order of the list file."""
        ...

    @property
    def labelled(self) -> bool: ...

    def __len__(self) -> int: ...

    def image(self, index: int) -> Image:
        """uint8 RGB ``[H, W, 3]`` at native size. Raises ``DataError`` with the file's name."""
        ...

    def label(self, index: int) -> Image:
        """uint8 train ids ``[H, W]``, 255 = ignore, at native size. Raises ``DataError`` with the file's name."""
        ...

    def size(self, index: int) -> tuple[int, int]:
        """Width and height of an image, from the file's header. Raises ``DataError`` with the file's name."""
        ...


@dataclass(frozen=True)
class FolderDataset:
    """Image and label files that were paired by name when the folders were listed."""

    names: tuple[str, ...]
    image_files: tuple[Path, ...]
    label_files: tuple[Path, ...] | None
    """None where labels are withheld."""
    lookup: NDArray[np.uint8]
    """From ``lookup_table``."""
    read_ids: Callable[[Path], Image] = decode.read_ids
    """Decodes a label file to the ids that it stores."""

    @property
    def labelled(self) -> bool:
        return self.label_files is not None

    @property
    def illegal(self) -> NDArray[np.bool_]:
        """Whether a stored id is one that the data set does not have: ``[256]``."""
        illegal: NDArray[np.bool_] = self.lookup == _ILLEGAL
        return illegal

    def __len__(self) -> int:
        return len(self.names)

    def image(self, index: int) -> Image:
        return decode.read_rgb(self.image_files[index])

    def size(self, index: int) -> tuple[int, int]:
        return decode.image_size(self.image_files[index])

    def raw_label(self, index: int) -> Image:
        """uint8 ids ``[H, W]`` as the file stores them.

        Raises:
            DataError: the file cannot be read, or its size is not its image's.
        """
        assert self.label_files is not None, "labels are withheld"
        file, image = self.label_files[index], self.image_files[index]
        ids = self.read_ids(file)
        width, height, turned = decode.header(image)
        if ids.shape != (height, width):
            hint = f" (turned as its EXIF says; stored as {height}x{width})" if turned > 4 else ""
            raise DataError(f"{file} is {ids.shape[1]}x{ids.shape[0]} but its image {image} is {width}x{height}{hint}")
        if turned != 1 and (turned <= 4 or width == height):
            raise DataError(
                f"{image} is turned by its EXIF, and whether {file} was drawn on the turned image its size cannot "
                f"tell; save the image upright, without that tag"
            )
        return ids

    def label(self, index: int) -> Image:
        ids = self.raw_label(index)
        train_ids: Image = np.take(self.lookup, ids)
        if (train_ids == _ILLEGAL).any():
            assert self.label_files is not None
            illegal = [str(i) for i in np.unique(ids) if self.lookup[i] == _ILLEGAL]
            raise EncodingError(
                f"{self.label_files[index]} holds id {', '.join(illegal)}, which this data set does not have; is it "
                f"the label file of another encoding?"
            )
        return train_ids


def lookup_table(id_map: NDArray[np.uint8], legal: frozenset[int]) -> NDArray[np.uint8]:
    """``id_map`` (stored id to train id, uint8 ``[256]``) with every id outside ``legal`` marked, so that one look-up
    maps and checks.
    """
    table = id_map.copy()
    table[[i for i in range(256) if i not in legal]] = _ILLEGAL
    return table
