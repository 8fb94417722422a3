"""What you have: ``python -m esl_dist.data FOLDER-OR-VIDEO [--out FILE.yaml]`` writes a configuration to start from."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from esl_dist.atomic import rename, write_bytes
from esl_dist.data.encode import png
from esl_dist.diagnostics.starting import start
from esl_dist.entries import cli
from esl_dist.prediction import video


def main(argv: Sequence[str] | None = None) -> int:
    """Say what a folder holds; write a configuration, a class file and a contact sheet."""
    parser = cli.parser(
        "data", "Look at a folder of images and labels and write a configuration to start from.", schema=None
    )
    parser.add_argument("folder", type=Path, help="of images, with labels beside them or without; or a video")
    parser.add_argument(
        "--every", type=float, default=1.0, metavar="S", help="of a video, take a frame every S seconds (default: 1)"
    )
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help="configuration to write (default: <folder's name>.yaml)"
    )
    arguments = parser.parse_args(argv)
    folder: Path = arguments.folder
    if folder.suffix.lower() in video.SUFFIXES and folder.is_file():
        folder = frames(folder, arguments.every)
    made = start(folder, arguments.out or Path(f"{folder.absolute().name}.yaml"))
    for line in made.lines:
        print(line)
    print(f"classes: {made.classes}")
    print(f"contact sheet: {made.sheet}")
    print(f"next: python -m esl_dist.train --config {made.config}")
    return 0


def frames(path: Path, every: float) -> Path:
    """A video's frames as PNGs of their numbers in ``<its name>_frames``, one every so many seconds; the folder.

    Raises:
        ValueError: the folder is there, no OpenCV, or no video that it can read.
    """
    if not every > 0:
        raise ValueError(f"--every: {every} is no time between frames; give seconds above 0")
    folder = Path(f"{path.stem}_frames")
    if folder.exists():
        raise ValueError(f"{folder} is there already: name it in the video's place, or delete it")
    known = video.facts(path)
    chosen = range(0, known.frames, max(1, round(known.rate * every)))
    aside = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(aside, ignore_errors=True)  # of an attempt that was cut off
    for index, image in video.read(path, chosen):
        write_bytes(aside / f"{index:06d}.png", png(Image.fromarray(image)))
    rename(aside, folder)
    print(f"{len(chosen)} of {known.frames} frames of {known.width}x{known.height}: {folder}")
    return folder
