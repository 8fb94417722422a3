"""Image files to arrays: colour images, 8-bit label ids, 16-bit label ids. A file that cannot be read raises
``DataError`` with its name.
"""

from __future__ import annotations

import functools
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from esl_dist.data import png16


class DataError(ValueError):
    """One sample that cannot be read or does not fit its pair; the message names the file."""


class EncodingError(DataError):
    """A label in another encoding than its data set's: not one broken file but a wrong set, so training does not go on
    without it.
    """


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
        empty = file.stat().st_size == 0
        raise DataError(f"{file} is {'empty' if empty else 'not an image, or its header is broken'}") from None
    # Pillow raises SyntaxError for a broken PNG chunk and struct.error for a cut one.
    except (
        OSError,
        SyntaxError,
        ValueError,
        EOFError,
        zlib.error,
        struct.error,
        Image.DecompressionBombError,
    ) as error:
        raise DataError(f"{file} cannot be decoded: {' '.join(str(error).split()) or type(error).__name__}") from None


def read_rgb(file: Path) -> NDArray[np.uint8]:
    """uint8 RGB ``[H, W, 3]`` of any colour, grey or palette image."""
    with _named(file), Image.open(file) as image:
        return np.array(image if image.mode == "RGB" else image.convert("RGB"))


def read_ids(file: Path) -> NDArray[np.uint8]:
    """uint8 ids ``[H, W]`` of a grey or palette image: the stored index, never the colour it stands for.

    Raises:
        DataError: unreadable, in colour, or with an id above 255.
    """
    with _named(file), Image.open(file) as image:
        if image.mode not in ("L", "P", "I", "I;16", "I;16B"):
            raise DataError(f"{file} is a colour image ({image.mode}), not label ids; point to the folder of label ids")
        ids = np.array(image)
    if ids.dtype != np.uint8:
        if ids.size and (ids.min() < 0 or ids.max() > 255):
            raise DataError(f"{file} holds id {int(ids.max())}, which is no class; is it an instance or depth map?")
        ids = ids.astype(np.uint8)
    return ids


def read_ids16(file: Path) -> NDArray[np.uint8]:
    """uint8 ids ``[H, W]`` from the first channel of a 16-bit colour PNG (SYNTHIA's ``GT/LABELS``); 8-bit files go
    through ``read_ids``.

    Pillow keeps the high byte of such a file, which is zero everywhere, so it is not asked. OpenCV reads it where it is
    installed, in half the time; the decoder of this package is the specification (a test compares the two byte by
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


def image_size(file: Path) -> tuple[int, int]:
    """Width and height from the header."""
    with _named(file), Image.open(file) as image:
        return image.size


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
