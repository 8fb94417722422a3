"""One file of prepared data: up to a few hundred images and labels at one size, uint8, an HDF5 chunk each.

``/image [n, 3, H, W]`` is stored as it is (photographs hardly shrink), ``/label [n, H, W]`` by gzip. ``/checksum [n,
2]`` holds the Adler-32 of both, compared at every read; ``/problems`` says, as JSON, why an image or a label could not
be read when the file was made. A file appears whole or not at all: written aside, forced to the disk, renamed. Its own
bookkeeping has checksums (``libver`` v110): in HDF5's oldest format, its default, a flipped bit can keep the library in
a loop for ever.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal, NamedTuple

import h5py
import numpy as np
from numpy.typing import NDArray

from esl_dist import atomic
from esl_dist.data.decode import DataError
from esl_dist.runs import hdf5

Pixels = NDArray[np.uint8]
What = Literal["image", "label"]

_COLUMN: dict[What, int] = {"image": 0, "label": 1}
_OPEN_FILES = 256
"""Files that a process keeps open: all of them, for the published data sets."""


class DamagedError(Exception):
    """A file that is missing, cut short or changed since it was written; the message names it."""


class Sample(NamedTuple):
    """An image ``[3, H, W]`` and its label ``[H, W]`` (None where there are none), contiguous; zeros where one could
    not be read, and why.
    """

    image: Pixels
    label: Pixels | None
    problems: tuple[str, str] = ("", "")


def write(path: Path, key: dict[str, Any], samples: Iterable[Sample], count: int) -> None:
    """Write ``count`` samples of one shape.

    Args:
        key: what the file was made of, JSON-ready; ``check`` compares it.

    Raises:
        OSError: the disk refused.
    """
    aside = path.with_name(f".{path.name}.{os.getpid()}.part")
    checksums, problems = np.zeros((count, 2), np.uint32), {}
    try:
        with h5py.File(aside, "w", libver=("v110", "v110")) as file:
            file.attrs["key"] = json.dumps(key, sort_keys=True)
            for row, sample in enumerate(samples):
                _put(file, "image", row, count, sample.image)
                checksums[row, 0] = zlib.adler32(sample.image.data)
                if sample.label is not None:
                    _put(file, "label", row, count, sample.label)
                    checksums[row, 1] = zlib.adler32(sample.label.data)
                if any(sample.problems):
                    problems[str(row)] = sample.problems
            told = json.dumps(problems).encode()
            file["checksum"] = checksums
            file["problems"] = np.frombuffer(told, np.uint8)
            file.attrs["index_sha256"] = _index_sha256(file.attrs["key"], checksums, told)
        with open(aside, "rb") as written:
            atomic.sync_file(written.fileno())
        atomic.rename(aside, path)
        atomic.sync_folder(path.parent)
    finally:
        # This one after an error, and what a killed process left of an earlier attempt.
        for left in path.parent.glob(f".{path.name}.*.part"):
            left.unlink(missing_ok=True)


def _put(file: h5py.File, what: What, row: int, count: int, pixels: Pixels) -> None:
    if what not in file:
        packing = {"compression": "gzip", "compression_opts": 1} if what == "label" else {}
        file.create_dataset(what, (count, *pixels.shape), np.uint8, chunks=(1, *pixels.shape), **packing)
    file[what].write_direct(pixels, dest_sel=np.s_[row])


def _index_sha256(key: str, checksum: NDArray[np.uint32], problems: bytes) -> str:
    """Of what says what the pixels are."""
    return hashlib.sha256(b"\0".join((key.encode(), checksum.tobytes(), problems))).hexdigest()


class _Open:
    """A file that is being read."""

    def __init__(self, path: Path) -> None:
        # Published files never change: no lock is needed, and not every file system has them. A chunk is read once: no
        # cache either.
        self.file = h5py.File(path, "r", locking=False, rdcc_nbytes=0)
        hdf5.refuse_links(self.file)
        key = hdf5.text(self.file, "key")
        self.checksum: NDArray[np.uint32] = hdf5.array(self.file, "checksum", np.uint32, 2)
        problems = hdf5.array(self.file, "problems", np.uint8, 1).tobytes()
        recorded = self.file.attrs.get("index_sha256")  # files of releases before 0.2 have none
        if recorded is not None and recorded != _index_sha256(key, self.checksum, problems):
            raise ValueError("its index is not what was written")
        self.key: dict[str, Any] = hdf5.json_of(key, dict[str, Any], "key")
        told = hdf5.json_of(problems, dict[str, list[str]], "problems")
        self.problems = {row: (image, label) for row, (image, label) in told.items()}
        self.pixels = {what: self.file[what] for what in _COLUMN if what in self.file}

    def read(self, row: int, what: What) -> Pixels:
        stored = self.pixels[what]
        pixels = np.empty(stored.shape[1:], np.uint8)
        stored.read_direct(pixels, np.s_[row])
        if zlib.adler32(pixels.data) != self.checksum[row, _COLUMN[what]]:
            raise OSError(f"{what} {row} is not what was written")
        return pixels


# A forked loader process opens files of its own: HDF5's are not shared safely.
@functools.lru_cache(maxsize=_OPEN_FILES)
def _opened(path: Path, process: int) -> _Open:
    return _Open(path)


def read(path: Path, row: int, what: What) -> Pixels:
    """The image ``[3, H, W]`` or label ``[H, W]`` of a row.

    Raises:
        DataError: it could not be read when the file was made; the message is the one of then.
        DamagedError: the file cannot give it.
    """
    try:
        shard = _opened(path, os.getpid())
        problem = shard.problems.get(str(row), ("", ""))[_COLUMN[what]]
        if problem:
            raise DataError(problem)
        return shard.read(row, what)
    except DataError:
        raise
    except hdf5.FAULTS as error:
        raise DamagedError(f"{path.name} is damaged ({_one_line(error)})") from None


class Found(NamedTuple):
    """What is in a whole file."""

    sha256: str
    bytes: int
    unreadable: list[str]
    """What was wrong with each sample that could not be read."""


def check(path: Path, key: dict[str, Any]) -> Found:
    """Read all of a file and compare every checksum.

    Raises:
        DamagedError: it is not whole, or was made of something else than ``key``.
    """
    try:
        shard = _Open(path)
        with shard.file:
            if shard.key != key:
                raise DamagedError(f"{path.name} was made of other files or with other settings")
            for row in range(len(shard.checksum)):
                for what in shard.pixels:
                    if not shard.problems.get(str(row), ("", ""))[_COLUMN[what]]:
                        shard.read(row, what)
        with open(path, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except hdf5.FAULTS as error:
        raise DamagedError(f"{path.name} is damaged ({_one_line(error)})") from None
    return Found(digest, path.stat().st_size, [image or label for image, label in shard.problems.values()])


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
