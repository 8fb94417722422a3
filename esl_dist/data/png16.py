"""A decoder of 16-bit colour PNG over ``zlib``: SYNTHIA stores class ids in such files, and Pillow reads them as zeros.

Written from the PNG specification (W3C, third edition), sections 5 (chunks), 7 (scanlines) and 9 (filters). Not interlaced files only.
"""

from __future__ import annotations

import zlib
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_CHANNELS = {2: 3, 6: 4}
"""Channels by PNG colour type: RGB, RGBA."""
_MAX_PIXELS = 1 << 28


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
    """Raise ``ValueError`` unless every chunk to the last is there and has its checksum."""
    _chunks(data)


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
    if not 0 < header.width * header.height <= _MAX_PIXELS:
        raise ValueError(f"{header.width}x{header.height} pixels is no image of this kind")
    pixel = 2 * channels
    expected = header.height * (1 + header.width * pixel)
    inflater = zlib.decompressobj()
    rows = np.frombuffer(inflater.decompress(stream, expected), np.uint8)
    if len(rows) < expected:
        raise ValueError("the picture ends early")
    rows = rows.reshape(header.height, -1)
    raw = _unfilter(rows[:, 0], rows[:, 1:].reshape(header.height, header.width, pixel))
    return raw.view(">u2").astype(np.uint16)


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
            header = _Header(int.from_bytes(body[:4], "big"), int.from_bytes(body[4:8], "big"), body[8], body[9], body[12] != 0)
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

    Runs of rows that only use None, Sub and Up go row by row. Average and Paeth depend on the pixel to the left *after* filtering: a run
    that has them is walked along anti-diagonals, all its rows at once, since a pixel only needs its left, upper and upper-left neighbours.
    """
    if filters.max(initial=0) > 4:
        raise ValueError(f"unknown scanline filter {int(filters.max())}")
    height, width, pixel = rows.shape
    done = np.zeros((height + 1, width + 1, pixel), np.uint8)  # a zero row above and a zero pixel to the left
    start = 0
    while start < height:
        simple = filters[start] < 3
        stop = start + 1
        while stop < height and (filters[stop] < 3) == simple:
            stop += 1
        if simple:
            for y in range(start, stop):
                row = np.cumsum(rows[y], axis=0, dtype=np.uint8) if filters[y] == 1 else rows[y]
                done[y + 1, 1:] = row + done[y, 1:] if filters[y] == 2 else row
        else:
            _unfilter_diagonals(filters[start:stop], rows[start:stop], done[start : stop + 1])
        start = stop
    return np.ascontiguousarray(done[1:, 1:])


def _unfilter_diagonals(filters: NDArray[np.uint8], rows: NDArray[np.uint8], done: NDArray[np.uint8]) -> None:
    """Fill ``done[1:, 1:]`` for rows of Average (3) and Paeth (4); ``done[0]`` is the finished row above."""
    height, width, _ = rows.shape
    paeth_rows = (filters == 4)[:, None]
    for diagonal in range(height + width - 1):
        y = np.arange(max(0, diagonal - width + 1), min(height, diagonal + 1))
        x = diagonal - y
        left, up, corner = (done[y + 1, x].astype(np.int16), done[y, x + 1].astype(np.int16), done[y, x].astype(np.int16))
        by_left, by_up, by_corner = np.abs(up - corner), np.abs(left - corner), np.abs(left + up - 2 * corner)
        nearest = np.where((by_left <= by_up) & (by_left <= by_corner), left, np.where(by_up <= by_corner, up, corner))
        predicted = np.where(paeth_rows[y], nearest, (left + up) >> 1)
        done[y + 1, x + 1] = (rows[y, x] + predicted) & 255
