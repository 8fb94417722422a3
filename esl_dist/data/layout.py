"""From a description of a folder tree to a data set: list, pair by name, refuse what is incomplete."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from esl_dist import labels
from esl_dist.data import decode, files
from esl_dist.data.dataset import FolderDataset, lookup_table
from esl_dist.data.meaning import UNLABELLED, Meaning
from esl_dist.labels import Encoding, Protocol


@dataclass(frozen=True)
class Layout:
    """Where a data set's owner puts images and labels, and how the labels are stored."""

    what: str
    """The data set's name, for messages."""
    images: str
    """Folder of the images, relative to the root; one ``*`` in it stands for any folder's name, which begins the
    images' names.
    """
    labels: str = ""
    """Folder of the label ids, likewise; empty where the owner ships none for this split."""
    image_name: str = "*"
    """What an image's file is called without its extension; ``*`` is its name."""
    label_name: str = "*"
    """What a label's file is called."""
    encoding: str | Encoding = ""
    """What an id means, or a key of ``esl_dist.labels.ENCODINGS``."""
    label_names: Sequence[str] | None = None
    """Names of the stored ids where the set's own configuration lists them (Mapillary Vistas)."""
    read_ids: Callable[[Path], NDArray[np.uint8]] = decode.read_ids
    """Decoder of a label file."""
    split_list: str = ""
    """Name of a split that is no folder but a list ``<root>/<name>.txt``; empty for all images."""
    origin: str = ""
    """Which files of the owner's hold images and labels, and where they are: for who misses a folder."""


def open_layout(
    root: Path,
    layout: Layout,
    classes: Protocol,
    *,
    labelled: bool,
    list_file: Path | None = None,
    meaning: Meaning | None = None,
) -> FolderDataset:
    """List a data set's files; labels are paired with images by name, never by order.

    Args:
        labelled: look for labels.
        list_file: selects images and gives their order; None takes every image, sorted by name.
        meaning: of the label files, where it is not the owner's.

    Raises:
        ValueError: a missing folder, no image, an image without a label, a bad list, or classes that the encoding
            cannot give.
    """
    images = _below(root, layout.images, layout, layout.image_name, files.IMAGE_SUFFIXES)
    if not images:
        ending = f"{layout.image_name}.png or .jpg" if layout.image_name != "*" else ".png or .jpg"
        raise ValueError(f"{layout.what}: no {ending} image in {root / layout.images}")
    if list_file is None and layout.split_list:
        list_file = split_list(root, layout.what, layout.split_list)
    names = files.listed(list_file, images, layout.image_name) if list_file else list(images)
    label_files = None
    if labelled and layout.labels:
        found = _below(root, layout.labels, layout, layout.label_name, (".png",))
        label_files = files.paired(names, found, root / layout.labels, layout.what)
    meaning = meaning or _owners(layout, classes) if label_files is not None else UNLABELLED
    image_files = tuple(images[name] for name in names)
    return FolderDataset(tuple(names), image_files, label_files, meaning.lookup, meaning.read_ids)


def _owners(layout: Layout, classes: Protocol) -> Meaning:
    """What the owner's label files mean under the network's classes."""
    table = labels.id_map(layout.encoding, classes, layout.label_names)
    legal = labels.legal_ids(layout.encoding, layout.label_names)
    return Meaning(lookup_table(table, legal), layout.read_ids)


def _below(root: Path, inside: str, layout: Layout, pattern: str, extensions: Sequence[str]) -> Mapping[str, Path]:
    """Files by name below ``root/inside``, or below every folder that its ``*`` stands for."""
    above, star, below = inside.partition("*")
    if not star:
        return files.by_name(files.folder(root, inside, layout.what, layout.origin), pattern, extensions)
    base, tail = files.folder(root, above.rstrip("/"), layout.what, layout.origin), below.lstrip("/")
    found: dict[str, Path] = {}
    for child in sorted(base.iterdir()):
        if (child / tail).is_dir():
            named = files.by_name(child / tail, pattern, extensions)
            found |= {f"{child.name}/{name}": path for name, path in named.items()}
    if not found:
        raise ValueError(f"{layout.what}: no folder {root / inside} with files {pattern}{extensions[0]}; check root")
    return found


def split_list(root: Path, what: str, split: str) -> Path:
    """The list file of a split of a set that has no folder per split: ``<root>/<split>.txt``.

    Raises:
        ValueError: there is no such file.
    """
    path = root / f"{split}.txt"
    if not path.is_file():
        raise ValueError(f"{what}: split {split!r} needs a list {path}; leave split empty for all images, or set list")
    return path
