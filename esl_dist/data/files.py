"""Finding files: folders with a guess where one is missing, images by name, list files."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath

from esl_dist.data.walk import SKIPPED, files_below

log = logging.getLogger(__name__)

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
"""What an image may be (see ``decode``)."""

LABEL_SUFFIXES = (".png", ".bmp", ".tif", ".tiff")
"""Formats that keep every id."""

_OTHER_IMAGES = (
    ".gif",
    ".jp2",
    ".j2k",
    ".ppm",
    ".pgm",
    ".heic",
    ".heif",
    ".avif",
    ".jxl",
    ".tga",
    ".exr",
    ".jfif",
    ".raw",
    ".dng",
)


def folder(root: Path, inside: str, what: str, origin: str = "") -> Path:
    """``root/inside`` if it is a folder.

    Args:
        what: whose layout this is, for the message.
        origin: which files of the owner's it comes from, and where they are.

    Raises:
        ValueError: it is not there; the message says where something like it is, if anywhere near.
    """
    wanted = root / inside
    if wanted.is_dir():
        return wanted
    guess = _guess(root, inside)
    hint = f" (it comes in {origin})" if origin and not guess.startswith("did you mean") else ""
    raise ValueError(f"{what}: no folder {wanted}; {guess}{hint}")


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
        return sorted(p for p in path.iterdir() if p.is_dir() and not p.name.startswith(SKIPPED))
    except OSError:
        return []


def by_name(base: Path, pattern: str = "*", extensions: Sequence[str] = IMAGE_SUFFIXES) -> dict[str, Path]:
    """Images below ``base`` by name, sorted: path relative to ``base`` with what ``*`` stands for in place of the
    file's own name.

    Args:
        pattern: of a file's name without extension, one ``*`` in it (``*_leftImg8bit``, ``rgb_*``); other files are
            left out.

    Raises:
        ValueError: two files share a name (``a.png`` beside ``a.jpg``), or the folders cannot be walked (see ``walk``).
    """
    before, _, after = pattern.partition("*")

    def name_of(inside: str) -> str | None:
        where, stem = os.path.split(os.path.splitext(inside)[0])
        if not (stem.startswith(before) and stem.endswith(after) and len(stem) >= len(before) + len(after)):
            return None
        name = stem[len(before) : len(stem) - len(after)]
        return f"{where}/{name}" if where else name

    return named(base, name_of, extensions)


def named(base: Path, name_of: Callable[[str], str | None], extensions: Sequence[str]) -> dict[str, Path]:
    """Files below ``base`` with one of the extensions, by the name that ``name_of`` makes of a relative path (None:
    left out), sorted.

    Pictures in a format that is not read are counted in a line of the log.
    """
    found: dict[str, Path] = {}
    left_out: Counter[str] = Counter()
    for inside, path in files_below(base):
        extension = os.path.splitext(inside)[1].lower()
        if extension not in extensions:
            left_out[extension] += extension in _OTHER_IMAGES or extension in IMAGE_SUFFIXES
            continue
        name = name_of(inside)
        if name is None:
            continue
        if name in found:
            first, second = sorted((found[name], path))
            raise ValueError(f"{first} and {second} have the same name: keep one of them")
        found[name] = path
    for extension, count in sorted(left_out.items()):
        if count:
            log.warning("%s: %d %s files are left out: %s are read", base, count, extension, ", ".join(extensions))
    return dict(sorted(found.items()))


def listed(list_file: Path, available: Mapping[str, Path], pattern: str = "*") -> list[str]:
    """The names that a list file selects, in its order.

    A line is a name as the data set's owner writes it: with or without extension, what ``pattern`` has around ``*``,
    and leading folders; of several columns (image and label, as in SegNet's lists) the first counts. Names may hold
    blanks. Where one image alone has it, a file's own name without its folder will do, and a number without its
    leading zeros (``1`` for ``00001``), as MaxSquare's lists have them. Lines only select among ``available``, so no
    line reaches outside its root.

    Raises:
        ValueError: no such list, a line that climbs with ``..``, selects nothing, fits several images or repeats
            another, or an empty list.
    """
    names: dict[str, int] = {}
    short = _ShortNames(available)
    for number, line in lines_of(list_file):
        entries = list(_columns(line))
        name = next(
            (found for entry in entries if (found := _match(entry, available, pattern)) is not None), None
        ) or short.meant(entries, pattern, f"{list_file}:{number}")
        if name is None:
            first = line.split()[0]
            if ".." in PurePosixPath(first.replace("\\", "/")).parts:
                raise ValueError(f"{list_file}:{number}: {first} leaves the data folder; list names inside it")
            raise ValueError(
                f"{list_file}:{number}: there is no image for {line if len(line.split()) < 3 else first}; correct "
                f"the list or data root"
            )
        if name in names:
            raise ValueError(
                f"{list_file}:{number}: {name} is listed a second time (first in line {names[name]}); every image "
                f"may be listed once"
            )
        names[name] = number
    if not names:
        raise ValueError(f"list {list_file} names no image")
    return list(names)


def lines_of(list_file: Path) -> list[tuple[int, str]]:
    """Number and text of the lines of a list that say something, a byte-order mark and comments (``#``) left out.

    Raises:
        ValueError: there is no such list, or it is no text.
    """
    try:
        lines = list_file.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"list {list_file} cannot be read: {error}") from None
    return [
        (number, line.strip())
        for number, line in enumerate(lines, start=1)
        if line.strip() and not line.lstrip().startswith("#")
    ]


def _columns(line: str) -> Iterable[str]:
    """What the first column of a line may be: all of it, then less and less of it, so that a name may hold blanks."""
    yield line
    yield line.partition("\t")[0].strip()
    words = line.split(" ")
    for end in range(len(words) - 1, 0, -1):
        yield " ".join(words[:end]).strip()


class _ShortNames:
    """Images by their own name without folders, and by their number where that name is one."""

    def __init__(self, available: Iterable[str]) -> None:
        self._available = available
        self._by: dict[str, list[str]] | None = None

    def meant(self, entries: Iterable[str], pattern: str, where: str) -> str | None:
        """The image that one of the entries means; None for none. ``ValueError`` where it may be one of several."""
        if self._by is None:  # few lists need it
            self._by = {}
            for name in self._available:
                own = name.rpartition("/")[2]
                for key in {own, _number(own)}:
                    self._by.setdefault(key, []).append(name)
        for entry in entries:
            parts = _parts(entry, pattern)
            if len(parts) != 1:  # a folder that was written must be there
                continue
            found = self._by.get(parts[0]) or self._by.get(_number(parts[0]), [])
            if len(found) > 1:
                raise ValueError(f"{where}: {entry} may be {found[0]} or {found[1]}; write which")
            if found:
                return found[0]
        return None


def _number(name: str) -> str:
    """A number without its leading zeros; any other name as it is."""
    return (name.lstrip("0") or "0") if name.isdecimal() and name.isascii() else name


def _parts(entry: str, pattern: str) -> list[str]:
    """Folders and name of a list's entry, what ``pattern`` has around ``*`` and an image's suffix taken away; empty for
    none.
    """
    path = PurePosixPath(entry.replace("\\", "/"))
    if not path.name or ".." in path.parts:
        return []
    if path.suffix.lower() in IMAGE_SUFFIXES:
        path = path.with_suffix("")
    before, _, after = pattern.partition("*")
    return [*path.parts[:-1], path.name.removeprefix(before).removesuffix(after)]


def _match(entry: str, available: Mapping[str, Path], pattern: str) -> str | None:
    """The available name that a list's entry means: the longest tail of its path that is one."""
    parts = _parts(entry, pattern)
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
            f"{what}: {len(missing)} of {len(wanted)} images have no label in {label_folder}, {missing[0]} first; "
            f"complete the labels, use a list, or set labelled=false"
        )
    return tuple(labels[name] for name in wanted)
