"""Two label sets of the same images, pixel by pixel: how much a round of self-training changed its own labels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from esl_dist.data.decode import read_ids
from esl_dist.distributed import collectives
from esl_dist.labels import IGNORE
from esl_dist.pseudo_labels.thresholds.radix import sum_over_ranks
from esl_dist.runs import LabelSetFolder


def agreement(before: Path, now: Path, names: Sequence[str]) -> dict[str, float]:
    """Shares of all pixels, 0-1: ``both_kept`` by the two label folders, and ``agreed`` on (kept by both, with one
    class). Collective.

    Raises:
        ValueError: on all ranks, where a label is missing or its size differs.
    """

    def count() -> np.ndarray:
        total = np.zeros(3, np.int64)
        for name in names[collectives.rank() :: collectives.world()]:
            first, second = (read_ids(LabelSetFolder(folder).label(name)) for folder in (before, now))
            if first.shape != second.shape:
                raise ValueError(
                    f"{LabelSetFolder(now).label(name)}: {second.shape[1]}x{second.shape[0]} pixels, the round "
                    f"before has {first.shape[1]}x{first.shape[0]}; delete both label sets"
                )
            both = (first != IGNORE) & (second != IGNORE)
            total += np.array([first.size, both.sum(), (both & (first == second)).sum()], np.int64)
        return total

    pixels, both, agreed = sum_over_ranks(collectives.agree(count)).tolist()
    return {"both_kept": both / max(pixels, 1), "agreed": agreed / max(pixels, 1)}
