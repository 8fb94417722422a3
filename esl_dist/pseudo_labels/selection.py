"""Exact order statistics of per-class scores over all images of all ranks (public): see ``thresholds/radix.py`` for
how.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from fractions import Fraction
from typing import Any

import numpy as np

from esl_dist.distributed import collectives
from esl_dist.pseudo_labels.scores.keys import count_high, high_bins, keys, scores
from esl_dist.pseudo_labels.scores.kinds import Kind
from esl_dist.pseudo_labels.thresholds.counting import Cells, count_low, valid
from esl_dist.pseudo_labels.thresholds.order import HALF, Rank, rank_of
from esl_dist.pseudo_labels.thresholds.radix import locate, order_statistics, ranks_of, sum_over_ranks

Shard = tuple[Any, Any]
"""Labels (uint8, 255 ignored) and scores (float32) of the same pixels, numpy or torch, any shape."""


def _pixels(shards: Iterable[Shard], num_classes: int, kind: Kind) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for label, score in shards:
        yield valid(np.asarray(label), keys(np.asarray(score)), num_classes, kind)


def class_quantiles(
    shards: Iterable[Shard], num_classes: int, rule: Rank = "keep", *, share: Fraction = HALF, kind: Kind = "entropy"
) -> np.ndarray:
    """Exact per-class order statistics of ``(label uint8, score float32)`` arrays: float32 ``[num_classes]``, NaN for
    an absent class.

    Over all ranks when a process group is up (every rank calls it with its own shards, possibly none). The shards are
    read twice: a list or another re-iterable costs no memory, a generator is kept (5 bytes a pixel). ``share`` is the
    exact fraction of each class that ``rule="keep"`` keeps; ``kind`` says which end is confident. Label 255 is ignored;
    negative scores count as 0.

    Raises ``ValueError`` on all ranks for a score that is NaN, infinite or above 1.0078 (88 for ``logit_margin``), or a
    label outside the classes.
    """
    if iter(shards) is shards:
        shards = list(shards)
    high = np.zeros((num_classes, high_bins(kind)), np.int64)

    def first_pass() -> None:
        for label, key in _pixels(shards, num_classes, kind):
            count_high(high, label, key)

    collectives.agree(first_pass)
    sum_over_ranks(high)
    bins, rest = locate(high, ranks_of(high.sum(1), lambda n: rank_of(rule, n, kind, share)))
    cells = Cells.of(bins, high_bins(kind))
    low = cells.empty()
    for label, key in _pixels(shards, num_classes, kind):
        count_low(low, cells, label, key)
    sum_over_ranks(low)
    found = order_statistics(low, cells, bins, rest)
    values = scores(np.maximum(found, 0).astype(np.uint32)).copy()
    values[found < 0] = np.nan
    return values
