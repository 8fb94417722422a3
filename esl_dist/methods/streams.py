"""The training streams that methods share: which images, in which order, with which labels."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from esl_dist.config.schema import DomainConfig
from esl_dist.data import open_dataset
from esl_dist.data.dataset import Dataset, FolderDataset
from esl_dist.data.loader import Order, TrainStream, View
from esl_dist.data.prefetch import prefetched
from esl_dist.data.subset import without
from esl_dist.distributed.collectives import agree
from esl_dist.engine.step import Streams
from esl_dist.methods.node import Work
from esl_dist.methods.stage import Stage

OTHER_ORDER = 1 << 20
"""Added to a seed for a training that must not repeat the order of those that come after it."""


def labelled(work: Work, dataset: Dataset, domain: DomainConfig, start: int, shift: int = 0, **view: Any) -> Streams:
    """One stream of labelled images, for training on labels alone; ``view`` over the data's own options."""
    source = stream(work, dataset, domain, 2 * work.config.run.seed + shift, start, **view)
    return Streams(prefetched(source, work.runtime.device), None, source.close)


def both_domains(work: Work, stage: Stage, start: int, target: dict[str, Any], **view: Any) -> Streams:
    """Labelled source images beside target images.

    Args:
        target: what the target stream reads beside images (``labels``, ``label_dir``, ``weight_dir``).
        view: of ``TrainStream``'s options, over the data's own, for both.
    """
    data, seed = work.config.data, 2 * work.config.run.seed
    first = stream(work, source_of(work, stage), data.source, seed, start, **view)
    images = agree(lambda: labelled_images(work, stage))
    second = stream(work, images, data.target, seed + 1, start, **view, **target)

    def close() -> None:
        first.close()
        second.close()

    return Streams(prefetched(first, work.runtime.device), prefetched(second, work.runtime.device), close)


def labelled_images(work: Work, stage: Stage) -> Dataset:
    """The target set; where a stage learns from its labels, without the images that could not be read for them."""
    if not stage.labels:
        return work.target
    return without(work.target, work.run.labels.set(stage.labels).thresholds.read().get("unreadable", {}))


def source_of(work: Work, stage: Stage) -> Dataset:
    """The labelled images that a stage learns from: the originals, or as a translation rewrote them."""
    images = stage.needs.get("images", "")
    if not images:
        return work.source
    return agree(lambda: translated(work, work.run.stage(images).translated))


def translated(work: Work, folder: Path) -> FolderDataset:
    """The source set that a translation wrote to ``folder``."""
    data = work.config.data
    return open_dataset(dataclasses.replace(data.source, root=str(folder.absolute())), data.root, data.classes)


def stream(work: Work, dataset: Dataset, domain: DomainConfig, seed: int, start: int, **more: Any) -> TrainStream:
    """This rank's share of a data set from optimiser step ``start`` on; ``more`` of the view, over the data's own."""
    optim, data, runtime = work.config.optim, work.config.data, work.runtime
    view: dict[str, Any] = {"size": domain.size, "fit": domain.fit, "mirror": data.mirror, "blur": data.blur}
    order = Order(seed, optim.batch, runtime.rank, runtime.world, optim.accumulate)
    return TrainStream(dataset, View(**(view | more)), order, start_step=start, workers=data.workers)
