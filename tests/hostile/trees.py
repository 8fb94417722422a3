"""Folders and lists of images: names, links, loops, pipes, missing and doubled files, lists with every kind of line."""

from __future__ import annotations

import contextlib
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from esl_dist.config.domains import DomainConfig
from esl_dist.data import open_dataset
from tests.hostile.trial import LINES, Case

COUNT = 4
NAMES = ["a b", "ä", "x" * 200, "-x", ".hidden", "a\tb", "#1", "00001 ", "00001.png", "A", "ａ"]


def tree(root: Path) -> Path:
    """GTA5's layout with a few images."""
    for kind in ("images", "labels"):
        (root / kind).mkdir(parents=True)
        for number in range(COUNT):
            pixels = np.full((16, 16) if kind == "labels" else (16, 16, 3), 7, np.uint8)
            Image.fromarray(pixels).save(root / kind / f"{number:05d}.png")
    return root


def _spoil(root: Path, draw: random.Random) -> str:
    """Something wrong with a tree, in words."""
    kind = draw.choice(["images", "labels"])
    file = root / kind / f"{draw.randrange(COUNT):05d}.png"
    ways: dict[str, Callable[[], object]] = {
        "missing file": file.unlink,
        "empty file": lambda: file.write_bytes(b""),
        "odd name": lambda: file.rename(file.with_name(f"{draw.choice(NAMES)}.png")),
        "link to nothing": lambda: (file.unlink(), file.symlink_to(root / "nothing")),
        "link to itself": lambda: (file.unlink(), file.symlink_to(file)),
        "pipe": lambda: (file.unlink(), os.mkfifo(file)),
        "folder in place of a file": lambda: (file.unlink(), file.mkdir()),
        "loop of folders": lambda: (root / kind / "loop").symlink_to(root / kind),
        "loop upwards": lambda: (root / kind / "up").symlink_to(root),
        "twice by suffix": lambda: file.with_suffix(".jpg").write_bytes(file.read_bytes()),
        "capital suffix": lambda: file.rename(file.with_suffix(".PNG")),
        "other suffix": lambda: file.rename(file.with_suffix(draw.choice([".txt", ".npy", "", ".webp", ".gif"]))),
        "no folder": lambda: (root / kind).rename(root / f"{kind}x"),
        "file in place of the folder": lambda: ((root / kind).rename(root / "moved"), (root / kind).touch()),
        "empty folder": lambda: [path.unlink() for path in (root / kind).iterdir()],
        "deep below": lambda: (
            (root / kind / "a/b/c").mkdir(parents=True),
            file.rename(root / kind / "a/b/c" / file.name),
        ),
    }
    chosen = draw.choice(sorted(ways))
    # Two faults on one file: the first is enough (a pipe would be waited for here).
    if not file.exists() or file.is_file():
        with contextlib.suppress(OSError):
            ways[chosen]()
    return f"{chosen} ({kind})"


LINES_OF_LISTS = [
    *(
        "00000",
        "00001.png",
        "images/00002.png",
        "./00003",
        "\ufeff00000",
        "00000\r",
        " 00001 ",
        "00001\t00001",
        "",
        "#",
    ),
    *("../../etc/passwd", "/etc/passwd", "..", "\x00", "00099", "00000", "a\\00001.png", "C:\\x\\00002.png", "é"),
    *("x" * 5000, "00000 00001", "*", "**/*", "00000;rm -rf", "1", "00001.PNG"),
]


def tree_cases(seed: int, count: int, folder: Path) -> Iterator[Case]:
    draw = random.Random(seed)
    for number in range(count):
        root = tree(folder / f"tree{number}")
        faults = [_spoil(root, draw) for _ in range(draw.choice([1, 1, 2, 3]))]
        yield Case(
            "trees", ", ".join(faults), lambda root=root: _opened(root, DomainConfig(dataset="gta5", root=str(root)))
        )


def list_cases(seed: int, count: int, folder: Path) -> Iterator[Case]:
    draw = random.Random(seed)
    root = tree(folder / "listed")
    for number in range(count):
        lines = [draw.choice(LINES_OF_LISTS) for _ in range(draw.randint(0, 5))]
        content = draw.choice(["\n", "\r\n", "\r", "\n\n"]).join(lines).encode("utf-8", "surrogateescape")
        if draw.random() < 0.15:
            content += draw.choice([b"\xff", b"\xfe\x00", b"\x80abc"])
        file = root / f"list{number}.txt"
        file.write_bytes(content)
        domain = DomainConfig(dataset="gta5", root=str(root), list=file.name)
        yield Case("lists", repr(content[:200]), lambda domain=domain: _opened(root, domain))


def _opened(root: Path, domain: DomainConfig) -> tuple[bool, str]:
    """Refused by a line that names something of the tree, or opened as images that exist, each once, below the root."""
    try:
        dataset = open_dataset(domain, "", "19")
        files = [*dataset.image_files, *(dataset.label_files or ())]
        for index in range(len(dataset)):
            try:
                dataset.image(index), dataset.label(index)
            except ValueError as error:
                if str(root) not in str(error):
                    return True, f"names no file: {error}"
    except ValueError as error:
        said = str(error)
        named = str(root) in said or (domain.list and domain.list in said)
        return True, "" if named and len(said.splitlines()) <= LINES else f"names nothing of the tree: {said}"
    except OSError as error:
        return True, "" if error.filename else f"names no file: {error}"
    inside = all(root in path.parents for path in files)
    if not inside or len(set(dataset.names)) != len(dataset) or not len(dataset):
        return False, f"{len(dataset)} images, {len(set(dataset.names))} names, inside: {inside}"
    return False, ""
