"""Image files to arrays: colour images, 8-bit label ids, 16-bit label ids. A file that cannot be read raises
``DataError`` with its name.

Only the formats of data sets are opened, whatever a file calls itself, and only up to a size: Pillow would hand an EPS
named ``.png`` to
Ghostscript. Bits are read as they are stored: 16-bit grey is scaled, not cut off at white; labels of fewer than 8 bits
are not stretched to 255; a JPEG under a label's name is refused, since it smears ids.
"""

from __future__ import annotations

import functools
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from esl_dist.data import png16

IMAGE_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF")
"""What an image may be, as Pillow calls them."""

LABEL_FORMATS = ("PNG", "BMP", "TIFF")
"""Those that keep every id."""

MAX_PIXELS = png16.MAX_PIXELS
"""Of an image, from its header: a small file may claim any size."""

_ORIENTATION, _PHOTOMETRIC, _WHITE_IS_ZERO = 274, 262, 0

# Pillow's remarks about sizes and odd tags: what is wrong with a file is an error here, or nothing.
warnings.filterwarnings("ignore", module=r"PIL\.")


class DataError(ValueError):
    """One sample that cannot be read or does not fit its pair; the message names the file."""


class EncodingError(DataError):
    """A label in another encoding than its data set's: not one broken file but a wrong set, so training does not go on
    without it.
    """


# Pillow raises SyntaxError for a broken PNG chunk and struct.error for a cut one.
_DECODERS = (OSError, SyntaxError, ValueError, EOFError, zlib.error, struct.error, Image.DecompressionBombError)

_HEADERS = (TypeError, KeyError, IndexError, AttributeError, AssertionError, ArithmeticError, RuntimeError)
"""What comes out of Pillow for damaged headers beside them."""


@contextmanager
def _named(file: Path) -> Iterator[None]:
    """Turn whatever a decoder raises for a broken file into a ``DataError`` that names it."""
    try:
        yield
    except DataError:
        raise
    except FileNotFoundError:
        raise DataError(f"{file} is missing") from None
    except UnidentifiedImageError:
        raise DataError(f"{file} is {_what_it_is(file)}") from None
    except _DECODERS as error:
        raise DataError(f"{file} cannot be decoded: {_one_line(error)}") from None
    except _HEADERS as error:
        raise DataError(f"{file} cannot be decoded: its header is broken ({_one_line(error)})") from None


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


def _what_it_is(file: Path) -> str:
    """A file that none of the formats knows."""
    with open(file, "rb") as opened:
        begin = opened.read(12)
    if not begin:
        return "empty"
    kinds = {
        b"%!PS": "PostScript",
        b"GIF8": "a GIF",
        b"%PDF": "a PDF",
        b"\xff\xd8\xff": "a JPEG",
        b"\x89PNG": "a PNG",
        b"RIFF": "a WebP",
    }
    kind = next((name for magic, name in kinds.items() if begin.startswith(magic)), "")
    if kind in ("a JPEG", "a WebP"):
        return f"{kind}, which smears ids (or its header is broken): labels must be PNG, BMP or TIFF"
    return f"{kind or 'not an image'}, or its header is broken; images are {', '.join(IMAGE_FORMATS)}"


@contextmanager
def _opened(file: Path, formats: tuple[str, ...]) -> Iterator[Image.Image]:
    """The file's header, if it is one of the formats and of a size that can be."""
    with _named(file), Image.open(file, formats=formats) as image:
        width, height = image.size
        if not 0 < width * height <= MAX_PIXELS:
            raise DataError(f"{file} claims {width}x{height} pixels; {MAX_PIXELS} are the most that is read")
        yield image


