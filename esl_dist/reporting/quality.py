"""How much of the target a label set covers, how much of it is wrong, and where two sets differ (the ESL paper's Table
4).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from esl_dist.data import decode
from esl_dist.data.dataset import Dataset
from esl_dist.data.transforms import resize_label
from esl_dist.labels import IGNORE
from esl_dist.labels.overlap import Overlap
from esl_dist.metrics.confusion import confusion_matrix
from esl_dist.runs import LabelSetFolder

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


@dataclass(frozen=True)
class Comparison:
    """Every label set of a run, measured on the same images."""

    images: int
    available: int
    truth: bool
    sets: dict[str, SetQuality]
    overlap: Overlap | None


def read_label(folder: LabelSetFolder, name: str) -> NDArray[np.uint8] | None:
    """A label PNG as uint8 ``[H, W]``, None where there is none."""
    path = folder.label(name)
    return decode.read_ids(path) if path.is_file() else None


def spread(count: int, most: int) -> list[int]:
    """``most`` positions of ``count``, evenly spaced (all of them if there are fewer)."""
    return list(range(count)) if count <= most else [(2 * i + 1) * count // (2 * most) for i in range(most)]


def compare(
    folders: Sequence[LabelSetFolder], num_classes: int, target: Dataset | None, most: int = MOST_IMAGES
) -> Comparison:
    """Measure label sets of the same images on at most ``most`` images, evenly spaced.

    Args:
        target: the target set, for its ground truth; None, or an unlabelled one, measures coverage and overlap alone.
    """
    sets = {folder.name: folder for folder in folders}
    names = folders[0].names()
    index = {name: i for i, name in enumerate(target.names)} if target is not None and target.labelled else {}
    quality = {name: SetQuality(np.zeros((num_classes, num_classes), dtype=np.int64)) for name in sets}
    overlap = Overlap("ssl", "esl") if {"ssl", "esl"} <= set(sets) else None
    chosen = [names[i] for i in spread(len(names), most)]
    for name in chosen:
        maps = {key: label for key, folder in sets.items() if (label := read_label(folder, name)) is not None}
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
