"""The spool: what the forward gave, in small HDF5 files that appear whole or not at all.

A file holds 16 to 64 images: either label (run lengths, lossless) and float32 scores at output size, or low-resolution
float32 logits from which scores are made again bit for bit. ``/<array>/<id>`` is one array of one image; ``/id``,
``/name``, ``/size``, ``/crc`` list the images; ``/high/<confidence>`` is the first pass's histogram of them all, so
that selection adds up files instead of reading pixels. A file is written under a temporary name, closed, fsynced and
renamed. Every byte of meaning lies under a checksum:
an image's arrays under its own, all else under the file's.
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

from esl_dist.pseudo_labels.scores.keys import high_bins
from esl_dist.pseudo_labels.scores.kinds import KINDS, Kind
from esl_dist.pseudo_labels.sets.fingerprint import CANARY, Fingerprint, as_known, difference

Content = Literal["scores", "logits"]
VERSION = 2
READABLE = (1, VERSION)
"""Version 1 had no checksum over names and histograms, and its fingerprint held the confidences."""
HIGH_CHUNK = 512
"""Upper digits of a histogram that are packed, or left out, together."""
LISTS = ("id", "name", "size", "crc", "high")
ATTRIBUTES = ("version", "content", "fingerprint", "given", "scores", "key")


class Record(NamedTuple):
    """One image: ``arrays`` has ``label`` and scores ``[H, W]``, or ``logits [C, h, w]``; ``size`` is (H, W)."""

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
    """A finished file."""

    path: Path
    key: str
    ids: tuple[int, ...]
    content: Content
    kinds: frozenset[Kind]
    """Confidences whose maps it holds; none in one of logits, from which all are made."""

    def lacks(self, kinds: Sequence[Kind], logits: bool) -> tuple[Kind, ...] | Literal["logits"]:
        """What has to be made before this file serves rules that read ``kinds``, or ``logits`` themselves; empty:
        nothing.
        """
        if self.content == "logits":
            return ()
        return "logits" if logits else tuple(kind for kind in kinds if kind not in self.kinds)


class SpoolError(ValueError):
    """A spool file that cannot be used, named, with what to do."""


def pack(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What :meth:`ShardWriter.add` stores; the work is done here, in the caller's thread and outside HDF5's lock.

    A label map becomes the run lengths of its rows, one after another: a tenth of its size or less, at a tenth of
    zlib's time.
    """
    packed = {name: np.ascontiguousarray(array) for name, array in arrays.items() if name not in ("label", "crc")}
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
    """CRC-32 of the arrays' bytes in the order of their names."""
    crc = 0
    for name in sorted(arrays):
        crc = zlib.crc32(arrays[name].data, crc)
    return crc


class ShardWriter:
    """One file in the making; :meth:`close` publishes it, anything else leaves nothing behind that counts."""

    def __init__(self, path: Path, layout: Layout, key: str = "") -> None:
        self.path = path
        self.aside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        self.images: list[tuple[int, str, tuple[int, int], int]] = []
        path.parent.mkdir(parents=True, exist_ok=True)
        # metadata of this version has checksums: a flipped bit is noticed, where in older ones it can hang the library
        self.file = h5py.File(self.aside, "w", libver=("v110", "v110"))
        self.groups: dict[str, h5py.h5g.GroupID] = {}
        attributes = (
            VERSION,
            layout.content,
            json.dumps(layout.fingerprint),
            json.dumps(layout.given),
            layout.scores,
            key or uuid.uuid4().hex,
        )
        for name, value in zip(ATTRIBUTES, attributes, strict=True):
            self.file.attrs[name] = value

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
        """Write the lists and the histograms (int64 ``[C, bins]`` by confidence) and give the file its name."""
        ids, names, sizes, crcs = zip(*self.images, strict=True)
        self.file["id"], self.file["size"], self.file["crc"] = (
            np.array(ids, np.int64),
            np.array(sizes, np.int32),
            np.array(crcs, np.uint32),
        )
        self.file["name"] = np.frombuffer(json.dumps(names).encode(), np.uint8)
        for kind, histogram in high.items():
            _write_high(self.file, kind, histogram)
        self.file.attrs["index crc"] = _index_checksum(self.file)
        self.file.close()
        with open(self.aside, "rb") as written:
            os.fsync(written.fileno())
        os.replace(self.aside, self.path)
        return self.path

    def abandon(self) -> None:
        """Leave nothing behind."""
        self.file.close()
        self.aside.unlink(missing_ok=True)


