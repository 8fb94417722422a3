"""Label PNGs: their bytes, their places, their hashes; and what an earlier run wrote about them."""

from __future__ import annotations

import hashlib
import struct
import zlib
from collections.abc import Sequence, Set
from pathlib import Path

import numpy as np

from esl_dist.runs import LabelSetFolder

UP_FILTER = 2  # PNG specification, section 9.2
MOST_CLASSES = 255
"""Label 255 says that a pixel has none."""


def check_names(names: Sequence[str]) -> None:
    """Refuse images that would share a label file, or whose label would lie elsewhere.

    Raises:
        ValueError: names such an image (``x`` and ``./x`` are one file).
    """
    folder, files = LabelSetFolder(Path()), dict[str, str]()
    for name in names:
        place = str(folder.label(name))
        if place in files:
            both = (
                f"{name} comes twice"
                if files[place] == name
                else f"{files[place]} and {name} are two names of one label file"
            )
            raise ValueError(f"{both}, so it would count twice; give each image one name, once")
        files[place] = name


def check_classes(number: int) -> None:
    """``ValueError`` for a number of classes that 8-bit labels cannot hold."""
    if not 2 <= number <= MOST_CLASSES:
        raise ValueError(
            f"{number} classes: labels are 8-bit ids, and 255 says that a pixel has none, so there may be 2 to "
            f"{MOST_CLASSES}"
        )


def foreign(folder: Path, mine: Set[Path]) -> list[Path]:
    """PNGs below a folder that are none of ``mine``, in order."""
    return sorted(path for path in folder.rglob("*.png") if path not in mine)


def png(label: np.ndarray) -> bytes:
    """uint8 ``[H, W]`` as an 8-bit grey PNG.

    Every row is stored as its difference to the row above ("up" filter) and compressed by zlib's run-length strategy,
    Pillow's ``compress_type=3``: on label maps a third of Pillow's time, which tries all five filters on every row, and
    a smaller file.
    """
    height, width = label.shape
    rows = np.empty((height, width + 1), np.uint8)
    rows[:, 0] = UP_FILTER
    rows[0, 1:] = label[0]
    np.subtract(label[1:], label[:-1], out=rows[1:, 1:])
    stream = zlib.compressobj(1, zlib.DEFLATED, zlib.MAX_WBITS, zlib.DEF_MEM_LEVEL, zlib.Z_RLE)
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    data = stream.compress(rows.data) + stream.flush()
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", data) + _chunk(b"IEND", b"")


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def digest(name: str, data: bytes) -> np.ndarray:
    """One file's content as int64 ``[4]``: digests of files are added (mod 2^64), so any order and any split gives the
    same sum.
    """
    return np.frombuffer(hashlib.sha256(name.encode() + b"\0" + data).digest(), np.int64).copy()


def hexadecimal(total: np.ndarray) -> str:
    return total.astype(np.int64).tobytes().hex()
