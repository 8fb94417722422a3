"""What ``predict`` looks at: a folder, a glob, a list, one image, or the frames of a video, each under a name of its
own.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from esl_dist.data import decode, files
from esl_dist.data.decode import DataError
from esl_dist.data.workers import Produced
from esl_dist.prediction import video

Image = NDArray[np.uint8]


class Frame(NamedTuple):
    """One frame that was read, or why it could not be."""

    number: int
    image: Image | None
    """uint8 RGB ``[H, W, 3]``."""
    problem: str = ""


class Frames(Protocol):
    """Pictures with names: unique, without extension, ``/`` between folders."""

    @property
    def names(self) -> Sequence[str]: ...

    def stamps(self) -> dict[str, str]:
        """Name -> size and time of the file that a frame is of, empty where there is none: another stamp, another
        picture.
        """
        ...

    def read(self, indices: Sequence[int], workers: int = 0) -> Iterator[Frame]:
        """The frames of ascending ``indices``, in their order; one that cannot be read comes with its problem."""
        ...


@dataclass(frozen=True)
class ImageFiles:
    """Image files."""

    names: tuple[str, ...]
    paths: tuple[Path, ...]

    def stamps(self) -> dict[str, str]:
        return {name: _stamp(path) for name, path in zip(self.names, self.paths, strict=True)}

    def read(self, indices: Sequence[int], workers: int = 0) -> Iterator[Frame]:
        chosen = tuple(indices)
        produced = Produced(_Reader(self.paths, chosen), start=0, stop=len(chosen), workers=workers)
        try:
            yield from produced
        finally:
            produced.close()


@dataclass(frozen=True)
class _Reader:
    """Number -> frame; everything that a worker process needs."""

    paths: tuple[Path, ...]
    indices: tuple[int, ...]

    def __call__(self, number: int) -> Frame:
        index = self.indices[number]
        try:
            return Frame(index, decode.read_rgb(self.paths[index]))
        except DataError as error:
            return Frame(index, None, str(error))


@dataclass(frozen=True)
class VideoFrames:
    """The frames of a video file, ``<its name>_000000`` and so on."""

    path: Path
    facts: video.Facts

    @property
    def names(self) -> Sequence[str]:
        return [f"{self.path.stem}_{number:06d}" for number in range(self.facts.frames)]

    def stamps(self) -> dict[str, str]:
        return dict.fromkeys(self.names, _stamp(self.path))

    def read(self, indices: Sequence[int], workers: int = 0) -> Iterator[Frame]:
        last = 0
        for index, image in video.read(self.path, indices):
            last = index + 1
            yield Frame(index, image)
        for index in indices:
            if index >= last:
                yield Frame(index, None, f"{self.path}: frame {index} cannot be decoded")


def _stamp(path: Path) -> str:
    try:
        found = path.stat()
    except OSError:
        return ""
    return f"{found.st_size} {found.st_mtime_ns}"


def open_frames(what: str, out: Path | None = None) -> Frames:
    """The frames that ``what`` names.

    Args:
        what: a folder (every image below it), a pattern with ``*`` or ``?``, a ``.txt`` list of paths (relative to
            itself), an image or a video.
        out: where predictions go; a pattern that also matches what lies there does not mean it.

    Raises:
        ValueError: nothing is there, or two frames would have one name.
    """
    path = Path(what)
    if path.is_dir():
        found = files.by_name(path)
        if not found:
            raise ValueError(f"{what}: no image below it ({', '.join(files.IMAGE_SUFFIXES)})")
        return ImageFiles(tuple(found), tuple(found.values()))
    if path.is_file() and path.suffix.lower() in video.SUFFIXES:
        return VideoFrames(path, video.facts(path))
    if path.is_file() and path.suffix.lower() == ".txt":
        return _listed(path)
    if path.is_file():
        return ImageFiles((path.stem,), (path,))
    if any(mark in what for mark in "*?["):
        return _matching(what, out)
    raise ValueError(f"{what}: no such folder, list, image or video, and no pattern with * or ?")


def _matching(pattern: str, out: Path | None) -> ImageFiles:
    suffixes = files.IMAGE_SUFFIXES
    found = [Path(name) for name in sorted(glob.glob(pattern, recursive=True))]
    paths = [path for path in found if path.suffix.lower() in suffixes]
    if out is not None:
        paths = [path for path in paths if not path.resolve().is_relative_to(out.resolve())]
    if not paths:
        raise ValueError(
            f"{pattern}: matches no image ({', '.join(suffixes)}); quote the pattern, so that the shell leaves it as "
            "it is"
        )
    return _named(paths)


def _listed(path: Path) -> ImageFiles:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"list {path} cannot be read: {error}") from None
    entries = [line.strip() for line in lines if line.strip() and not line.strip().startswith("#")]
    if not entries:
        raise ValueError(f"list {path} names no image")
    return _named([Path(os.path.normpath(path.parent / entry)) for entry in entries])


def _named(paths: Sequence[Path]) -> ImageFiles:
    """Files by their names below the folder that they have in common."""
    whole = [Path(os.path.abspath(path)) for path in paths]
    common = Path(os.path.commonpath([str(path.parent) for path in whole]))
    found: dict[str, Path] = {}
    for path in whole:
        name = PurePosixPath(path.relative_to(common)).with_suffix("").as_posix()
        if found.get(name) == path:
            raise ValueError(f"{path} is listed twice: name it once")
        if name in found:
            raise ValueError(f"{found[name]} and {path} would have one name: keep one of them")
        found[name] = path
    return ImageFiles(tuple(found), tuple(found.values()))