def _write_high(file: h5py.File, kind: str, histogram: np.ndarray) -> None:
    """Store a histogram of which most upper digits are empty: what is not written reads as 0, at no cost."""
    chunks = (len(histogram), min(HIGH_CHUNK, histogram.shape[1]))
    packing = {"compression": "gzip", "compression_opts": 1, "chunks": chunks}
    stored = file.create_dataset(f"high/{kind}", histogram.shape, histogram.dtype, **packing)
    filled = np.flatnonzero(histogram.any(0))
    if len(filled):
        digits = slice(filled[0], filled[-1] + 1)
        stored[:, digits] = histogram[:, digits]


def _index_checksum(file: h5py.File) -> int:
    """CRC-32 of everything but the images' arrays: what the file says of itself, its lists, its histograms."""
    crc = zlib.crc32("\n".join(str(file.attrs[name]) for name in ATTRIBUTES).encode())
    for name in LISTS[:-1]:
        crc = zlib.crc32(np.ascontiguousarray(file[name][()]).data, crc)
    for kind in sorted(file["high"]) if "high" in file else ():
        crc = zlib.crc32(np.ascontiguousarray(file[f"high/{kind}"][()]).data, zlib.crc32(kind.encode(), crc))
    return crc


@contextmanager
def _opened(path: Path) -> Iterator[h5py.File]:
    """The file; whatever goes wrong with its content is said in one line that names it."""
    try:
        with h5py.File(path, "r") as file:
            yield file
    except SpoolError:
        raise
    except (
        OSError,
        KeyError,
        RuntimeError,
        ValueError,
        TypeError,
        AttributeError,
        MemoryError,
        OverflowError,
        IndexError,
    ) as error:
        raise SpoolError(f"{path}: not a readable spool file; delete it and run again") from error


def _refuse_links(path: Path, file: h5py.File) -> None:
    """What is read must lie in the file itself: another file's bytes are under no checksum and may be anybody's."""

    def look(name: bytes, info: Any) -> bytes | None:
        return None if info.type == h5py.h5l.TYPE_HARD else name  # raising in here would break h5py's lock

    foreign = file.id.links.visit(look, info=True)
    if foreign is not None:
        raise SpoolError(
            f"{path}: {foreign.decode(errors='replace')} is a link to elsewhere, which no spool of this program has; "
            "delete it"
        )


def inspect(path: Path, expected: Layout | None) -> tuple[ShardInfo, Layout]:
    """A file's images and layout; ``ValueError`` where it was written by another network, data set or machine than
    ``expected``.
    """
    with _opened(path) as file:
        if file.attrs.get("version") not in READABLE:
            raise SpoolError(
                f"{path}: spool format {file.attrs.get('version')}, this program reads {VERSION}; delete the spool"
            )
        _refuse_links(path, file)
        if file.attrs["version"] > 1 and _index_checksum(file) != int(file.attrs["index crc"]):
            raise SpoolError(f"{path}: its list of images is damaged on disk; delete this file and run again")
        fingerprint = json.loads(file.attrs["fingerprint"])
        fingerprint.pop("kinds", None)
        layout = Layout(
            "logits" if "logits" in file else "scores",
            fingerprint,
            json.loads(file.attrs["given"]),
            str(file.attrs["scores"]),
        )
        ids = tuple(int(i) for i in np.sort(file["id"][()]))
        info = ShardInfo(
            path, str(file.attrs["key"]), ids, layout.content, frozenset(kind for kind in KINDS if kind in file)
        )
    if expected is not None:
        # the canary is known once the network has run, which a spool that has all does not need
        known = CANARY in expected.fingerprint
        reason = difference(as_known(expected.fingerprint, known), as_known(layout.fingerprint, known))
        if reason is None and layout.content == "scores" and layout.scores != expected.scores:
            reason = f"scores: {layout.scores!r} there, {expected.scores!r} here"
        if reason:
            raise SpoolError(f"{path} was written by another run ({reason}); delete the spool or choose another folder")
    return info, layout


