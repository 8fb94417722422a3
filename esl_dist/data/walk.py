"""Walking folders of a user's: every file once, nothing left out in silence, nothing that blocks when it is opened."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

SKIPPED = (".", "__MACOSX")
"""Names that begin so are an operating system's or an archiver's."""


def files_below(base: Path) -> Iterator[tuple[str, Path]]:
    """Every file below a folder, links followed: its path relative to ``base`` with ``/``, and the file. In no
    promised order.

    Raises:
        ValueError: a folder that cannot be read or is reached twice (a link to a folder above it would be walked for
            ever), or an image's name on something that is no file (a pipe would block its reader).
    """
    yield from _below(base, "", {})


def _below(folder: Path, inside: str, seen: dict[tuple[int, int], Path]) -> Iterator[tuple[str, Path]]:
    entries = _entries(folder)
    status = folder.stat()
    first = seen.setdefault((status.st_dev, status.st_ino), folder)
    if first != folder:
        raise ValueError(f"{folder} is the same folder as {first}: its images would count twice; remove the link")
    for name, is_folder in entries:
        if is_folder:
            yield from _below(folder / name, f"{inside}{name}/", seen)
        else:
            yield inside + name, folder / name


def _entries(folder: Path) -> list[tuple[str, bool]]:
    """Name of everything in a folder, and whether it is a folder itself."""
    found = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.startswith(SKIPPED):
                    continue
                is_folder = entry.is_dir()
                # A link to nowhere is listed, and named when it is read.
                if not (is_folder or entry.is_file() or entry.is_symlink()):
                    raise ValueError(f"{folder / entry.name} is no file but a pipe, socket or device: move it away")
                found.append((entry.name, is_folder))
    except OSError as error:
        raise ValueError(
            f"{folder} cannot be read ({error.strerror or error}): its images would be missing; allow reading it, or "
            f"move it away"
        ) from None
    return found
