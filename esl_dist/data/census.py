"""How many pixels of each class each image of a labelled set has, at its own size: counted once and kept."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from esl_dist.atomic import write_bytes
from esl_dist.data.dataset import DataError, Dataset, EncodingError, FolderDataset

log = logging.getLogger(__name__)

Counts = NDArray[np.int64]
"""``[images, 256]``: pixels of each train id, those that are ignored at 255."""


def counted(dataset: Dataset, indices: Iterable[int]) -> Iterator[tuple[int, NDArray[np.int64]]]:
    """Index and counts ``[256]`` of each image; one that cannot be read has no pixels.

    Raises:
        EncodingError: a label file of another encoding.
    """
    for index in indices:
        try:
            yield index, np.bincount(dataset.label(index).ravel(), minlength=256)
        except EncodingError:
            raise
        except DataError as error:
            log.warning("class counts: %s; it is counted as empty", error)
            yield index, np.zeros(256, np.int64)


def cache_file(dataset: Dataset, folder: Path) -> Path | None:
    """Where the counts of a set are kept: named after its images, their label files' sizes and dates, and the protocol.

    None for a set that is not files, whose labels may change unseen.
    """
    files = getattr(dataset, "originals", dataset)
    if not isinstance(files, FolderDataset) or files.label_files is None:
        return None
    digest = hashlib.sha256(files.lookup.tobytes())
    for name, file in zip(files.names, files.label_files, strict=True):
        status = os.stat(file)
        digest.update(f"{name}\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
    return folder / f"{digest.hexdigest()[:32]}.counts"


def read(file: Path | None, images: int) -> Counts | None:
    """What was kept, or None where there is nothing usable."""
    if file is None or not file.is_file():
        return None
    content = file.read_bytes()
    if len(content) != images * 256 * 8 + 32 or hashlib.sha256(content[32:]).digest() != content[:32]:
        log.warning("%s is damaged: the classes are counted again", file)
        return None
    return np.frombuffer(content[32:], "<i8").reshape(images, 256).astype(np.int64)


def keep(file: Path | None, counts: Counts) -> None:
    """Write it whole or not at all; a folder that cannot be written to is no error, it is counted again next time."""
    if file is None:
        return
    content = counts.astype("<i8").tobytes()
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(file, hashlib.sha256(content).digest() + content)
    except OSError as error:
        log.warning("class counts cannot be kept in %s (%s)", file.parent, error.strerror)
