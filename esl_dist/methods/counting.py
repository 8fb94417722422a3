"""Pixels of each class in each image of a labelled set, counted by all ranks together, or as an earlier run counted;
and what is drawn by them.
"""

from __future__ import annotations

import logging
from collections.abc import Generator
from pathlib import Path

import numpy as np
import torch

from esl_dist.data import census
from esl_dist.data.dataset import Dataset
from esl_dist.data.joined import Joined
from esl_dist.data.rare_classes import RareClasses
from esl_dist.distributed import collectives
from esl_dist.distributed.in_step import in_step
from esl_dist.labels import protocol
from esl_dist.methods.node import Work

log = logging.getLogger(__name__)


def class_counts(work: Work, dataset: Dataset) -> census.Counts:
    """``[images, 256]`` by train id, at each label's own size; kept below ``data.prepared``. Collective.

    Raises:
        ValueError: a label file of another encoding.
        StoppedBySignal: a signal asked for the end on some rank.
    """
    if isinstance(dataset, Joined):
        return np.concatenate([class_counts(work, part) for part in dataset.parts])
    data = work.config.data
    file = census.cache_file(dataset, Path(data.root, data.prepared, "census")) if data.prepared else None
    found = collectives.agree(lambda: census.read(file, len(dataset)))
    everywhere = collectives.all_sum(int(found is not None)) == work.runtime.world
    if found is not None and everywhere:
        return found
    log.info("counting the pixels of each class in %d images, once", len(dataset))
    counts = torch.zeros((len(dataset), 256), dtype=torch.int64)

    def work_through() -> Generator[None, None, None]:
        for index, row in census.counted(dataset, range(work.runtime.rank, len(dataset), work.runtime.world)):
            counts[index] = torch.from_numpy(row)
            yield

    in_step(work_through(), lambda: work.stop.local, every=16)
    collectives.all_reduce_(counts)
    if work.runtime.is_main:
        census.keep(file, counts.numpy())
    return counts.numpy()


def rare_classes(work: Work, dataset: Dataset, temperature: float, min_pixels: int, section: str) -> RareClasses:
    """How images are drawn by class, by the options of ``section``. Collective.

    Raises:
        ValueError: no image has enough pixels of any class.
    """
    counts = class_counts(work, dataset)[:, : protocol(work.config.data.classes).num_classes]
    return collectives.agree(lambda: RareClasses.of(counts, temperature, min_pixels, section))


def class_pixels(work: Work, domain: str) -> census.Counts:
    """``[C]``: of each class in the whole of a domain's labels (``source``, ``target``). Collective."""
    counts = class_counts(work, work.source if domain == "source" else work.target)
    return np.asarray(counts[:, : protocol(work.config.data.classes).num_classes].sum(0))
