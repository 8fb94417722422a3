"""From a confusion matrix to the numbers of the field's tables."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from esl_dist.labels import protocol

Confusion = NDArray[np.int64]


def iou(confusion: Confusion) -> NDArray[np.float64]:
    """Intersection over union per class, 0-1: TP / (TP + FP + FN); NaN for a class that is neither labelled nor
    predicted.

    Args:
        confusion: int64 ``[C, C]``, rows = label.
    """
    hit = np.diag(confusion).astype(np.float64)
    union = confusion.sum(0) + confusion.sum(1) - np.diag(confusion)
    values: NDArray[np.float64] = np.divide(hit, union, out=np.full(len(hit), np.nan), where=union > 0)
    return values


def mean_iou(values: NDArray[np.float64]) -> float:
    """Mean of the classes that occur; NaN if none does."""
    present = values[~np.isnan(values)]
    return float(present.mean()) if present.size else math.nan


def subset_scores(values: NDArray[np.float64], class_names: Sequence[str]) -> dict[str, tuple[float, tuple[str, ...]]]:
    """Scores over part of a network's classes that the literature reports, by name: mean IoU and the classes it is
    taken over.

    A 19-class network scored on SYNTHIA's 16 (or 13) classes is ``16-from-19`` (``13-from-19``): the IoU of the full
    19-class matrix, averaged over the subset. It is another number than a 16-class network's own mean. ``13-of-16`` is
    the mIoU* of a 16-class network.
    """
    names = tuple(class_names)
    subsets = {
        protocol("19").classes: {"16-from-19": "16", "13-from-19": "13"},
        protocol("16").classes: {"13-of-16": "13"},
    }.get(names, {})
    scores = {}
    for title, subset in subsets.items():
        kept = protocol(subset).classes
        scores[title] = (mean_iou(values[[names.index(name) for name in kept]]), kept)
    return scores


def merged_scores(confusion: Confusion, class_names: Sequence[str]) -> dict[str, dict[str, float]]:
    """One 19-class prediction set under the protocols that merge classes: ``7-from-19`` and ``10-from-19`` -> IoU per
    merged class.
    """
    names = tuple(class_names)
    if names != protocol("19").classes:
        return {}
    scores = {}
    for coarse in (protocol("7"), protocol("10")):
        coarse_of = {
            i: coarse.index_of(name) for i, name in enumerate(names) if coarse.index_of(name) < coarse.num_classes
        }
        values = iou(fold(confusion, coarse_of, coarse.num_classes))
        scores[f"{coarse.name}-from-19"] = {name: float(values[i]) for i, name in enumerate(coarse.classes)}
    return scores


def group_scores(confusion: Confusion, groups: Sequence[tuple[str, Sequence[int]]]) -> dict[str, float]:
    """IoU per group of a class file, each the union of some classes; a class of no group is ignored where labelled and
    wrong where predicted.
    """
    group_of = {position: number for number, (_, held) in enumerate(groups) for position in held}
    values = iou(fold(confusion, group_of, len(groups)))
    return {name: float(values[number]) for number, (name, _) in enumerate(groups)}


def fold(confusion: Confusion, coarse_of: Mapping[int, int], num_coarse: int) -> Confusion:
    """Score one set of fine predictions under a coarser protocol: sum the rows and columns of the classes that it
    merges.

    Args:
        confusion: int64 ``[C, C]``, rows = label.
        coarse_of: fine class -> coarse class; a fine class that is missing is ignored where labelled, and wrong where
        predicted. num_coarse: number of coarse classes K.

    Returns:
        int64 ``[K + 1, K + 1]``: the last column counts predictions of classes outside the protocol, the last row is
        zero. ``iou`` of it, cut to K, gives the scores.
    """
    folded = np.zeros((num_coarse + 1, num_coarse + 1), dtype=np.int64)
    for row in range(len(confusion)):
        if row not in coarse_of:
            continue
        for column in range(len(confusion)):
            folded[coarse_of[row], coarse_of.get(column, num_coarse)] += confusion[row, column]
    return folded
