"""Writing prepared data: file by file, each kept if it is there and right, the manifest last."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypedDict

import numpy as np

from esl_dist.data.dataset import DataError, EncodingError
from esl_dist.data.prepared import shard
from esl_dist.data.prepared.shard import DamagedError, Sample
from esl_dist.data.prepared.wanted import MANIFEST, Entry, Wanted
from esl_dist.data.transforms import fit_image, fit_label
from esl_dist.runs import Record


class Prepared(NamedTuple):
    entry: Entry
    made: bool
    """False where it was there already and every checksum agrees."""
    rejected: str
    """Why one that was there is not kept."""


@dataclass(frozen=True)
class FileMaker:
    """Number of a file -> ``Prepared``; everything a worker process needs. File ``number`` of this worker's share is
    ``first + number * step``.
    """

    wanted: Wanted
    per_file: int
    recorded: Mapping[str, str]
    """SHA-256 of the files in an earlier manifest, by name."""
    first: int = 0
    step: int = 1

    def __call__(self, number: int) -> Prepared:
        return prepare_file(self.wanted, self.first + number * self.step, self.per_file, self.recorded)


def prepare_file(wanted: Wanted, number: int, per_file: int, recorded: Mapping[str, str]) -> Prepared:
    """Make a file, or keep it if it is there, whole and made of the same.

    Raises:
        DataError: a label of another encoding; unreadable images are recorded in the file instead.
        ValueError: the disk is full or refuses.
    """
    path, key, rows = wanted.path(number), wanted.key(number, per_file), wanted.rows(number, per_file)
    rejected, made = "", False
    found = None
    if path.exists():
        try:
            found = shard.check(path, key)
            if recorded.get(path.name, found.sha256) != found.sha256:
                raise DamagedError(f"{path.name} has another SHA-256 than the manifest says")
        except DamagedError as error:
            found, rejected = None, str(error)
    if found is None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            shard.write(path, key, (_sample(wanted, index) for index in rows), len(rows))
            found, made = shard.check(path, key), True
        except OSError as error:
            raise ValueError(
                f"{path}: cannot be written ({error.strerror or error}); make room, or set data.prepared to another"
                " folder"
            ) from None
        except DamagedError as error:
            raise ValueError(f"{wanted.folder}: {error} right after it was written; check that disk") from None
    entry = Entry(
        file=path.name,
        first=rows.start,
        images=len(rows),
        originals=key["originals"],
        sha256=found.sha256,
        bytes=found.bytes,
        unreadable=found.unreadable,
    )
    return Prepared(entry, made, rejected)


def _sample(wanted: Wanted, index: int) -> Sample:
    """An image and its label as the loader would make them."""
    width, height = wanted.size
    image, label = np.zeros((3, height, width), np.uint8), np.zeros((height, width), np.uint8)
    problems = ["", ""]
    try:
        image = fit_image(wanted.originals.image(index), wanted.size, wanted.fit).numpy()
    except DataError as error:
        problems[0] = str(error)
    if not wanted.originals.labelled:
        return Sample(image, None, (problems[0], ""))
    try:
        label = fit_label(wanted.originals.label(index), wanted.size, wanted.fit).numpy()
    except EncodingError:
        raise
    except DataError as error:
        problems[1] = str(error)
    return Sample(image, label, (problems[0], problems[1]))


def publish(wanted: Wanted, per_file: int, entries: Sequence[Entry]) -> None:
    """Write the manifest that makes the folder's files count: whole or not at all."""
    content: Manifest = {
        "settings": wanted.settings,
        "images_per_file": per_file,
        "bytes": sum(entry["bytes"] for entry in entries),
        "files": list(entries),
    }
    _record(wanted.folder).write(content)
    for left in set(wanted.folder.glob("[0-9]*.h5")) - {wanted.folder / entry["file"] for entry in entries}:
        left.unlink()  # of a longer list, or of files that held fewer images


class Manifest(TypedDict):
    """``manifest.json``."""

    settings: dict[str, Any]
    images_per_file: int
    bytes: int
    files: list[Entry]


def read_manifest(folder: Path) -> Manifest | None:
    """A folder's manifest, None where there is none or, with a warning, where it is damaged."""
    content = _record(folder).recall()
    return content if content is not None and content["images_per_file"] > 0 else None


def _record(folder: Path) -> Record[Manifest]:
    return Record(folder / MANIFEST, Manifest, "prepare that data again, its files are kept where they are whole")


def other_settings(manifest: Manifest, wanted: Wanted) -> str:
    """The first setting in which prepared data differs from what is wanted; empty where all agree."""
    there = manifest["settings"]
    differing = next((key for key in wanted.settings | there if there.get(key) != wanted.settings.get(key)), None)
    return (
        ""
        if differing is None
        else f"{differing}={_shown(there.get(differing))}, wanted is {_shown(wanted.settings.get(differing))}"
    )


def _shown(value: Any) -> str:
    return "x".join(map(str, value)) if isinstance(value, list) else repr(value) if value == "" else str(value)
