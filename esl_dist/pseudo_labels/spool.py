"""The spool: what the forward gave, in small HDF5 files that appear whole or not at all.

A file holds 16 to 64 images: either label (run lengths, lossless) and float32 scores at output size, or low-resolution
float32 logits from which scores are made again bit for bit. ``/<array>/<id>`` is one array of one image; ``/id``,
``/name``, ``/size``, ``/crc`` list the images; ``/high/<kind>`` is the first pass's histogram of them all, so that
selection adds up files instead of reading pixels. A file is written under a temporary name, closed, fsynced and renamed
(default libver: with ``latest`` a killed file never opens again).
"""

from __future__ import annotations

import json
import os
import uuid
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, NamedTuple

import h5py
import numpy as np

from esl_dist.pseudo_labels.fingerprint import Fingerprint, difference

Content = Literal["scores", "logits"]
VERSION = 1


class Record(NamedTuple):
    """One spooled image: ``arrays`` has ``label`` and scores ``[H, W]``, or ``logits [C, h, w]``; ``size``
    is (H, W).
    """

    id: int
    name: str
    size: tuple[int, int]
    arrays: dict[str, np.ndarray]


@dataclass(frozen=True)
class Layout:
    """What every file of a spool has in common."""

    content: Content
    fingerprint: Fingerprint
    given: Fingerprint
    """The part of the fingerprint that the caller chose (checkpoint, config): it names the label sets."""
    scores: str
    """How ``/high`` (and, in a scores spool, the scores) were made: mode and output size."""


class ShardInfo(NamedTuple):
    path: Path
    key: str
    ids: tuple[int, ...]


