"""A folder that nobody has described: which of its files are images, which are labels, and which belongs to which."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from esl_dist.data import decode
from esl_dist.data.decode import DataError
from esl_dist.data.files import IMAGE_SUFFIXES, LABEL_SUFFIXES
from esl_dist.data.sampler import spread
from esl_dist.data.walk import files_below

LOOKED_AT, MANY = 4, 64
"""Files of a folder that say what it holds; values above which a picture is no label."""

_ENDINGS = "_-. "


@dataclass(frozen=True)
class Group:
    """The pictures of one folder."""

    folder: str
    """Relative to the root, ``""`` for the root itself."""
    files: tuple[str, ...]
    """Names in it, sorted."""
    kind: str
    """``images``, ``ids`` or ``colours``."""

    @property
    def ending(self) -> str:
        """What all stems of the folder end with beside their names (``_rgb``); empty for a single file."""
        stems = [os.path.splitext(file)[0] for file in self.files]
        shared = _shared([stem[::-1] for stem in stems]) if len(stems) > 1 else 0
        common = stems[0][len(stems[0]) - shared :]
        start = next((i for i, character in enumerate(common) if character in _ENDINGS), len(common))
        return common[start:]

    def names(self) -> dict[str, str]:
        """Name without the ending -> file."""
        ending = self.ending
        return {os.path.splitext(file)[0].removesuffix(ending): file for file in self.files}


def _shared(some: Sequence[Sequence[str]]) -> int:
    """How many of their first elements all sequences share."""
    return next((i for i, parts in enumerate(zip(*some, strict=False)) if len(set(parts)) > 1), min(map(len, some)))


def groups(root: Path) -> list[Group]:
    """What every folder below the root holds, by a few of its files; folders without pictures are left out.

    Raises:
        ValueError: the root cannot be walked (see ``walk``), or no folder holds a picture.
    """
    by_folder: defaultdict[str, list[str]] = defaultdict(list)
    for inside, _ in files_below(root):
        where, _, file = inside.rpartition("/")
        if file.lower().endswith(IMAGE_SUFFIXES):
            by_folder[where].append(file)
    found = []
    for where, files in sorted(by_folder.items()):
        chosen = tuple(sorted(files))
        if kind := _kind(root / where, [chosen[i] for i in spread(len(chosen), LOOKED_AT)]):
            found.append(Group(where, chosen, kind))
    if not found:
        raise ValueError(f"{root} holds no picture ({', '.join(IMAGE_SUFFIXES)})")
    return found


def _kind(folder: Path, files: Sequence[str]) -> str:
    """What most of the files are; empty where none can be read."""
    kinds = Counter(kind for file in files if (kind := _kind_of(folder / file)))
    return kinds.most_common(1)[0][0] if kinds else ""


def _kind_of(file: Path) -> str:
    if file.suffix.lower() in LABEL_SUFFIXES:
        try:
            if len(np.unique(decode.read_ids(file))) <= MANY:
                return "ids"
            with Image.open(file, formats=decode.LABEL_FORMATS) as image:
                return "images" if image.mode != "P" else "ids"
        except DataError:
            pass
    try:
        pixels = decode.read_rgb(file)
    except DataError:
        return ""
    if file.suffix.lower() not in LABEL_SUFFIXES:
        return "images"
    code = pixels.astype(np.uint32) @ np.array([1 << 16, 1 << 8, 1], np.uint32)
    return "colours" if len(np.unique(code)) <= MANY else "images"


@dataclass(frozen=True)
class Pairs:
    """The labelled and the unlabelled part of a folder, as patterns that ``dataset: folder`` reads."""

    labelled: str = ""
    """Pattern of the images that have labels; empty: there are none."""
    labels: str = ""
    """Pattern of their labels."""
    encoding: str = ""
    """``ids`` or ``colours``."""
    unlabelled: str = ""
    """Pattern of the images without labels; empty: there are none."""
    mixed: int = 0
    """Images without a label in the folders of those that have one; they need a list."""


def pairs(found: Sequence[Group]) -> Pairs:
    """Which images have labels: of the same name but for an ending, in the folder that shares most names.

    Of several kinds of labels with the same names (ids beside colours), ids are taken.
    """
    # Pictures of few colours alone are no labels: there is nothing that they would belong to.
    images = [group for group in found if group.kind == "images"] or list(found)
    labels = sorted((group for group in found if group not in images), key=lambda group: group.kind != "ids")
    matched: list[tuple[Group, Group, int]] = []
    for group in images:
        names = set(group.names())
        best = max(labels, key=lambda other: len(names & set(other.names())), default=None)
        shared = len(names & set(best.names())) if best else 0
        if best and shared:
            matched.append((group, best, shared))
    if not matched:
        return Pairs(unlabelled=pattern(images))
    encoding = Counter(label.kind for _, label, _ in matched).most_common(1)[0][0]
    matched = [match for match in matched if match[1].kind == encoding]
    with_labels = [group for group, _, _ in matched]
    mixed = sum(len(group.files) - shared for group, _, shared in matched)
    rest = [group for group in images if group not in with_labels]
    return Pairs(pattern(with_labels), pattern([label for _, label, _ in matched]), encoding, pattern(rest), mixed)


def pattern(some: Sequence[Group]) -> str:
    """One pattern for the files of some folders: parts that differ become ``*``, folders of several depths ``**``."""
    if not some:
        return ""
    split = [group.folder.split("/") if group.folder else [] for group in some]
    if len({len(parts) for parts in split}) == 1:
        folder = "/".join(parts[0] if len(set(parts)) == 1 else "*" for parts in zip(*split, strict=True))
    else:
        folder = "/".join([*split[0][: _shared(split)], "**"])
    endings = {group.ending for group in some}
    suffixes = sorted({os.path.splitext(file)[1].lower().lstrip(".") for group in some for file in group.files})
    stem = f"*{endings.pop() if len(endings) == 1 else ''}"
    suffix = suffixes[0] if len(suffixes) == 1 else f"{{{','.join(suffixes)}}}"
    return f"{folder}/{stem}.{suffix}" if folder else f"{stem}.{suffix}"


def common_size(sizes: Iterable[tuple[int, int]], widest: int = 1024) -> tuple[tuple[int, int], bool]:
    """A width and height to train at, multiples of 8 of the most common shape, and whether shapes differ."""
    counted = Counter(sizes)
    width, height = counted.most_common(1)[0][0]
    scale = min(1.0, widest / width)
    shapes = {round(w / h, 1) for w, h in counted}
    return (max(16, 8 * round(width * scale / 8)), max(16, 8 * round(height * scale / 8))), len(shapes) > 1


def colours_of(files: Sequence[Path]) -> Mapping[tuple[int, int, int], int]:
    """Pixels by colour of some labels that are pictures."""
    counted: Counter[tuple[int, int, int]] = Counter()
    for file in files:
        values, counts = np.unique(decode.read_exact_rgb(file).reshape(-1, 3), axis=0, return_counts=True)
        for value, count in zip(values.tolist(), counts.tolist(), strict=True):
            counted[(value[0], value[1], value[2])] += count
    return counted
