"""Exact order statistics of per-class scores over all images of all ranks, in two passes and two small all-reduces.

The key of a score has two 16-bit digits. Pass 1 counts the upper digits per class and finds the digit that holds the
wanted rank; pass 2 counts the lower digits of the pixels in that bin. Together they are the bits of the very float that
a sort of all scores would have at that rank. Memory does not grow with the number of images: 2.5 MB and 0.5 MB per
class.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction
from typing import Any

import numpy as np
import torch

from esl_dist.distributed import collectives
from esl_dist.pseudo_labels import counting
from esl_dist.pseudo_labels.counting import Cells
from esl_dist.pseudo_labels.keys import HIGH_BINS, Kind, keys, scores
from esl_dist.pseudo_labels.ranks import HALF, Rank, rank_of

Shard = tuple[Any, Any]
"""Labels (uint8, 255 ignored) and scores (float32) of the same pixels, numpy or torch, any shape."""


def sum_over_ranks(counts: np.ndarray) -> np.ndarray:
    """Integer counts added over the ranks, in place."""
    collectives.all_reduce_(torch.from_numpy(counts))
    return counts


def ranks_of(counts: np.ndarray, rank: Callable[[int], int]) -> np.ndarray:
    """The wanted rank per class, int64 ``[C]``; 0 for an absent class."""
    return np.array([rank(int(n)) if n else 0 for n in counts], np.int64)


def locate(histogram: np.ndarray, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Per row of ``histogram [rows, bins]``: the bin that holds the 0-based rank ``wanted``, and the rank inside it; -1
    where empty.
    """
    total = np.cumsum(histogram, axis=1)
    bins = np.full(len(histogram), -1, np.int64)
    rest = np.zeros(len(histogram), np.int64)
    for row, below in enumerate(total):
        if below[-1]:
            bins[row] = np.searchsorted(below, wanted[row], side="right")
            rest[row] = wanted[row] - (below[bins[row] - 1] if bins[row] else 0)
    return bins, rest


def order_statistics(low: np.ndarray, cells: Cells, bins: np.ndarray, rest: np.ndarray) -> np.ndarray:
    """Keys (int64 ``[C]``, -1 where absent) from the second pass's histogram and what :func:`locate` said
    of the first.
    """
    result = np.full(len(bins), -1, np.int64)
    for c, high in enumerate(bins):
        if high >= 0:
            row = low[cells.slot[c, high]][None]
            digit, _ = locate(row, rest[c : c + 1])
            result[c] = (int(high) << 16) | int(digit[0])
    return result


def _pixels(shards: Iterable[Shard], num_classes: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for label, score in shards:
        yield counting.valid(np.asarray(label), keys(np.asarray(score)), num_classes)


def class_quantiles(
    shards: Iterable[Shard], num_classes: int, rule: Rank = "keep", *, share: Fraction = HALF, kind: Kind = "entropy"
) -> np.ndarray:
    """Exact per-class order statistics of ``(label uint8, score float32)`` arrays: float32 ``[num_classes]``, NaN for
    an absent class.

    Over all ranks when a process group is up (every rank calls it with its own shards, possibly none). The shards are
    read twice: a list or another re-iterable costs no memory, a generator is kept (5 bytes a pixel). ``share`` is the
    exact fraction of each class that ``rule="keep"`` keeps; ``kind`` says which end is confident. Label 255 is ignored;
    negative scores count as 0.

    Raises ``ValueError`` on all ranks for a score that is NaN, infinite or above 1.0078, or a label outside the
    classes.
    """
    if iter(shards) is shards:
        shards = list(shards)
    high = np.zeros((num_classes, HIGH_BINS), np.int64)

    def first_pass() -> None:
        for label, key in _pixels(shards, num_classes):
            counting.count_high(high, label, key)

    collectives.agree(first_pass)
    sum_over_ranks(high)
    bins, rest = locate(high, ranks_of(high.sum(1), lambda n: rank_of(rule, n, kind, share)))
    cells = Cells.of(bins)
    low = cells.empty()
    for label, key in _pixels(shards, num_classes):
        counting.count_low(low, cells, label, key)
    sum_over_ranks(low)
    found = order_statistics(low, cells, bins, rest)
    values = scores(np.maximum(found, 0).astype(np.uint32)).copy()
    values[found < 0] = np.nan
    return values
