"""From a description of a folder tree to a data set: list, pair by name, refuse what is incomplete."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from esl_dist import labels
from esl_dist.data import decode, files
from esl_dist.data.dataset import FolderDataset, lookup_table


@dataclass(frozen=True)
class Layout:
    """Where a data set's owner puts images and labels, and how the labels are stored."""

    what: str
    """The data set's name, for messages."""
    images: str
    """Folder of the images, relative to the root."""
    labels: str = ""
    """Folder of the label ids, relative to the root; empty where the owner ships none for this split."""
    image_suffix: str = ""
    """What an image's stem ends with beside its name."""
    label_suffix: str = ""
    """What a label's stem ends with beside its name."""
    encoding: str = ""
    """A key of ``esl_dist.labels.LEGAL_IDS``."""
    label_names: Sequence[str] | None = None
    """Names of the stored ids where the set's own configuration lists them (Mapillary Vistas)."""
    read_ids: Callable[[Path], NDArray[np.uint8]] = decode.read_ids
    """Decoder of a label file."""


def open_layout(
    root: Path, layout: Layout, protocol: str, *, labelled: bool, list_file: Path | None = None
) -> FolderDataset:
    """List a data set's files; labels are paired with images by name, never by order.

    Args:
        labelled: look for labels.
        list_file: selects images and gives their order; None takes every image, sorted by name.

    Raises:
        ValueError: a missing folder, no image, an image without a label, a bad list, or a protocol that the encoding
            cannot give.
    """
    id_map = labels.id_map(layout.encoding, protocol, layout.label_names)
    legal = frozenset(range(len(layout.label_names))) if layout.label_names else labels.LEGAL_IDS[layout.encoding]
    image_folder = files.folder(root, layout.images, layout.what)
    images = files.by_name(image_folder, layout.image_suffix)
    if not images:
        ending = f"*{layout.image_suffix}.png or .jpg" if layout.image_suffix else ".png or .jpg"
        raise ValueError(f"{layout.what}: no {ending} image in {image_folder}")
    names = files.listed(list_file, images, layout.image_suffix) if list_file else list(images)
    label_files = None
    if labelled and layout.labels:
        label_folder = files.folder(root, layout.labels, layout.what)
        label_files = files.paired(
            names, files.by_name(label_folder, layout.label_suffix, (".png",)), label_folder, layout.what
        )
    return FolderDataset(
        tuple(names), tuple(images[name] for name in names), label_files, lookup_table(id_map, legal), layout.read_ids
    )


def split_list(root: Path, what: str, split: str) -> Path | None:
    """The list file of a split of a set that has no folder per split: ``<root>/<split>.txt``; None for an empty split.

    Raises:
        ValueError: there is no such file.
    """
    if not split:
        return None
    path = root / f"{split}.txt"
    if not path.is_file():
        raise ValueError(f"{what}: split {split!r} needs a list {path}; leave split empty for all images, or set list")
    return path
