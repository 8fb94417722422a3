"""How much of the target a label set covers, how much of it is wrong, and where two sets differ (the ESL paper's Table
4).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from esl_dist.data.dataset import Dataset
from esl_dist.data.transforms import resize_label
from esl_dist.labels import IGNORE
from esl_dist.metrics.confusion import confusion_matrix

MOST_IMAGES = 500
"""Images that a report opens per label set: enough for shares to a tenth of a percent, half a minute at full
resolution.
"""


@dataclass
class SetQuality:
    """Pixel counts of one label set over the images that were looked at."""

    confusion: NDArray[np.int64]
    """``[C, C]``, rows = ground truth, columns = pseudo-label; zero without ground truth."""
    kept: int = 0
    pixels: int = 0

    def wrong(self, c: int | None = None) -> float | None:
        """Share of wrong labels, 0-1, among the pixels labelled ``c`` (or any class) that have ground truth."""
        columns = self.confusion if c is None else self.confusion[:, [c]]
        right = np.trace(self.confusion) if c is None else self.confusion[c, c]
        total = int(columns.sum())
        return (total - int(right)) / total if total else None


@dataclass
class Overlap:
    """Pixels that only one of two label sets keeps, or both, or none; and how many of them are wrong (of those with
    ground truth).
    """

    first: str
    second: str
    pixels: dict[str, int] = field(default_factory=lambda: dict.fromkeys(("both", "first", "second", "none"), 0))
    judged: dict[str, int] = field(default_factory=lambda: dict.fromkeys(("both", "first", "second"), 0))
    wrong: dict[str, int] = field(default_factory=lambda: dict.fromkeys(("both", "first", "second"), 0))

    def share(self, part: str) -> float:
        return self.pixels[part] / max(sum(self.pixels.values()), 1)

    def wrong_share(self, part: str) -> float | None:
        return self.wrong[part] / self.judged[part] if self.judged.get(part) else None

    def add(self, first: NDArray[np.uint8], second: NDArray[np.uint8], truth: NDArray[np.uint8] | None) -> None:
        """Count one image: two label maps and the ground truth, uint8 ``[H, W]``, 255 = none."""
        one, two = first != IGNORE, second != IGNORE
        parts = {"both": one & two, "first": one & ~two, "second": two & ~one, "none": ~one & ~two}
        label = np.where(one, first, second)
        for name, mask in parts.items():
            self.pixels[name] += int(mask.sum())
            if truth is not None and name != "none":
                judged = mask & (truth != IGNORE)
                self.judged[name] += int(judged.sum())
                self.wrong[name] += int((judged & (label != truth)).sum())


@dataclass(frozen=True)
class Comparison:
    """Every label set of a run, measured on the same images."""

    images: int
    available: int
    truth: bool
    sets: dict[str, SetQuality]
    overlap: Overlap | None


def read_label(folder: Path, name: str) -> NDArray[np.uint8] | None:
    """A label PNG as uint8 ``[H, W]``, None where there is none."""
    path = folder / "labels" / f"{name}.png"
    if not path.is_file():
        return None
    with Image.open(path) as image:
        return np.asarray(image, dtype=np.uint8)


def label_names(folder: Path) -> list[str]:
    """Names of the images that a label set holds, in order."""
    root = folder / "labels"
    return sorted(path.relative_to(root).with_suffix("").as_posix() for path in root.rglob("*.png"))


def spread(count: int, most: int) -> list[int]:
    """``most`` positions of ``count``, evenly spaced (all of them if there are fewer)."""
    return list(range(count)) if count <= most else [(2 * i + 1) * count // (2 * most) for i in range(most)]


def compare(
    folder: Path, sets: Sequence[str], num_classes: int, target: Dataset | None, most: int = MOST_IMAGES
) -> Comparison:
    """Measure the label sets ``folder/<set>`` on at most ``most`` images, evenly spaced.

    Args:
        target: the target set, for its ground truth; None, or an unlabelled one, measures coverage and overlap alone.
    """
    names = label_names(folder / sets[0])
    index = {name: i for i, name in enumerate(target.names)} if target is not None and target.labelled else {}
    quality = {name: SetQuality(np.zeros((num_classes, num_classes), dtype=np.int64)) for name in sets}
    overlap = Overlap("ssl", "esl") if {"ssl", "esl"} <= set(sets) else None
    chosen = [names[i] for i in spread(len(names), most)]
    for name in chosen:
        maps = {key: label for key in sets if (label := read_label(folder / key, name)) is not None}
        truth = None
        if target is not None and name in index and maps:
            height, width = next(iter(maps.values())).shape
            truth = resize_label(target.label(index[name]), (width, height)).numpy()
        for key, label in maps.items():
            quality[key].kept += int((label != IGNORE).sum())
            quality[key].pixels += label.size
            if truth is not None:
                quality[key].confusion += confusion_matrix(
                    torch.from_numpy(truth), torch.tensor(label), num_classes
                ).numpy()
        if overlap is not None and "ssl" in maps and "esl" in maps:
            overlap.add(maps["ssl"], maps["esl"], truth)
    return Comparison(len(chosen), len(names), bool(index), quality, overlap)
