"""The integer work of one image: histograms of the two digits of its keys, and the mask of what is kept.

Only additions of integers: the order of images, and who counts them, cannot change a result.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from types import ModuleType

import numpy as np

from esl_dist.compiled import loops
from esl_dist.labels import IGNORE
from esl_dist.pseudo_labels.scores.keys import LIMITS, LOW_BINS, ScoreError
from esl_dist.pseudo_labels.scores.kinds import Kind

PART = 1 << 16
"""Pixels at a time, without numba."""


def compiled() -> ModuleType | None:
    """numba's loops where numba can be used: one pass over the pixels instead of numpy's five."""
    return loops("esl_dist.pseudo_labels.thresholds.compiled", "selection takes five times longer")


def valid(
    label: np.ndarray, key: np.ndarray, num_classes: int, kind: Kind = "entropy"
) -> tuple[np.ndarray, np.ndarray]:
    """The labelled pixels of one image, flat; ``ScoreError`` on a key or a label out of range."""
    label, key = label.reshape(-1), key.reshape(-1)
    if len(label) != len(key):
        raise ScoreError(f"{len(label)} labels for {len(key)} scores")
    labelled = label != IGNORE
    if not labelled.all():
        label, key = label[labelled], key[labelled]
    if len(label) and int(label.max()) >= num_classes:
        raise ScoreError(f"label {int(label.max())} where the classes are 0 to {num_classes - 1}")
    bad = int(np.count_nonzero(key >= LIMITS[kind]))
    if bad:
        raise ScoreError(
            f"{bad} of {len(key)} scores are NaN, infinite or above {'88' if kind == 'logit_margin' else '1'}"
        )
    return label, key


@dataclass(frozen=True)
class Cells:
    """The (class, upper digit) pairs whose lower digits are wanted: ``slot[c, high]`` is the row of the histogram, or
    -1.
    """

    slot: np.ndarray
    count: int

    @staticmethod
    def of(bins: np.ndarray, high_bins: int) -> Cells:
        """From int64 ``bins [..., C]``, -1 where a class wants none; ``high_bins`` upper digits that there are."""
        num_classes = bins.shape[-1]
        slot = np.full((num_classes, high_bins), -1, np.int16)
        wanted = sorted({(c, int(b)) for row in bins.reshape(-1, num_classes) for c, b in enumerate(row) if b >= 0})
        for index, (c, b) in enumerate(wanted):
            slot[c, b] = index
        return Cells(slot, len(wanted))

    def empty(self) -> np.ndarray:
        return np.zeros((self.count, LOW_BINS), np.int64)


def count_low(histogram: np.ndarray, cells: Cells, label: np.ndarray, key: np.ndarray) -> None:
    """Add the lower 16 bits of the keys in ``cells`` to int64 ``histogram [slots, LOW_BINS]``."""
    label, key = label.reshape(-1), key.reshape(-1)
    fast = compiled()
    if fast is not None:
        fast.count_low(histogram, cells.slot, label, key.view(np.int32))
        return
    slots, digits = cells.slot.reshape(-1), np.int32(cells.slot.shape[1])
    for part in _parts(len(label)):
        keys = key[part].view(np.int32)
        cell = np.multiply(label[part], digits, dtype=np.int32)
        cell += keys >> np.int32(16)
        slot = slots.take(cell)
        inside = np.flatnonzero(slot >= 0)
        low = slot[inside].astype(np.intp) * LOW_BINS + (keys[inside] & np.int32(0xFFFF))
        np.add.at(histogram.reshape(-1), low, 1)


def _parts(pixels: int) -> Iterator[slice]:
    """Pieces of an image whose intermediate arrays stay in the processor's cache."""
    for start in range(0, pixels, PART):
        yield slice(start, start + PART)


def mask(label: np.ndarray, key: np.ndarray, first: np.ndarray, last: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """``label`` where ``first[label] <= key <= last[label]`` (int64 ``[C]`` each), else 255; and how often each value
    is left, int64 ``[256]``.
    """
    lowest, highest = np.zeros(256, np.int32), np.full(256, -1, np.int32)
    lowest[: len(first)], highest[: len(last)] = first, last
    fast = compiled()
    if fast is not None:
        out, kept = np.empty(label.shape, np.uint8), np.zeros(256, np.int64)
        fast.mask(label.reshape(-1), key.reshape(-1).view(np.int32), lowest, highest, out.reshape(-1), kept)
        return out, kept
    out, kept = np.empty(label.shape, np.uint8), np.zeros(256, np.int64)
    flat, keys, masked = label.reshape(-1), key.reshape(-1).view(np.int32), out.reshape(-1)
    from_zero = bool((lowest <= 0).all())  # as with entropy: there is no smaller key
    for part in _parts(len(flat)):
        inside = keys[part] <= highest.take(flat[part])
        if not from_zero:
            inside &= keys[part] >= lowest.take(flat[part])
        # 255, or 0 and the label
        np.bitwise_or(np.subtract(inside.view(np.uint8), 1, out=masked[part]), flat[part], out=masked[part])
        kept += np.bincount(masked[part], minlength=256)
    return out, kept
