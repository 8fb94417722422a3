"""Label PNGs: their bytes, their places, their hashes; and what an earlier run wrote about them."""

from __future__ import annotations

import hashlib
import json
import struct
import zlib
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

UP_FILTER = 2  # PNG specification, section 9.2


def label_path(folder: Path, name: str) -> Path:
    """``<folder>/labels/<name>.png``; ``ValueError`` for a name that would leave the folder."""
    return _inside(folder / "labels", name)


def weight_path(folder: Path, name: str) -> Path:
    """``<folder>/weights/<name>.png``, likewise."""
    return _inside(folder / "weights", name)


def _inside(folder: Path, name: str) -> Path:
    pure = PurePosixPath(name)
    if not name or pure.is_absolute() or ".." in pure.parts:
        raise ValueError(f"image name {name!r} points outside the label folder")
    return folder / f"{name}.png"


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


def read_json(path: Path) -> dict[str, Any] | None:
    """The content, or None where there is none or a foreign hand broke it."""
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None