def listing(folder: Path, expected: Layout | None) -> tuple[list[ShardInfo], Layout | None]:
    """The finished files of a folder in order of their names, and their layout (None where there is no file)."""
    found: list[ShardInfo] = []
    for path in sorted(folder.glob("rank*.h5")):
        info, layout = inspect(path, expected)
        expected = expected or layout
        found.append(info)
    return found, expected


def packed_images(shard: ShardInfo, wanted: Sequence[str] | None = None) -> Iterator[Record]:
    """A file's images in order of their ids, as they are stored; with ``wanted`` only those arrays, and no checksum is
    compared.

    Raises:
        ValueError: a stored byte has changed.
    """
    with _opened(shard.path) as file:
        names = json.loads(file["name"][()].tobytes())
        sizes, crcs, ids = file["size"][()], file["crc"][()], file["id"][()]
        groups = {key: file[key].id for key in file if key not in LISTS and (wanted is None or key in wanted)}
        for row in np.argsort(ids):
            packed = {key: _array(group, str(ids[row]).encode()) for key, group in groups.items()}
            if wanted is None and checksum(packed) != int(crcs[row]):
                raise SpoolError(f"{shard.path}: image {names[row]} is damaged on disk; delete this file and run again")
            yield Record(int(ids[row]), names[row], (int(sizes[row, 0]), int(sizes[row, 1])), packed)


def read(shard: ShardInfo, wanted: Sequence[str], verify: bool = True) -> Iterator[Record]:
    """The ``wanted`` arrays of a file's images in order of their ids; ``ValueError`` where a byte has changed."""
    stored = [*wanted, "run value", "run length"] if "label" in wanted else wanted
    for record in packed_images(shard, None if verify else stored):
        yield record._replace(
            arrays=unpack({key: record.arrays[key] for key in record.arrays if key in stored}, record.size)
        )


def extend(
    shard: ShardInfo, layout: Layout, made: Mapping[int, Mapping[str, np.ndarray]], high: Mapping[Kind, np.ndarray]
) -> int:
    """Write a file anew with more confidences of its images (``made[id]``), or with their logits in place of all
    scores.

    The file keeps its name and its key: it holds the same images. Returns the bytes stored.

    Raises:
        ValueError: a stored byte has changed, or a label that was made again differs from the one that is there.
    """
    histograms = {kind: counts for kind in KINDS if (counts := read_high(shard, kind, layout.scores)) is not None}
    writer, stored = ShardWriter(shard.path, layout, shard.key), 0
    try:
        for record in packed_images(shard):
            new = made[record.id]
            old = {} if "logits" in new else record.arrays
            if any(
                key in old and not np.array_equal(old[key], new[key])
                for key in ("run value", "run length")
                if key in new
            ):
                raise SpoolError(
                    f"{shard.path}: image {record.name} has another label today, so this device does not "
                    "compute the same twice; delete the spool"
                )
            stored += writer.add(record.id, record.name, record.size, pack({**old, **new}))
        writer.close({**histograms, **high})
    except BaseException:
        writer.abandon()
        raise
    return stored


def _array(group: h5py.h5g.GroupID, name: bytes) -> np.ndarray:
    dataset = h5py.h5d.open(group, name)
    plan = dataset.get_create_plist()
    if plan.get_layout() == h5py.h5d.VIRTUAL or plan.get_external_count():
        raise SpoolError(
            f"image {name.decode()} lies in another file, which no spool of this program does; delete the spool"
        )
    array = np.empty(dataset.shape, dataset.dtype)
    dataset.read(h5py.h5s.ALL, h5py.h5s.ALL, array, _stored_as(array.dtype))
    return array


@lru_cache(maxsize=16)
def _stored_as(kind: np.dtype[Any]) -> h5py.h5t.TypeID:
    return h5py.h5t.py_create(kind, logical=True)


def read_high(shard: ShardInfo, kind: Kind, scores: str) -> np.ndarray | None:
    """The file's first-pass histogram, int64 ``[C, bins]``, or None where it holds none of this kind, mode and output
    size.
    """
    with _opened(shard.path) as file:
        if str(file.attrs["scores"]) != scores or f"high/{kind}" not in file:
            return None
        histogram: np.ndarray = file[f"high/{kind}"][()]
        if histogram.ndim != 2 or histogram.shape[1] != high_bins(kind):
            raise SpoolError(
                f"{shard.path}: its histogram of {kind} has the shape {histogram.shape}; delete this file and run again"
            )
        return histogram