def pack(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What :meth:`ShardWriter.add` stores; the work is done here, in the caller's thread and outside HDF5's lock.

    A label map becomes the run lengths of its rows, one after another: a tenth of its size or less, at a tenth of
    zlib's time.
    """
    packed = {name: np.ascontiguousarray(array) for name, array in arrays.items() if name != "label"}
    if "label" in arrays:
        flat = np.ascontiguousarray(arrays["label"]).reshape(-1)
        starts = np.concatenate([[0], np.flatnonzero(flat[1:] != flat[:-1]) + 1])
        packed["run value"] = flat[starts]
        packed["run length"] = np.diff(starts, append=len(flat)).astype(np.uint32)
    packed["crc"] = np.array(checksum(packed), np.uint32)
    return packed


def unpack(packed: dict[str, np.ndarray], size: tuple[int, int]) -> dict[str, np.ndarray]:
    """The arrays that :func:`pack` was given; label and scores share the shape ``size``."""
    arrays = {name: array for name, array in packed.items() if not name.startswith("run")}
    if "run value" in packed:
        arrays["label"] = np.repeat(packed["run value"], packed["run length"]).reshape(size)
    return arrays


def checksum(arrays: Mapping[str, np.ndarray]) -> int:
    crc = 0
    for name in sorted(arrays):
        crc = zlib.crc32(arrays[name].data, crc)
    return crc


class ShardWriter:
    """One file in the making; :meth:`close` publishes it, anything else leaves nothing behind that counts."""

    def __init__(self, path: Path, layout: Layout) -> None:
        self.path = path
        self.aside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        self.images: list[tuple[int, str, tuple[int, int], int]] = []
        path.parent.mkdir(parents=True, exist_ok=True)
        self.file = h5py.File(self.aside, "w")
        self.groups: dict[str, h5py.h5g.GroupID] = {}
        self.file.attrs["version"] = VERSION
        self.file.attrs["content"] = layout.content
        self.file.attrs["fingerprint"] = json.dumps(layout.fingerprint)
        self.file.attrs["given"] = json.dumps(layout.given)
        self.file.attrs["scores"] = layout.scores
        self.file.attrs["key"] = uuid.uuid4().hex

    def add(self, index: int, name: str, size: tuple[int, int], packed: Mapping[str, np.ndarray]) -> int:
        """Append one image; the number of bytes stored."""
        stored = 0
        for key, array in packed.items():
            if key == "crc":
                continue
            if key not in self.groups:
                self.groups[key] = self.file.create_group(key).id
            # h5py's own layer, below the one that costs half a millisecond for every dataset
            kind = _stored_as(array.dtype)
            dataset = h5py.h5d.create(self.groups[key], str(index).encode(), kind, h5py.h5s.create_simple(array.shape))
            dataset.write(h5py.h5s.ALL, h5py.h5s.ALL, array, kind)
            stored += array.nbytes
        self.images.append((index, name, size, int(packed["crc"])))
        return stored

    def close(self, high: Mapping[Any, np.ndarray]) -> Path:
        ids, names, sizes, crcs = zip(*self.images, strict=True)
        self.file["id"], self.file["size"], self.file["crc"] = (
            np.array(ids, np.int64),
            np.array(sizes, np.int32),
            np.array(crcs, np.uint32),
        )
        self.file["name"] = np.frombuffer(json.dumps(names).encode(), np.uint8)
        for kind, histogram in high.items():
            self.file.create_dataset(f"high/{kind}", data=histogram, compression="gzip", compression_opts=1)
        self.file.close()
        with open(self.aside, "rb") as written:
            os.fsync(written.fileno())
        os.replace(self.aside, self.path)
        return self.path

    def abandon(self) -> None:
        self.file.close()
        self.aside.unlink(missing_ok=True)


@contextmanager
def _opened(path: Path) -> Iterator[h5py.File]:
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise ValueError(f"{path}: not a readable spool file; delete it and run again") from error
    with file:
        yield file


def inspect(path: Path, expected: Layout | None) -> tuple[ShardInfo, Layout]:
    """A file's images and layout; ``ValueError`` where it was written by another network, data set or machine than
    ``expected``.
    """
    with _opened(path) as file:
        if file.attrs.get("version") != VERSION:
            raise ValueError(
                f"{path}: spool format {file.attrs.get('version')}, this program reads {VERSION}; delete the spool"
            )
        layout = Layout(
            str(file.attrs["content"]),  # type: ignore[arg-type]
            json.loads(file.attrs["fingerprint"]),
            json.loads(file.attrs["given"]),
            str(file.attrs["scores"]),
        )
        info = ShardInfo(path, str(file.attrs["key"]), tuple(int(i) for i in np.sort(file["id"][()])))
    if expected is not None:
        reason = difference(expected.fingerprint, layout.fingerprint)
        if reason is None and layout.content != expected.content:
            reason = f"content: {layout.content!r} there, {expected.content!r} here"
        if reason is None and layout.content == "scores" and layout.scores != expected.scores:
            reason = f"scores: {layout.scores!r} there, {expected.scores!r} here"
        if reason:
            raise ValueError(f"{path} was written by another run ({reason}); delete the spool or choose another folder")
    return info, layout


def listing(folder: Path, expected: Layout | None) -> tuple[list[ShardInfo], Layout | None]:
    """The finished files of a folder in order of their names, and their layout (None where there is no file)."""
    found: list[ShardInfo] = []
    for path in sorted(folder.glob("rank*.h5")):
        info, layout = inspect(path, expected)
        expected = expected or layout
        found.append(info)
    return found, expected


def read(shard: ShardInfo, wanted: Sequence[str], verify: bool = True) -> Iterator[Record]:
    """The ``wanted`` arrays of a file's images in order of their ids; ``ValueError`` where a stored byte
    has changed.
    """
    with _opened(shard.path) as file:
        names = json.loads(file["name"][()].tobytes())
        sizes, crcs, ids = file["size"][()], file["crc"][()], file["id"][()]
        keys = [
            key
            for key in file
            if key not in ("id", "name", "size", "crc", "high")
            and (verify or key in wanted or ("label" in wanted and key.startswith("run")))
        ]
        groups = {key: file[key].id for key in keys}
        for row in np.argsort(ids):
            size = int(sizes[row, 0]), int(sizes[row, 1])
            packed = {key: _array(group, str(ids[row]).encode()) for key, group in groups.items()}
            if verify and checksum(packed) != int(crcs[row]):
                raise ValueError(f"{shard.path}: image {names[row]} is damaged on disk; delete this file and run again")
            yield Record(int(ids[row]), names[row], size, unpack(packed, size))


def _array(group: h5py.h5g.GroupID, name: bytes) -> np.ndarray:
    dataset = h5py.h5d.open(group, name)
    array = np.empty(dataset.shape, dataset.dtype)
    dataset.read(h5py.h5s.ALL, h5py.h5s.ALL, array, _stored_as(array.dtype))
    return array


@lru_cache(maxsize=16)
def _stored_as(kind: np.dtype[Any]) -> h5py.h5t.TypeID:
    return h5py.h5t.py_create(kind, logical=True)


def read_high(shard: ShardInfo, kind: str, scores: str) -> np.ndarray | None:
    """The file's first-pass histogram, or None where it holds none of this kind, mode and output size."""
    with _opened(shard.path) as file:
        if str(file.attrs["scores"]) != scores or f"high/{kind}" not in file:
            return None
        histogram: np.ndarray = file[f"high/{kind}"][()]
        return histogram
