"""From a checkpoint to label sets: the network, its batch-norm statistics and the extraction, put together for the
pipeline and the entry.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
from torch import Tensor

from esl_dist.config.schema import Config
from esl_dist.data.dataset import Dataset
from esl_dist.data.loader import inference_batches
from esl_dist.data.sampler import spread
from esl_dist.data.transforms import content_size, cut_padding, resize_label
from esl_dist.distributed.in_step import Stop, never
from esl_dist.distributed.runtime import Runtime
from esl_dist.labels import protocol
from esl_dist.pseudo_labels.extract import LabelSet, TargetImages, extract
from esl_dist.pseudo_labels.inference import Forward
from esl_dist.stages.inference import Predictor

log = logging.getLogger(__name__)


def make_labels(
    config: Config,
    checkpoint: Path,
    target: Dataset,
    out: Path,
    runtime: Runtime,
    rules: Mapping[str, str],
    spool: Path,
    portion_round: int = 0,
    from_spool: bool = False,
    stop: Stop = never,
) -> list[LabelSet]:
    """One label set per entry of ``rules`` (name -> rule) in ``out/<name>``, from one inference pass over ``target``.

    Args:
        checkpoint: checkpoint folder or file of the network that makes the labels.
        spool: folder that belongs to this network.
        from_spool: threshold again what an earlier pass left in ``spool``; no network is loaded.
        stop: asked every few images; see ``in_step``.

    Raises:
        ValueError: the checkpoint is of another architecture, or the spool was made by another network.
    """
    options = config.extract
    table = protocol(config.data.protocol)
    settings = [
        (name, dataclasses.replace(config.pseudo_labels, rule=cast(Any, rule)), out / name)
        for name, rule in rules.items()
    ]
    with contextlib.ExitStack() as stack:
        stack.enter_context(runtime.fixed_forward())
        forward: Forward = _no_network
        if not from_spool:
            predictor = Predictor.from_checkpoint(config, checkpoint, runtime, options.precision)
            stack.enter_context(predictor.statistics(options.bn_statistics, statistics_batches(config, target)))
            forward = predictor
        return extract(
            forward,
            _target_images(config, target),
            out,
            spool,
            num_classes=table.num_classes,
            class_names=table.classes,
            settings=settings,
            config=options,
            fingerprint=_fingerprint(config, file_sha256(checkpoint), runtime),
            portion_round=portion_round,
            from_spool=from_spool,
            report=log.info,
            device=runtime.device,
            truth=_truth(target) if target.labelled else None,
            stop=stop,
            weights=config.selftrain.label_weight == "confidence",
        )


def file_sha256(checkpoint: Path) -> str:
    """SHA-256 of the segmenter's file in a checkpoint folder, or of a weights file itself."""
    return hashlib.sha256((checkpoint / "segmenter.pt" if checkpoint.is_dir() else checkpoint).read_bytes()).hexdigest()


def _no_network(images: Tensor) -> Tensor:
    raise AssertionError("a spool needs no forward")


def _truth(target: Dataset) -> Callable[[int, tuple[int, int]], np.ndarray]:
    """Ground truth at a label's size, for the figures of how many selected pixels are wrong; no threshold
    looks at it.
    """

    def truth(index: int, size_hw: tuple[int, int]) -> np.ndarray:
        return resize_label(target.label(index), (size_hw[1], size_hw[0])).numpy()

    return truth


def statistics_batches(config: Config, target: Dataset) -> Iterator[Tensor]:
    """The unlabelled target images that batch-norm statistics are re-estimated on: evenly spaced, in full batches."""
    indices = spread(len(target), config.extract.bn_images)
    batch = min(config.extract.batch, len(indices))
    for found in inference_batches(
        target,
        indices[: len(indices) // batch * batch],
        size=config.data.target.size,
        batch=batch,
        fit=config.data.target.fit,
    ):
        yield found.images


def _target_images(config: Config, target: Dataset) -> TargetImages:
    """The target set at its training size; padded images are labelled without their padding, so that it counts in no
    threshold.
    """
    domain, canvas = config.data.target, config.extract.size

    def batches(indices: Sequence[int]) -> Iterator[tuple[list[int], Tensor]]:
        for found in inference_batches(target, indices, size=domain.size, batch=config.extract.batch, fit=domain.fit):
            yield found.indices, found.images

    def output_size(index: int) -> tuple[int, int]:
        width, height = content_size(target.size(index), canvas, domain.fit)
        return height, width

    def cut(index: int, logits: Tensor) -> Tensor:
        return cut_padding(logits, target.size(index), domain.size, domain.fit)

    if domain.fit == "stretch":
        return TargetImages(target.names, batches, domain.size)
    return TargetImages(target.names, batches, domain.size, output_size, cut)


def _fingerprint(config: Config, digest: str, runtime: Runtime) -> dict[str, object]:
    """What the bits of a score depend on beside the image."""
    return {
        "checkpoint": digest,
        "mean": list(config.data.mean),
        "scale": config.data.scale,
        "fit": (
            f"{config.data.target.fit} {config.extract.size[0]}x{config.extract.size[1]}"
            if config.data.target.fit == "pad"
            else "stretch"
        ),
        "bn_statistics": config.extract.bn_statistics,
        "bn_images": config.extract.bn_images,
        "precision": config.extract.precision,
        "threads": runtime.inference_threads,
    }
