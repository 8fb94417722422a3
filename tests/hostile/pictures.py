"""Label and image files: modes, depths, foreign formats under a name, cut, flipped and empty bytes, huge claims."""

from __future__ import annotations

import io
import random
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from esl_dist.data.decode import DataError, header, read_ids, read_rgb
from tests.hostile.trial import LINES, Case

Ids = NDArray[np.uint8]


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def grey_png(ids: Ids, depth: int) -> bytes:
    """A grey PNG of 1 to 16 bits a pixel, as many writers make them."""
    height, width = ids.shape
    if depth == 16:
        rows = [b"\0" + row.astype(">u2").tobytes() for row in ids]
    else:
        bits = np.unpackbits(ids[..., None], axis=2)[..., 8 - depth :].reshape(height, -1)
        rows = [b"\0" + np.packbits(row).tobytes() for row in bits]
    head = struct.pack(">IIBBBBB", width, height, depth, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(b"".join(rows)))
        + chunk(b"IEND", b"")
    )


def saved(image: Image.Image, kind: str, **how: object) -> bytes:
    target = io.BytesIO()
    image.save(target, kind, **how)
    return target.getvalue()


def label(draw: random.Random) -> tuple[str, bytes, Ids | None]:
    """(what it is, bytes, the ids that it holds; None where it can only be refused or read as something)."""
    depth = draw.choice([1, 2, 4, 8, 16])
    values = draw.randint(1, min(1 << depth, 34))
    shape = (draw.randint(1, 40), draw.randint(1, 40))
    ids = np.array([draw.randrange(values) for _ in range(shape[0] * shape[1])], np.uint8).reshape(shape)
    plain = Image.fromarray(ids)
    match draw.randrange(8):
        case 0 | 1:
            return f"{depth}-bit grey PNG", grey_png(ids, depth), ids
        case 2:
            colours = plain.convert("P")
            colours.putpalette([draw.randrange(256) for _ in range(768)])
            return (
                "palette PNG",
                saved(colours, "PNG", bits=draw.choice([8, 8, 4]) if values <= 16 else 8),
                None if values > 16 else ids,
            )
        case 3:
            kind = draw.choice(["JPEG", "GIF", "WEBP", "PPM", "EPS", "PDF", "ICO", "TGA"])
            return f"{kind} under .png", saved(plain.convert("RGB") if kind in ("WEBP", "EPS") else plain, kind), None
        case 4:
            kind = draw.choice(["BMP", "TIFF"])
            return kind, saved(plain, kind), ids
        case 5:
            mode = draw.choice(["RGB", "RGBA", "LA", "CMYK", "F", "I", "I;16"])
            kind = "TIFF" if mode in ("CMYK", "F", "I") else "PNG"
            made = Image.fromarray(ids.astype(np.uint16)) if mode == "I;16" else plain.convert(mode)
            return f"{mode} {kind}", saved(made, kind), None
        case 6:
            head = struct.pack(
                ">IIBBBBB",
                draw.choice([1, 1 << 20, (1 << 31) - 1, 0]),
                draw.choice([1 << 20, (1 << 31) - 1, 0]),
                8,
                0,
                0,
                0,
                0,
            )
            body = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")
            return "huge claim", b"\x89PNG\r\n\x1a\n" + body, None
        case _:
            return "bytes", draw.randbytes(draw.randint(0, 200)), None


def damaged(content: bytes, draw: random.Random) -> bytes:
    """Cut, flipped or doubled."""
    if not content:
        return content
    broken = bytearray(content)
    place = draw.randrange(len(broken))
    match draw.randrange(4):
        case 0:
            return bytes(broken[:place])
        case 1:
            broken[place] ^= 1 << draw.randrange(8)
        case 2:
            broken[place : place + 4] = bytes(len(broken[place : place + 4]))
        case 3:
            broken[place:place] = broken[: draw.randint(1, 50)]
    return bytes(broken)


def label_cases(seed: int, count: int, folder: Path) -> Iterator[Case]:
    draw = random.Random(seed)
    path = folder / "label.png"
    for _ in range(count):
        what, content, ids = label(draw)
        hurt = draw.random() < 0.4
        content = damaged(content, draw) if hurt else content
        yield Case(
            "labels",
            f"{what}{' damaged' if hurt else ''}",
            lambda content=content, ids=ids, hurt=hurt: _label(path, content, ids, hurt),
        )


def _label(path: Path, content: bytes, ids: Ids | None, hurt: bool) -> tuple[bool, str]:
    path.write_bytes(content)
    try:
        found = read_ids(path)
    except DataError as error:
        said = str(error)
        if ids is not None and not hurt:
            return True, f"a good label was refused: {said}"
        return True, "" if str(path) in said and len(said.splitlines()) <= LINES else f"names no file: {said}"
    if ids is not None and not hurt:
        return False, "" if np.array_equal(found, ids) else "other ids"
    if ids is not None and found.shape == ids.shape and path.suffix == ".png" and content.startswith(b"\x89PNG"):
        # A PNG has checksums: what is still read after damage is what was written.
        return False, "" if np.array_equal(found, ids) else "other ids after damage"
    return False, "" if found.dtype == np.uint8 and found.ndim == 2 else "no ids"


def image_cases(seed: int, count: int, folder: Path) -> Iterator[Case]:
    draw = random.Random(seed)
    path = folder / "image.png"
    for _ in range(count):
        kind = draw.choice(["PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF", "PPM", "EPS"])
        pixels = np.frombuffer(draw.randbytes(24 * 16 * 3), np.uint8).reshape(16, 24, 3)
        content = saved(Image.fromarray(pixels).convert(draw.choice(["RGB", "L"])), kind)
        hurt = draw.random() < 0.6
        content = damaged(content, draw) if hurt else content
        yield Case(
            "images",
            f"{kind}{' damaged' if hurt else ''}",
            lambda content=content, kind=kind, hurt=hurt: _image(path, content, kind, hurt),
        )


def _image(path: Path, content: bytes, kind: str, hurt: bool) -> tuple[bool, str]:
    path.write_bytes(content)
    read = kind in ("PNG", "JPEG", "WEBP", "BMP", "TIFF")
    for reader in (header, read_rgb):
        try:
            found = reader(path)
        except DataError as error:
            said = str(error)
            if read and not hurt:
                return True, f"a good image was refused: {said}"
            return True, "" if str(path) in said and len(said.splitlines()) <= LINES else f"names no file: {said}"
    if not read and not hurt:
        return False, f"{kind} was read"
    assert isinstance(found, np.ndarray)
    return False, "" if found.dtype == np.uint8 and found.shape[-1] == 3 else "no image"
