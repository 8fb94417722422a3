"""Two sets of labels of the same images, pixel by pixel: what only one of them keeps, and how much of it is wrong."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from esl_dist.labels.protocols import IGNORE

PARTS = ("both", "first", "second", "none")
"""Of the pixels: kept by both sets, by one alone, by none."""

_PIXELS, _JUDGED, _WRONG = range(3)


class Overlap:
    """Counts over images. ``counts``: int64 ``[4, 3]``, per part of ``PARTS`` its pixels, those that have ground truth,
    and those of them whose label is wrong; the counts of several ranks are added.

    Args:
        first, second: names of the two sets.
    """

    def __init__(self, first: str, second: str) -> None:
        self.first, self.second = first, second
        self.counts = np.zeros((len(PARTS), 3), np.int64)

    def add(self, first: NDArray[np.uint8], second: NDArray[np.uint8], truth: NDArray[np.uint8] | None) -> None:
        """Count one image: two label maps and the ground truth, uint8 ``[H, W]``, 255 = none."""
        one, two = first != IGNORE, second != IGNORE
        both, ones, twos = (int(np.count_nonzero(mask)) for mask in (one & two, one, two))
        self.counts[:, _PIXELS] += (both, ones - both, twos - both, first.size - ones - twos + both)
        if truth is None:
            return
        known = truth != IGNORE
        wrong = known & (np.where(one, first, second) != truth)
        for row, mask in enumerate((one & two, one & ~two, two & ~one)):
            self.counts[row, _JUDGED] += np.count_nonzero(mask & known)
            self.counts[row, _WRONG] += np.count_nonzero(mask & wrong)

    def pixels(self, part: str) -> int:
        return int(self.counts[PARTS.index(part), _PIXELS])

    def share(self, part: str) -> float:
        """Of all pixels, 0-1."""
        return self.pixels(part) / max(int(self.counts[:, _PIXELS].sum()), 1)

    def wrong_share(self, part: str) -> float | None:
        """Of a part's pixels that have ground truth, those whose label is wrong; None without any."""
        _, judged, wrong = self.counts[PARTS.index(part)].tolist()
        return wrong / judged if judged else None
