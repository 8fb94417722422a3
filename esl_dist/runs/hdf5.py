"""HDF5 files that the program reads back: opened read-only, nothing outside them followed, whatever is damaged named by
its file.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from esl_dist.runs.records import Damaged
from esl_dist.runs.shape import Misshapen, shaped

LARGEST_BYTES = 1 << 33
"""Of an array: a damaged shape is refused before memory is asked for it."""

# What h5py raises for a file that is not what it was; OSError for a truncated one, KeyError for a name, the others for
# headers.
FAULTS = (OSError, KeyError, RuntimeError, ValueError, TypeError, OverflowError, MemoryError, AttributeError, EOFError)


@contextlib.contextmanager
def opened(path: Path, remedy: str, **options: Any) -> Iterator[h5py.File]:
    """The file, open for reading inside the block.

    Args:
        remedy: what to do about a damaged file; it ends the message.
        options: of ``h5py.File``.

    Raises:
        Damaged: it cannot be opened, links to another file, or what is read of it inside the block is not there or not
            what h5py can read.
    """
    try:
        with h5py.File(path, "r", **options) as file:
            refuse_links(file)
            yield file
    except Damaged:
        raise
    except FAULTS as error:
        raise Damaged(f"{path}: is not readable as HDF5 ({_one_line(error)}); {remedy}") from None


def refuse_links(file: h5py.File) -> None:
    """``ValueError`` for a name that stands for something outside the file, or elsewhere in it: the program writes
    neither.
    """

    def look(name: bytes, info: Any) -> bytes | None:
        return None if info.type == h5py.h5l.TYPE_HARD else name

    found = file.id.links.visit(look, info=True)
    if found is not None:
        raise ValueError(f"{found.decode(errors='replace')} is a link, which this program does not write")


def array(file: h5py.Group, name: str, kind: Any, dimensions: int) -> np.ndarray:
    """A whole data set.

    Args:
        kind: numpy type that it must have.

    Raises:
        ValueError: missing, of another type or number of dimensions, or stored outside the file; names the data set.
    """
    found = file.get(name)
    if not isinstance(found, h5py.Dataset):
        raise ValueError(f"{name}: is missing")
    if found.dtype != np.dtype(kind) or found.ndim != dimensions:
        raise ValueError(
            f"{name}: must be {np.dtype(kind)} of {dimensions} dimension(s), not {found.dtype} of {found.ndim}"
        )
    if found.external or found.is_virtual:
        raise ValueError(f"{name}: is stored in another file")
    if found.nbytes > LARGEST_BYTES:
        raise ValueError(f"{name}: claims {found.nbytes} bytes")
    content: np.ndarray = found[()]
    return content


def text(file: h5py.Group, name: str) -> str:
    """An attribute that is text; ``ValueError`` names one that is not."""
    value = file.attrs.get(name)
    if not isinstance(value, str):
        raise ValueError(f"{name}: must be text")
    return value


def json_of(data: str | bytes, shape: Any, name: str) -> Any:
    """JSON inside an HDF5 file, of ``shape`` (see ``runs.shape``); ``ValueError`` names the attribute or data set."""
    try:
        return shaped(json.loads(data), shape, name)
    except Misshapen:
        raise
    except (ValueError, RecursionError):
        raise ValueError(f"{name}: is not readable as JSON") from None


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:160] or type(error).__name__
