"""Scored images without a spool, between the second forward and the thresholds: what is decided already is forgotten.

After the first pass the upper digit of every threshold is known, so the lower digits matter only of pixels in those few
cells (about 1 % of an image). All other keys are replaced by one that compares the same with every possible threshold;
the map then compresses to some tens of kilobytes, which are held in memory until the labels are written.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from esl_dist.pseudo_labels.scores.kinds import Kind
from esl_dist.pseudo_labels.scores.scored import Scored


def substitutes(bins: Sequence[np.ndarray], bound_keys: Sequence[int], num_classes: int, high_bins: int) -> np.ndarray:
    """int64 ``[C, high_bins]``: the upper digit that stands for each upper digit, -1 where the key must stay whole.

    Whole stay the bins that hold an order statistic (``bins``: int64 ``[C]`` each, -1 where absent) or a fixed bound. A
    digit between two of them becomes the one just above the lower, which is on the same side of every key inside them.
    """
    table = np.zeros((num_classes, high_bins), np.int64)
    for c in range(num_classes):
        whole = np.zeros(high_bins, bool)
        whole[[int(row[c]) for row in bins if row[c] >= 0] + [key >> 16 for key in bound_keys]] = True
        just_above = np.where(whole, np.arange(1, high_bins + 1), 0)
        table[c] = np.maximum.accumulate(just_above)
        table[c][whole] = -1
    return table


class _Compressed(NamedTuple):
    id: int
    name: str
    shape: tuple[int, ...]
    label: bytes
    key: dict[Kind, bytes]


@dataclass
class Reduced:
    """Images whose keys compare with the thresholds to come as the full ones do."""

    tables: Mapping[Kind, np.ndarray]
    images: list[_Compressed] = field(default_factory=list)

    def add(self, image: Scored) -> None:
        packed: dict[Kind, bytes] = {}
        for kind, table in self.tables.items():
            key = image.key(kind)
            stand_in = table[image.label, key >> np.uint32(16)]
            packed[kind] = zlib.compress(
                np.where(stand_in < 0, key, stand_in.astype(np.uint32) << np.uint32(16)).tobytes(), 1
            )
        self.images.append(
            _Compressed(image.id, image.name, image.label.shape, zlib.compress(image.label.tobytes(), 1), packed)
        )

    def __iter__(self) -> Iterator[Scored]:
        for image in self.images:
            label = np.frombuffer(zlib.decompress(image.label), np.uint8).reshape(image.shape)
            scores = {
                kind: np.frombuffer(zlib.decompress(data), np.float32).reshape(image.shape)
                for kind, data in image.key.items()
            }
            yield Scored(image.id, image.name, label, scores, None)
