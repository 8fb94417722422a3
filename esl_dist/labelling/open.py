"""From a checkpoint to label sets: the network, its batch-norm statistics and the extraction, put together for the
pipeline and the entry.
"""

from __future__ import annotations

import dataclasses
import hashlib
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, cast

import numpy as np
from torch import Tensor

from esl_dist.config.pseudo_labels import CONFIDENCES
from esl_dist.config.schema import Config, DomainConfig, PseudoLabelConfig
from esl_dist.data.dataset import Dataset
from esl_dist.data.decode import DataError
from esl_dist.data.loader import inference_batches
from esl_dist.data.sampler import spread
from esl_dist.data.transforms import content_size, cut_padding, resize_label
from esl_dist.distributed.collectives import agree
from esl_dist.distributed.in_step import Stop, never
from esl_dist.distributed.runtime import Runtime
from esl_dist.labelling.opened import opened
from esl_dist.labels import IGNORE, protocol
from esl_dist.metrics.inference import Predictor
from esl_dist.models.builders import normalisation_options
from esl_dist.pseudo_labels.extraction import Extraction
from esl_dist.pseudo_labels.sets.forward import Forward, TargetImages
from esl_dist.pseudo_labels.sets.teacher import Teacher
from esl_dist.runs import CheckpointFolder

log = logging.getLogger(__name__)

FEW = 64
"""Images that are read in a thread: processes take longer to start."""


def open_extraction(
    config: Config,
    checkpoint: Path,
    target: Dataset,
    runtime: Runtime,
    spool: Path,
    *,
    sha256: str = "",
    from_spool: bool = False,
    stop: Stop = never,
) -> Extraction:
    """The extraction of a checkpoint's labels of ``target``, by the options of a run; its network is loaded when an
    image must be scored.

    Args:
        checkpoint: checkpoint folder or file of the network that makes the labels.
        spool: folder that belongs to this network.
        sha256: of its weights, where that is known; otherwise the file is read for it.
        from_spool: threshold again what an earlier pass left in ``spool``; the network is never run.
        stop: asked every few images; see ``in_step``.

    Raises:
        ValueError: an image comes twice, or the target set is empty.
    """
    options = config.extract
    arithmetic = agree(lambda: runtime.inference(options.precision, "extract.precision"))

    def load(file: Path) -> Predictor:
        return agree(lambda: Predictor.from_checkpoint(config, file, runtime, options.precision))

    def network() -> AbstractContextManager[Forward]:
        return opened(checkpoint, load, options.bn_statistics, lambda: statistics_batches(config, target))

    digest = sha256 or agree(lambda: file_sha256(checkpoint))
    classes = protocol(config.data.classes).classes
    teacher = Teacher(
        network, _given(config, digest, runtime, arithmetic.precision), classes, arithmetic.applied, runtime.device
    )
    return Extraction(
        teacher,
        images_of(config, target, config.data.target, options.size),
        options,
        spool,
        from_spool,
        truth=ground_truth(target) if target.labelled else None,
        weights=config.selftrain.label_weight == "confidence",
        report=log.info,
        stop=stop,
    )


def rules_of(config: Config, rules: Mapping[str, str]) -> dict[str, PseudoLabelConfig]:
    """Options of each label set (name -> rule): the run's, with the set's own rule.

    A confidence that only some of the rules can select by is theirs alone; the others take their own.
    """
    chosen = {}
    for name, rule in rules.items():
        own = config.pseudo_labels.confidence
        confidence = own if own in CONFIDENCES[rule] else "auto"
        chosen[name] = dataclasses.replace(config.pseudo_labels, rule=cast(Any, rule), confidence=cast(Any, confidence))
    return chosen


def file_sha256(checkpoint: Path) -> str:
    """SHA-256 of the segmenter's file in a checkpoint folder, or of a weights file itself."""
    return hashlib.sha256(
        (CheckpointFolder(checkpoint).segmenter if checkpoint.is_dir() else checkpoint).read_bytes()
    ).hexdigest()


def ground_truth(target: Dataset) -> Callable[[int, tuple[int, int]], np.ndarray]:
    """Ground truth at a label's size, for the figures of how many selected pixels are wrong; no threshold
    looks at it.
    """

    def truth(index: int, size_hw: tuple[int, int]) -> np.ndarray:
        try:
            return resize_label(target.label(index), (size_hw[1], size_hw[0])).numpy()
        except DataError as error:
            log.warning("judged without it: %s", error)
            return np.full(size_hw, IGNORE, np.uint8)

    return truth


def statistics_batches(config: Config, dataset: Dataset, domain: DomainConfig | None = None) -> Iterator[Tensor]:
    """The unlabelled images that batch-norm statistics are re-estimated on: evenly spaced, in full batches.

    Args:
        domain: whose size and fit the images get; None takes the target's.
    """
    domain = domain or config.data.target
    indices = spread(len(dataset), config.extract.bn_images)
    batch = min(config.extract.batch, len(indices))
    chosen = indices[: len(indices) // batch * batch]
    for found in inference_batches(dataset, chosen, size=domain.size, batch=batch, fit=domain.fit, leave_out=True):
        if not found.bad:  # its place in the batch is black, which would count
            yield found.images


def images_of(config: Config, target: Dataset, domain: DomainConfig, canvas: tuple[int, int]) -> TargetImages:
    """A data set at its training size; padded images are labelled without their padding, so that it counts in no
    threshold.

    Args:
        canvas: width and height of the labels, padding included.
    """

    unreadable: dict[str, str] = {}

    def batches(indices: Sequence[int]) -> Iterator[tuple[list[int], Tensor]]:
        for found in inference_batches(
            target,
            indices,
            size=domain.size,
            batch=config.extract.batch,
            workers=config.data.workers if len(indices) > FEW else 0,
            fit=domain.fit,
            leave_out=True,
        ):
            unreadable.update({bad.name: bad.reason for bad in found.bad})
            if found.indices:
                yield found.indices, found.images

    def own_size(index: int) -> tuple[int, int]:
        try:
            width, height = content_size(target.size(index), canvas, domain.fit)
        except DataError:  # it is left out; its size is asked for before that is known
            width, height = canvas
        return height, width

    def cut(index: int, logits: Tensor) -> Tensor:
        return cut_padding(logits, target.size(index), domain.size, domain.fit)

    return TargetImages(
        target.names,
        batches,
        domain.size,
        None if domain.fit == "stretch" else own_size,
        cut,
        config.data.bad_samples,
        unreadable,
    )


def _given(config: Config, digest: str, runtime: Runtime, precision: str) -> dict[str, object]:
    """What the bits of a score depend on beside the image."""
    return {
        "checkpoint": digest,
        **{key.removeprefix("data."): value for key, value in normalisation_options(config.model, config.data).items()},
        "fit": (
            f"{config.data.target.fit} {config.extract.size[0]}x{config.extract.size[1]}"
            if config.data.target.fit == "pad"
            else "stretch"
        ),
        "bn_statistics": config.extract.bn_statistics,
        "bn_images": config.extract.bn_images,
        "precision": precision,
        "threads": runtime.inference_threads,
    }
