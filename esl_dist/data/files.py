"""Finding files: folders with a guess where one is missing, images by name, list files."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg")

_SKIP = (".", "__MACOSX")


def folder(root: Path, inside: str, what: str) -> Path:
    """``root/inside`` if it is a folder.

    Args:
        what: whose layout this is, for the message.

    Raises:
        ValueError: it is not there; the message says where something like it is, if anywhere near.
    """
    wanted = root / inside
    if wanted.is_dir():
        return wanted
    raise ValueError(f"{what}: no folder {wanted}; {_guess(root, inside)}")


def _guess(root: Path, inside: str) -> str:
    """Say what a user probably meant by ``root``: one level or two below, one to three above, or another split of the
    same folder.
    """
    near = [
        *_subfolders(root),
        *(below for child in _subfolders(root) for below in _subfolders(child)),
        *list(root.parents)[:3],
    ]
    for candidate in near:
        if (candidate / inside).is_dir():
            return f"did you mean {candidate / inside}? Then set root to {candidate}"
    parent = (root / inside).parent
    while parent != root and not parent.is_dir():
        parent = parent.parent
    if parent != root:
        found = [p.name for p in _subfolders(parent)]
        return f"{parent} holds {', '.join(found[:8]) or 'no folders'}"
    while not parent.is_dir() and parent != parent.parent:
        parent = parent.parent
    if parent != root:
        return f"{parent} is the last part of the path that exists: check root"
    found = [p.name for p in _subfolders(root)]
    return f"{root} holds {', '.join(found[:8]) or 'no folders'}: check root"


def _subfolders(path: Path) -> list[Path]:
    try:
        return sorted(p for p in path.iterdir() if p.is_dir() and not p.name.startswith(_SKIP))
    except OSError:
        return []


def by_name(base: Path, suffix: str = "", extensions: Sequence[str] = IMAGE_SUFFIXES) -> dict[str, Path]:
    """Images below ``base`` by name, sorted: path relative to ``base`` without extension and without ``suffix``; others
    are left out.

    Raises:
        ValueError: two files share a name (``a.png`` beside ``a.jpg``).
    """
    found: dict[str, Path] = {}
    for where, folders, files in os.walk(base, followlinks=True):
        folders[:] = [f for f in folders if not f.startswith(_SKIP)]
        for file in files:
            stem, extension = os.path.splitext(file)
            if extension.lower() not in extensions or not stem.endswith(suffix) or file.startswith("."):
                continue
            path = Path(where, file)
            name = path.relative_to(base).with_name(stem.removesuffix(suffix)).as_posix()
            if name in found:
                raise ValueError(f"{found[name]} and {path} have the same name: keep one of them")
            found[name] = path
    return dict(sorted(found.items()))


def listed(list_file: Path, available: Mapping[str, Path], suffix: str = "") -> list[str]:
    """The names that a list file selects, in its order.

    A line is a name as the data set's owner writes it: with or without extension, ``suffix`` and leading folders; of
    several columns (image and label, as in SegNet's lists) the first counts. Lines only select among ``available``, so
    no line reaches outside its root.

    Raises:
        ValueError: no such list, a line that climbs with ``..``, selects nothing or repeats another, or an empty list.
    """
    try:
        lines = list_file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"list {list_file} cannot be read: {error}") from None
    names: dict[str, int] = {}
    for number, line in enumerate(lines, start=1):
        entry = line.split()[0] if line.strip() else ""
        if not entry or entry.startswith("#"):
            continue
        if ".." in PurePosixPath(entry.replace("\\", "/")).parts:
            raise ValueError(f"{list_file}:{number}: {entry} leaves the data folder; list names inside it")
        name = _match(entry, available, suffix)
        if name is None:
            raise ValueError(f"{list_file}:{number}: there is no image for {entry}; correct the list or data root")
        if name in names:
            raise ValueError(
                f"{list_file}:{number}: {entry} is listed a second time (first in line {names[name]}); every image may"
                " be listed once"
            )
        names[name] = number
    if not names:
        raise ValueError(f"list {list_file} names no image")
    return list(names)


def _match(entry: str, available: Mapping[str, Path], suffix: str) -> str | None:
    """The available name that a list's entry means: the longest tail of its path that is one."""
    path = PurePosixPath(entry.replace("\\", "/"))
    if path.suffix.lower() in IMAGE_SUFFIXES:
        path = path.with_suffix("")
    parts = [*path.parts[:-1], path.name.removesuffix(suffix)]
    tails = ("/".join(parts[i:]) for i in range(len(parts)))
    return next((tail for tail in tails if tail in available), None)


def paired(names: Iterable[str], labels: Mapping[str, Path], label_folder: Path, what: str) -> tuple[Path, ...]:
    """The label file of every name.

    Raises:
        ValueError: some are missing; the first is named.
    """
    wanted = list(names)
    missing = [name for name in wanted if name not in labels]
    if missing:
        raise ValueError(
            f"{what}: {len(missing)} of {len(wanted)} images have no label in {label_folder}, {missing[0]} first;"
            " complete the labels, use a list, or set labelled=false"
        )
    return tuple(labels[name] for name in wanted)
