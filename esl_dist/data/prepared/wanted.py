"""What prepared data must have been made of to give the same bytes as reading the originals."""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

import numpy as np

from esl_dist.config.schema import DomainConfig
from esl_dist.data.dataset import FolderDataset
from esl_dist.data.folder import FOLDER
from esl_dist.data.transforms import Fit, fit_image, fit_label

MANIFEST = "manifest.json"
FORMAT = 2
"""2: images are turned as their EXIF says, 16-bit grey is scaled, labels of few bits keep their ids."""


class Entry(TypedDict):
    """One file in the manifest."""

    file: str
    first: int
    """Index of its first image in the data set."""
    images: int
    originals: str
    """SHA-256 over the names and sizes of the files that it was made of."""
    sha256: str
    bytes: int
    unreadable: list[str]


@dataclass(frozen=True)
class Wanted:
    """A data set at one size: to be prepared in ``folder``, or looked for there."""

    originals: FolderDataset
    folder: Path
    stem: str
    """What the folder's name begins with for every size of this data set."""
    size: tuple[int, int]
    fit: Fit
    settings: dict[str, Any]

    def path(self, number: int) -> Path:
        return self.folder / f"{number:05d}.h5"

    def files(self, per_file: int) -> int:
        return -(-len(self.originals) // per_file)

    def rows(self, number: int, per_file: int) -> range:
        """Indices of a file's images."""
        return range(number * per_file, min((number + 1) * per_file, len(self.originals)))

    def key(self, number: int, per_file: int) -> dict[str, Any]:
        """What a file says of itself."""
        rows = self.rows(number, per_file)
        return {
            "settings": self.settings,
            "first": rows.start,
            "images": len(rows),
            "originals": self.originals_sha256(rows),
        }

    def originals_sha256(self, rows: range) -> str:
        """Over names and sizes in bytes of images and labels. Not over their times: a copy of the data on another disk
        has others.
        """
        digest = hashlib.sha256()
        for index in rows:
            files = [self.originals.image_files[index]] + (
                [self.originals.label_files[index]] if self.originals.label_files else []
            )
            digest.update(f"{self.originals.names[index]}\0{' '.join(str(_bytes(file)) for file in files)}\n".encode())
        return digest.hexdigest()


def describe(
    originals: FolderDataset, domain: DomainConfig, split: str, size: tuple[int, int], classes: str, folder: Path
) -> Wanted:
    """Describe a domain's images and labels at ``size`` (width, height); below ``folder`` each data set and size has a
    folder of its own.
    """
    listed = domain.list if split == domain.split else ""
    own = {name: value for name in ("images", "encoding", "shares") if (value := getattr(domain, name))}
    if domain.dataset == FOLDER:  # patterns are no names of folders
        own["root"] = domain.root
        parts = [FOLDER, split, hashlib.sha256(f"{own} {domain.labels}".encode()).hexdigest()[:8]]
    else:
        parts = [domain.dataset, split, domain.labels]
    stem = "-".join(part.replace("/", "_").replace(":", "_") for part in (*parts, Path(listed).stem) if part)
    shape = f"{size[0]}x{size[1]}" + ("-pad" if domain.fit == "pad" else "")
    settings = {
        "format": FORMAT,
        "dataset": domain.dataset,
        "root": domain.root,
        **own,
        "split": split,
        "labels": domain.labels,
        "list": listed,
        "labelled": originals.labelled,
        "size": list(size),
        "fit": domain.fit,
        "protocol": Path(classes).stem,
        "train ids": hashlib.sha256(originals.lookup.tobytes()).hexdigest()[:16],
        "resize": resize_fingerprint(),
    }
    return Wanted(
        originals, folder / f"{stem}-{shape}-{Path(classes).stem}", stem, (size[0], size[1]), domain.fit, settings
    )


@functools.cache
def resize_fingerprint() -> str:
    """What resizing on this machine, with these libraries, makes of a fixed picture: where it differs, prepared pixels
    would differ too.
    """
    picture = np.random.RandomState(0).randint(0, 256, (157, 211, 3)).astype(np.uint8)
    digest = hashlib.sha256()
    for size in ((96, 64), (320, 200)):
        digest.update(
            fit_image(picture, size, "stretch").numpy().tobytes()
            + fit_label(picture[..., 0], size, "stretch").numpy().tobytes()
        )
    return digest.hexdigest()[:16]


def _bytes(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError:
        return -1  # a link to nowhere: named when it is read