def read_rgb(file: Path) -> NDArray[np.uint8]:
    """uint8 RGB ``[H, W, 3]`` of any colour, grey or palette image, turned upright as its EXIF says.

    16-bit grey is scaled from [0, 65535] to [0, 255]. 32-bit and floating values have no known range: refused.
    """
    with _opened(file, IMAGE_FORMATS) as image:
        turned = orientation(image) != 1
        if image.mode.startswith("I;16"):
            deep = np.array(image).astype(np.uint32)
            image = Image.fromarray(((deep * 255 + 32767) // 65535).astype(np.uint8))
        elif image.mode in ("I", "F"):
            raise DataError(
                f"{file} has 32-bit values ({image.mode}), whose white is not known; save it with 8 or 16 bits"
            )
        upright = ImageOps.exif_transpose(image) if turned else image
        return np.array(upright if upright.mode == "RGB" else upright.convert("RGB"))


def read_exact_rgb(file: Path) -> NDArray[np.uint8]:
    """uint8 RGB ``[H, W, 3]`` of a label that is a picture: as ``read_rgb``, from a format that keeps every colour."""
    with _opened(file, LABEL_FORMATS) as image:
        if image.mode not in ("RGB", "RGBA", "P"):
            raise DataError(f"{file} is no colour image ({image.mode}); set encoding to what its ids are")
        return np.array(image.convert("RGB"))


def orientation(image: Image.Image) -> int:
    """EXIF's orientation, 1 (upright) to 8; what lies behind a PNG's pixels is not looked for, so that a header is
    enough.
    """
    if image.format == "PNG" and "exif" not in image.info:
        return 1
    found = image.getexif().get(_ORIENTATION, 1)
    return found if found in range(1, 9) else 1


def read_ids(file: Path) -> NDArray[np.uint8]:
    """uint8 ids ``[H, W]`` of a grey or palette image: the stored index, never the colour it stands for.

    Raises:
        DataError: unreadable, in colour, in a format that loses ids, or with an id above 255.
    """
    with _opened(file, LABEL_FORMATS) as image:
        if image.mode not in ("1", "L", "P", "I", "I;16", "I;16B"):
            raise DataError(f"{file} is a colour image ({image.mode}), not label ids; point to the folder of label ids")
        if image.format == "TIFF" and image.tag_v2.get(_PHOTOMETRIC) == _WHITE_IS_ZERO:  # type: ignore[attr-defined]
            raise DataError(f"{file} is a TIFF whose white is zero, so its ids are inverted; save it as PNG")
        if orientation(image) != 1:
            raise DataError(f"{file} is a label that EXIF turns; save it upright, without that tag")
        if image.format == "PNG":
            png16.check(file.read_bytes())  # Pillow lets a wrong checksum of the pixels pass
        levels = _grey_levels(file) if image.format == "PNG" and image.mode == "L" else 256
        ids = np.array(image)
    if levels < 256:
        ids //= 255 // (levels - 1)  # Pillow stretches 2 and 4 bits to 255
    if ids.dtype != np.uint8:
        if ids.size and (ids.min() < 0 or ids.max() > 255):
            raise DataError(f"{file} holds id {int(ids.max())}, which is no class; is it an instance or depth map?")
        ids = ids.astype(np.uint8)
    return ids


def _grey_levels(file: Path) -> int:
    """Values that a grey PNG's pixels can have, by its header."""
    with open(file, "rb") as opened:
        depth = opened.read(26)[24]
    return 1 << min(depth, 8)


def read_ids16(file: Path) -> NDArray[np.uint8]:
    """uint8 ids ``[H, W]`` from the first channel of a 16-bit colour PNG (SYNTHIA's ``GT/LABELS``); 8-bit files go
    through ``read_ids``.

    Pillow keeps the high byte of such a file, which is zero everywhere, so it is not asked. OpenCV reads it where it
    is installed, in half the time; the decoder of this package is the specification (a test compares the two byte by
    byte).
    """
    with _named(file):
        data = file.read_bytes()
        if not png16.is_16bit_colour(data):
            return read_ids(file)
        cv2 = _opencv()
        ids = png16.decode(data)[..., 0] if cv2 is None else _decode_opencv(cv2, data)
        if ids.max(initial=0) > 255:
            raise DataError(f"{file} holds id {int(ids.max())} in its first channel, which is no class")
        return np.ascontiguousarray(ids.astype(np.uint8))


class Header(NamedTuple):
    """What is known of an image without decoding it."""

    width: int
    height: int
    """Of the upright image."""
    orientation: int
    """EXIF's, 1 to 8; above 4 the stored image lies on its side."""


def header(file: Path) -> Header:
    """Size and orientation of an image."""
    with _opened(file, IMAGE_FORMATS) as image:
        turned = orientation(image)
        width, height = image.size[::-1] if turned > 4 else image.size
        return Header(width, height, turned)


def image_size(file: Path) -> tuple[int, int]:
    """Width and height of the upright image, from the header."""
    return header(file)[:2]


@functools.cache
def _opencv() -> ModuleType | None:
    try:
        import cv2
    except ImportError:
        return None
    module: ModuleType = cv2
    return module


def _decode_opencv(cv2: ModuleType, data: bytes) -> NDArray[np.uint16]:
    png16.check(data)  # OpenCV returns a truncated file half filled, without a word
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None or pixels.dtype != np.uint16 or pixels.ndim != 3:
        raise ValueError("OpenCV does not read it as 16-bit colour")
    ids: NDArray[np.uint16] = pixels[..., 2]  # BGR
    return ids
