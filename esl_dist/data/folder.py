"""Anyone's folder as a data set: images and labels by patterns or lists, own ids or colours, splits by folder, list or
share.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from esl_dist.config.schema import DomainConfig
from esl_dist.data import files, patterns
from esl_dist.data.dataset import FolderDataset
from esl_dist.data.meaning import UNLABELLED, meaning_of
from esl_dist.labels import Protocol

FOLDER = "folder"
"""What ``dataset`` calls it."""

IMAGES = "images"
"""Where images are looked for unless ``images`` says otherwise."""

_SPLIT = "{split}"


def open_folder(
    root: Path, split: str, domain: DomainConfig, classes: Protocol, list_file: Path | None
) -> FolderDataset:
    """The images of a domain with ``dataset: folder``, paired with their labels where it has some.

    Args:
        list_file: ``domain.list``: selects images by name, in its order, in place of a split's content.

    Raises:
        ValueError: one line naming the option, folder, pattern or file that is wrong.
    """
    images, label_files = (
        _listed_pairs(root, domain) if domain.images.endswith(".txt") else _by_patterns(root, split, domain)
    )
    names = files.listed(list_file, images) if list_file else list(images)
    if domain.shares or not list_file:
        names = _of_split(root, split, domain, names)
    if not names:
        raise ValueError(f"folder: split {split!r} of {root} has no image; give it a larger share, or add images")
    image_files = tuple(images[name] for name in names)
    if label_files is None or not domain.labelled:
        return FolderDataset(tuple(names), image_files, None, UNLABELLED.lookup)
    chosen, meaning = patterns.pair(images, label_files, names, "folder"), meaning_of(domain.encoding, classes)
    return FolderDataset(tuple(names), image_files, chosen, meaning.lookup, meaning.read_ids)


def _by_patterns(root: Path, split: str, domain: DomainConfig) -> tuple[Mapping[str, Path], Mapping[str, Path] | None]:
    def pattern(text: str, what: str) -> str:
        if _SPLIT in text and not split:
            raise ValueError(f"{what}: {text} needs a split; set split=train or leave {_SPLIT} out")
        return text.replace(_SPLIT, split)

    images = patterns.matching(root, pattern(domain.images or IMAGES, "images"), files.IMAGE_SUFFIXES, "images")
    if not domain.labels or not domain.labelled:
        return images, None
    return images, patterns.matching(root, pattern(domain.labels, "labels"), files.LABEL_SUFFIXES, "labels")


def _listed_pairs(root: Path, domain: DomainConfig) -> tuple[Mapping[str, Path], Mapping[str, Path] | None]:
    """Images and labels from a list of paths below the root: an image a line, its label after a tab (or a blank, where
    neither has one).
    """
    list_file = root / domain.images
    images: dict[str, Path] = {}
    label_files: dict[str, Path] = {}
    for number, line in files.lines_of(list_file):
        words = line.split("\t") if "\t" in line else [line] if (root / line).is_file() else line.split()
        if len(words) > 2 or any(Path(word).is_absolute() or ".." in Path(word).parts for word in words):
            raise ValueError(
                f"{list_file}:{number}: a line is an image below {root} and, after a tab, its label; this is {line!r}"
            )
        name = Path(words[0]).with_suffix("").as_posix()
        if name in images:
            raise ValueError(
                f"{list_file}:{number}: {words[0]} is listed a second time; every image may be listed once"
            )
        images[name] = root / words[0]
        if len(words) == 2:
            label_files[name] = root / words[1]
    if not images:
        raise ValueError(f"list {list_file} names no image")
    return images, label_files or None


def _of_split(root: Path, split: str, domain: DomainConfig, names: Sequence[str]) -> list[str]:
    """The names of a split: all where the pattern has chosen already or there are no splits."""
    if domain.shares:
        shares_of(domain.shares)  # a mistake in them is told where all images are taken, too
    if not split or _SPLIT in domain.images:
        return list(names)
    if domain.shares:
        return share(names, split, domain.shares)
    path = root / f"{split}.txt"
    if not path.is_file():
        raise ValueError(
            f"folder: split {split!r}: there is no list {path}; write it, put {_SPLIT} into the pattern of images, "
            f"set shares, or leave split empty for all images"
        )
    return files.listed(path, {name: root for name in names})


def shares_of(text: str) -> dict[str, float]:
    """``train:0.8,val:0.2`` -> the share of each split.

    Raises:
        ValueError: another form, a share outside (0, 1], or more than all.
    """
    found: dict[str, float] = {}
    for word in text.split(","):
        name, _, number = word.strip().partition(":")
        try:
            found[name.strip()] = float(number)
        except ValueError:
            raise ValueError(f"shares: {text!r} is not written train:0.8,val:0.2") from None
    if not all(name and 0 < part <= 1 for name, part in found.items()) or sum(found.values()) > 1 + 1e-9:
        raise ValueError(f"shares: {text!r}: shares are above 0 and 1 in all")
    return found


def share(names: Sequence[str], split: str, text: str) -> list[str]:
    """The names that fall to a split: by a hash of the name, so that it does not depend on their order; sorted as they
    were.

    Raises:
        ValueError: no such split.
    """
    parts = shares_of(text)
    if split not in parts:
        raise ValueError(f"shares: split {split!r} has none; shares are given to {', '.join(parts)}")
    shuffled = sorted(names, key=lambda name: hashlib.sha256(name.encode()).digest())
    before = sum(part for name, part in list(parts.items())[: list(parts).index(split)])
    chosen = set(shuffled[round(before * len(names)) : round((before + parts[split]) * len(names))])
    return [name for name in names if name in chosen]
