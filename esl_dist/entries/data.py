"""A folder that you have: ``python -m esl_dist.data FOLDER [--out FILE.yaml]`` writes a configuration to start from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from esl_dist.diagnostics.starting import start
from esl_dist.entries import cli


def main(argv: Sequence[str] | None = None) -> int:
    """Say what a folder holds; write a configuration, a class file and a contact sheet."""
    parser = cli.parser(
        "data", "Look at a folder of images and labels and write a configuration to start from.", schema=None
    )
    parser.add_argument("folder", type=Path, help="of images, with labels beside them or without")
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help="configuration to write (default: <folder's name>.yaml)"
    )
    arguments = parser.parse_args(argv)
    folder: Path = arguments.folder
    made = start(folder, arguments.out or Path(f"{folder.absolute().name}.yaml"))
    for line in made.lines:
        print(line)
    print(f"classes: {made.classes}")
    print(f"contact sheet: {made.sheet}")
    print(f"next: python -m esl_dist.train --config {made.config}")
    return 0
