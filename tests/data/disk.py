"""Writers of every genuine encoding, so that loaders are tested on files like their owners', made on the spot."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def image(path: Path, size: tuple[int, int] = (16, 8), seed: int = 0) -> NDArray[np.uint8]:
    """Write a random colour image (width, height) and return its pixels as stored."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path, quality=95)
    with Image.open(path) as stored:
        return np.array(stored)


def grey(path: Path, ids: NDArray[np.uint8]) -> None:
    """8-bit grey PNG of ids (Cityscapes, CamVid)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(ids).save(path)


def palette(path: Path, ids: NDArray[np.uint8]) -> None:
    """Palette PNG whose index is the id and whose colours say nothing about it (GTA5, Mapillary Vistas)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(ids, mode="P")
    picture.putpalette(np.random.default_rng(1).integers(0, 256, 768, dtype=np.uint8).tobytes())
    picture.save(path)


def ids(values: Sequence[int], size: tuple[int, int] = (16, 8)) -> NDArray[np.uint8]:
    """A label of (width, height) that holds every one of the values, in turn."""
    return np.resize(np.array(values, np.uint8), (size[1], size[0]))


def png16(pixels: NDArray[np.uint16], filters: Sequence[int]) -> bytes:
    """A 16-bit colour PNG of ``[H, W, 3 or 4]``, written byte by byte; row y uses filter ``filters[y %
    len(filters)]``.
    """
    height, width, channels = pixels.shape
    step = 2 * channels
    rows = pixels.astype(">u2").view(np.uint8).reshape(height, -1).astype(int)
    stream = bytearray()
    for y in range(height):
        now, above = rows[y], rows[y - 1] if y else np.zeros_like(rows[0])
        left, corner = (np.concatenate([np.zeros(step, int), row[:-step]]) for row in (now, above))
        stream.append(filters[y % len(filters)])
        stream += (
            ((now - [0, left, above, (left + above) // 2, paeth(left, above, corner)][stream[-1]]) % 256)
            .astype(np.uint8)
            .tobytes()
        )
    header = struct.pack(">IIBBBBB", width, height, 16, {3: 2, 4: 6}[channels], 0, 0, 0)
    packed = zlib.compress(bytes(stream))
    half = len(packed) // 2  # two chunks: a decoder has to join them
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", packed[:half])
        + chunk(b"IDAT", packed[half:])
        + chunk(b"IEND", b"")
    )


def paeth(left: NDArray[np.int_], above: NDArray[np.int_], corner: NDArray[np.int_]) -> NDArray[np.int_]:
    """The Paeth predictor, byte by byte as the specification's pseudo-code has it."""
    found = []
    for a, b, c in zip(left.tolist(), above.tolist(), corner.tolist(), strict=True):
        p = a + b - c
        distance = {"a": abs(p - a), "b": abs(p - b), "c": abs(p - c)}
        if distance["a"] <= distance["b"] and distance["a"] <= distance["c"]:
            found.append(a)
        elif distance["b"] <= distance["c"]:
            found.append(b)
        else:
            found.append(c)
    return np.array(found)


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def synthia_label(path: Path, ids_hw: NDArray[np.uint8], filters: Sequence[int] = (0, 1, 2, 3, 4)) -> None:
    """SYNTHIA's original: class in the first channel, instance numbers in the second, nothing in the third."""
    path.parent.mkdir(parents=True, exist_ok=True)
    instances = np.arange(ids_hw.size, dtype=np.uint16).reshape(ids_hw.shape) * 37
    path.write_bytes(png16(np.stack([ids_hw.astype(np.uint16), instances, np.zeros_like(instances)], axis=-1), filters))
