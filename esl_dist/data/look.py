"""A second's look at the labels that are about to be learned from or scored on: do they mean what the configuration
says?

Ids of another encoding are mostly legal, so nothing else would notice them: training would go to its end and call the
sky
road. A few files, spread over the set, are enough to see it.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from esl_dist.config.schema import Config, DataConfig, DomainConfig
from esl_dist.data.dataset import DataError, Dataset, EncodingError, FolderDataset
from esl_dist.data.joined import parts_of
from esl_dist.data.prepared import PreparedDataset
from esl_dist.data.reading import refuse_known
from esl_dist.data.sampler import index_at
from esl_dist.labels import IGNORE, TRAIN_CLASSES, protocol

log = logging.getLogger(__name__)

FILES, SECONDS = 12, 0.4
"""Label files that are looked at, and when no further one is begun (three are always looked at)."""

_AT_LEAST = 3
_LAST_TRAIN_ID = len(TRAIN_CLASSES) - 1


@dataclass(frozen=True)
class Sample:
    """What some label files of a set hold."""

    files: int
    pixels: NDArray[np.int64]
    """By stored id: ``[256]``."""


def look(dataset: Dataset, data: DataConfig, domain: str, told: DomainConfig | None = None) -> None:
    """Stop before the first step where a set's labels are not what they are taken for.

    Ids whose meaning the user gave (``dataset=folder``, ``encoding``) are taken at his word, as all are with
    ``data.insist``; labels without a labelled pixel are not.

    Args:
        domain: ``source`` or ``target``, for messages.
        told: the options that say what the labels mean; None takes the domain's.

    Raises:
        ValueError: no labelled pixel in the sample, ids of no class, or what looks like another encoding; with the way
            out.
    """
    what, told, classes = f"data.{domain}", told or getattr(data, domain), protocol(data.classes)
    opened = dataset.originals if isinstance(dataset, PreparedDataset) else dataset
    if not isinstance(opened, FolderDataset) or not opened.labelled:
        return
    found = sample(opened)
    if not found.files:
        return  # every file of it is unreadable: counted and stopped where they are read
    learned = np.flatnonzero((opened.lookup != IGNORE) & ~opened.illegal)
    present = np.flatnonzero(found.pixels)
    labelled = np.intersect1d(present, learned)
    where = f"{what}: in {found.files} of its label files"
    first = (opened.label_files or ("",))[0]
    if not len(labelled):
        raise ValueError(
            f"{where}, {first} among them, every pixel is ignored under {classes.name}'s classes: ids "
            f"{_listed(present)}; choose another label folder ({what}.labels), encoding ({what}.encoding) or "
            f"data.classes"
        )
    if data.insist or told.encoding or told.dataset == "folder":
        return
    beyond = int((learned > _LAST_TRAIN_ID).sum())
    if 2 * beyond >= len(learned) and not (np.setdiff1d(present, (IGNORE,)) > _LAST_TRAIN_ID).any():
        raise ValueError(
            f"{where} no id is above {_LAST_TRAIN_ID} but {IGNORE}: these look like train ids, or ids of your own "
            f"(first: "
            f"{first}); set {what}.encoding=cityscapes_train_ids, or use dataset=folder with a class file; "
            f"data.insist=true trains on them as they are"
        )
    kinds = len(np.unique(opened.lookup[labelled]))
    if 3 * kinds < classes.num_classes:
        raise ValueError(
            f"{where} there are {kinds} of {classes.num_classes} classes (ids {_listed(present)}): these look like "
            f"labels "
            f"of another encoding (first: {first}); set {what}.encoding to theirs, or use dataset=folder with a class "
            f"file; data.insist=true trains on them as they are"
        )


def look_first(config: Config, source: Dataset, target: Dataset, scored: Dataset | None) -> None:
    """``look`` at every set whose labels a run learns from or is scored on, and at what an earlier reading of all files
    found (see ``reading``).
    """
    data = config.data
    for part, told in zip(parts_of(source), (data.source, *data.also_source), strict=True):
        look(part, data, "source", told)
    if any(word.partition(":")[0] == "oracle" for word in config.run.stages):
        for part, told in zip(parts_of(target), (data.target, *data.also_target), strict=True):
            look(part, data, "target", told)
    if scored is not None:
        look(scored, data, "target")
    for what, dataset in (("source", source), ("target", target), ("scored images", scored)):
        for part in () if dataset is None else parts_of(dataset):
            for bad in refuse_known(part, data, what):
                log.warning("%s: cannot be read: %s", what, bad.reason)


def sample(dataset: FolderDataset, files: int = FILES, seconds: float = SECONDS) -> Sample:
    """Pixels by stored id of some label files, spread over the set; unreadable ones are passed over.

    Raises:
        EncodingError: a file holds an id or colour that the data set does not have.
    """
    pixels, read, end = np.zeros(256, np.int64), 0, time.monotonic() + seconds
    for position in range(min(files, len(dataset))):
        if read >= _AT_LEAST and time.monotonic() > end:
            break
        index = index_at(0, position, len(dataset))
        try:
            pixels += np.bincount(dataset.raw_label(index).reshape(-1), minlength=256)
            if (pixels[dataset.illegal] > 0).any():
                dataset.label(index)
        except EncodingError:
            raise
        except DataError:
            continue
        read += 1
    return Sample(read, pixels)


def _listed(ids: NDArray[np.int64]) -> str:
    return ", ".join(map(str, ids[:8].tolist())) + (" …" if len(ids) > 8 else "")
