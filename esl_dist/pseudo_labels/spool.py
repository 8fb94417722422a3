"""The spool: what the forward gave, in small HDF5 files that appear whole or not at all.

A file holds 16 to 64 images under ``/images/<id>``: either label (gzip) and float32 scores at output size, or low-resolution
float32 logits from which scores are made again bit for bit; each with its name, output size and CRC. ``/high/<kind>`` is the
first pass's histogram of these images, so that selection adds up files instead of reading pixels. A file is written under a
temporary name, closed, fsynced and renamed (default libver: with ``latest`` a killed file never opens again).
"""

from __future__ import annotations

import json
import os
import uuid
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import h5py
import numpy as np

from esl_dist.pseudo_labels.fingerprint import Fingerprint, difference

Content = Literal["scores", "logits"]
VERSION = 1


class Record(NamedTuple):
    """One spooled image: ``arrays`` has ``label`` and scores ``[H, W]``, or ``logits [C, h, w]``; ``size`` is (H, W)."""

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


def _compress(label: np.ndarray) -> bytes:
    """What HDF5's gzip filter would store; zlib's run-length strategy is as fast as level 1 and half the size on label maps."""
    stream = zlib.compressobj(1, zlib.DEFLATED, zlib.MAX_WBITS, zlib.DEF_MEM_LEVEL, zlib.Z_RLE)
    return stream.compress(label.data) + stream.flush()


def pack(arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """What :meth:`ShardWriter.add` stores, with the work that releases the interpreter done here, outside HDF5's lock."""
    contiguous = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    packed: dict[str, Any] = {"arrays": contiguous, "crc": checksum(contiguous)}
    if "label" in contiguous:
        packed["compressed"] = _compress(contiguous["label"])
    return packed


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
        self.images = 0
        path.parent.mkdir(parents=True, exist_ok=True)
        self.file = h5py.File(self.aside, "w")
        self.file.attrs["version"] = VERSION
        self.file.attrs["content"] = layout.content
        self.file.attrs["fingerprint"] = json.dumps(layout.fingerprint)
        self.file.attrs["given"] = json.dumps(layout.given)
        self.file.attrs["scores"] = layout.scores
        self.file.attrs["key"] = uuid.uuid4().hex

    def add(self, index: int, name: str, size: tuple[int, int], packed: dict[str, Any]) -> int:
        """Append one image; the number of bytes stored."""
        group = self.file.create_group(f"images/{index}")
        group.attrs["name"], group.attrs["size"], group.attrs["crc"] = name, size, packed["crc"]
        stored = 0
        for key, array in packed["arrays"].items():
            if key == "label":
                dataset = group.create_dataset(key, array.shape, array.dtype, chunks=array.shape, compression="gzip", compression_opts=1)
                dataset.id.write_direct_chunk((0, 0), packed["compressed"])
                stored += len(packed["compressed"])
            else:
                group.create_dataset(key, data=array)
                stored += array.nbytes
        self.images += 1
        return stored

    def close(self, high: Mapping[Any, np.ndarray]) -> Path:
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
    """A file's images and layout; ``ValueError`` where it was written by another network, data set or machine than ``expected``."""
    with _opened(path) as file:
        if file.attrs.get("version") != VERSION:
            raise ValueError(f"{path}: spool format {file.attrs.get('version')}, this program reads {VERSION}; delete the spool")
        layout = Layout(str(file.attrs["content"]), json.loads(file.attrs["fingerprint"]), json.loads(file.attrs["given"]), str(file.attrs["scores"]))  # type: ignore[arg-type]
        info = ShardInfo(path, str(file.attrs["key"]), tuple(sorted(int(i) for i in file["images"])))
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


def read(shard: ShardInfo) -> Iterator[Record]:
    """The images of one file in order of their ids; ``ValueError`` where a byte has changed."""
    with _opened(shard.path) as file:
        for index in shard.ids:
            group = file[f"images/{index}"]
            arrays = {}
            for key, dataset in group.items():
                if key == "label":
                    _, data = dataset.id.read_direct_chunk((0, 0))
                    arrays[key] = _decompressed(data, dataset.shape, shard.path)
                else:
                    arrays[key] = dataset[()]
            if checksum(arrays) != int(group.attrs["crc"]):
                raise ValueError(f"{shard.path}: image {group.attrs['name']} is damaged on disk; delete this file and run again")
            height, width = (int(n) for n in group.attrs["size"])
            yield Record(index, str(group.attrs["name"]), (height, width), arrays)


def _decompressed(data: bytes, shape: tuple[int, ...], path: Path) -> np.ndarray:
    try:
        return np.frombuffer(zlib.decompress(data), np.uint8).reshape(shape)
    except (zlib.error, ValueError) as error:
        raise ValueError(f"{path}: a label map is damaged on disk; delete this file and run again") from error


def read_high(shard: ShardInfo, kind: str, scores: str) -> np.ndarray | None:
    """The file's first-pass histogram, or None where it holds none of this kind, mode and output size."""
    with _opened(shard.path) as file:
        if str(file.attrs["scores"]) != scores or f"high/{kind}" not in file:
            return None
        histogram: np.ndarray = file[f"high/{kind}"][()]
        return histogram
