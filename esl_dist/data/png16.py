"""A decoder of 16-bit colour PNG over ``zlib``: SYNTHIA stores class ids in such files, and Pillow reads them as zeros.

Written from the PNG specification (W3C, third edition), sections 5 (chunks), 7 (scanlines) and 9 (filters). Not
interlaced files only.
"""

from __future__ import annotations

import zlib
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_CHANNELS = {2: 3, 6: 4}
"""Channels by PNG colour type: RGB, RGBA."""
MAX_PIXELS = 1 << 26
"""8192x8192: eight times a 4K frame; a small file may claim any size."""


class _Header(NamedTuple):
    width: int
    height: int
    depth: int
    colour: int
    interlaced: bool


def is_16bit_colour(data: bytes) -> bool:
    """Whether these bytes begin like a PNG with 16 bits per channel and three or four channels."""
    return data[:8] == _SIGNATURE and len(data) >= 26 and data[24] == 16 and data[25] in _CHANNELS


def check(data: bytes) -> None:
    """Raise ``ValueError`` unless every chunk to the last is there and has its checksum, and the picture is of a size
    that can be.
    """
    _bounded(_chunks(data)[0])


def decode(data: bytes) -> NDArray[np.uint16]:
    """uint16 ``[H, W, 3 or 4]``, channels in file order (R, G, B, alpha).

    Raises:
        ValueError: not such a file, truncated or with a wrong checksum.
        zlib.error: a broken stream.
    """
    header, stream = _chunks(data)
    channels = _CHANNELS.get(header.colour)
    if channels is None or header.depth != 16:
        raise ValueError("not a 16-bit colour PNG")
    if header.interlaced:
        raise ValueError("interlaced PNG is not supported; save it without interlacing")
    _bounded(header)
    pixel = 2 * channels
    expected = header.height * (1 + header.width * pixel)
    inflater = zlib.decompressobj()
    rows = np.frombuffer(inflater.decompress(stream, expected), np.uint8)
    if len(rows) < expected:
        raise ValueError("the picture ends early")
    rows = rows.reshape(header.height, -1)
    raw = _unfilter(rows[:, 0], rows[:, 1:].reshape(header.height, header.width, pixel))
    return raw.view(">u2").astype(np.uint16)


def _bounded(header: _Header) -> None:
    if not 0 < header.width * header.height <= MAX_PIXELS:
        raise ValueError(f"{header.width}x{header.height} pixels is no image of this kind")


def _chunks(data: bytes) -> tuple[_Header, bytes]:
    """Header and joined image stream of a PNG whose chunks are whole."""
    if data[:8] != _SIGNATURE:
        raise ValueError("not a PNG")
    header, parts, at = None, [], 8
    while True:
        length, kind = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        body, end = data[at + 8 : at + 8 + length], at + 12 + length
        if len(data) < end or len(kind) < 4:
            raise ValueError("the file is truncated")
        if zlib.crc32(kind + body) != int.from_bytes(data[end - 4 : end], "big"):
            raise ValueError(f"the checksum of chunk {kind!r} is wrong")
        if kind == b"IHDR" and length == 13:
            header = _Header(
                int.from_bytes(body[:4], "big"), int.from_bytes(body[4:8], "big"), body[8], body[9], body[12] != 0
            )
        elif kind == b"IDAT":
            parts.append(body)
        elif kind == b"IEND":
            break
        at = end
    if header is None:
        raise ValueError("no header chunk")
    return header, b"".join(parts)


def _unfilter(filters: NDArray[np.uint8], rows: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Undo the scanline filters: uint8 ``[H, W, bytes per pixel]`` to the same shape.

    None, Sub and Up are sums along rows or columns. Average and Paeth depend on the finished pixel to the left: a
    picture that has them is walked along anti-diagonals, all rows at once, since a pixel needs only its left, upper and
    upper-left neighbours.
    """
    if filters.max(initial=0) > 4:
        raise ValueError(f"unknown scanline filter {int(filters.max())}")
    if (filters > 2).any():
        return _unfilter_diagonals(filters, rows)
    done = rows.copy()
    for y, kind in enumerate(filters):
        if kind == 1:
            np.cumsum(rows[y], axis=0, dtype=np.uint8, out=done[y])
        elif kind == 2 and y > 0:
            done[y] += done[y - 1]
    return done


def _unfilter_diagonals(filters: NDArray[np.uint8], rows: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """As ``_unfilter``, for any mixture of the five filters.

    Pixel (y, x) lies at ``skewed[x + y + 2, y + 1]``, so that a diagonal and its three neighbours are contiguous; what
    was never written is the zero pixel left of and above the picture.
    """
    height, width, pixel = rows.shape
    skewed = np.zeros((height + width + 1, height + 1, pixel), np.int16)
    for y in range(height):
        skewed[y + 2 : y + 2 + width, y + 1] = rows[y]
    # All bits set in the rows of a filter, none elsewhere: a prediction is picked by "and".
    masks = {
        kind: np.repeat(-(filters == kind).astype(np.int16), pixel).reshape(height, pixel)
        for kind in range(1, 5)
        if (filters == kind).any()
    }
    for diagonal in range(height + width - 1):
        top, bottom = max(0, diagonal - width + 1), min(height, diagonal + 1)
        left, up, corner = (
            skewed[diagonal + 1, top + 1 : bottom + 1],
            skewed[diagonal + 1, top:bottom],
            skewed[diagonal, top:bottom],
        )
        here = skewed[diagonal + 2, top + 1 : bottom + 1]
        for kind, mask in masks.items():
            here += _predicted(kind, left, up, corner) & mask[top:bottom]
        here &= 255
    return np.stack([skewed[y + 2 : y + 2 + width, y + 1] for y in range(height)]).astype(np.uint8)


def _predicted(
    kind: int, left: NDArray[np.int16], up: NDArray[np.int16], corner: NDArray[np.int16]
) -> NDArray[np.int16]:
    """What filters 1-4 (Sub, Up, Average, Paeth) add to a byte."""
    if kind == 1:
        return left
    if kind == 2:
        return up
    if kind == 3:
        return (left + up) >> 1
    by_left, by_up = up - corner, left - corner
    by_corner = np.abs(by_left + by_up)
    np.abs(by_left, out=by_left)
    np.abs(by_up, out=by_up)
    nearest: NDArray[np.int16] = np.where(
        by_left <= np.minimum(by_up, by_corner), left, np.where(by_up <= by_corner, up, corner)
    )
    return nearest
