"""From a checkpoint to label sets: the network, its batch-norm statistics and the extraction, put together for the pipeline and the entry."""

from __future__ import annotations

import dataclasses
import hashlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from torch import Tensor

from esl_dist.config.schema import Config
from esl_dist.data.dataset import Dataset
from esl_dist.data.loader import inference_batches
from esl_dist.data.transforms import content_size, cut_padding
from esl_dist.distributed.runtime import Runtime
from esl_dist.labels import protocol
from esl_dist.pseudo_labels.extract import LabelSet, TargetImages, extract
from esl_dist.stages.inference import Predictor

log = logging.getLogger(__name__)


def make_labels(
    config: Config,
    checkpoint: Path,
    target: Dataset,
    out: Path,
    runtime: Runtime,
    rules: Mapping[str, str],
    portion_round: int = 0,
    from_spool: bool = False,
) -> list[LabelSet]:
    """One label set per entry of ``rules`` (name -> rule) in ``out/<name>``, from one inference pass over ``target``.

    Args:
        checkpoint: checkpoint folder or file of the network that makes the labels.
        from_spool: re-threshold what an earlier pass left in ``out/spool``; the network is not run.

    Raises:
        ValueError: the checkpoint is of another architecture, or the spool was made by another network.
    """
    options = config.extract
    table = protocol(config.data.protocol)
    file = checkpoint / "segmenter.pt" if checkpoint.is_dir() else checkpoint
    predictor = Predictor.from_checkpoint(config, file, runtime, options.precision)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    # A spool belongs to one network: another round's teacher gets a folder of its own.
    spool = out / "spool" / digest[:12]
    settings = [(name, dataclasses.replace(config.pseudo_labels, rule=cast(Any, rule)), out / name) for name, rule in rules.items()]
    with runtime.fixed_forward(), predictor.statistics(options.bn_statistics, statistics_batches(config, target)):
        return extract(
            predictor,
            _target_images(config, target),
            out,
            spool,
            num_classes=table.num_classes,
            class_names=table.classes,
            settings=settings,
            config=options,
            fingerprint=_fingerprint(config, digest, runtime),
            portion_round=portion_round,
            from_spool=from_spool,
            report=log.info,
            device=runtime.device,
        )


def statistics_batches(config: Config, target: Dataset) -> Iterator[Tensor]:
    """The unlabelled target images that batch-norm statistics are re-estimated on: evenly spaced, in full batches."""
    count = min(config.extract.bn_images, len(target))
    batch = min(config.extract.batch, count)
    indices = [i * len(target) // count for i in range(count // batch * batch)]
    for found in inference_batches(target, indices, size=config.data.target.size, batch=batch, fit=config.data.target.fit):
        yield found.images


def _target_images(config: Config, target: Dataset) -> TargetImages:
    """The target set at its training size; padded images are labelled without their padding, so that it counts in no threshold."""
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
        "fit": f"{config.data.target.fit} {config.extract.size[0]}x{config.extract.size[1]}" if config.data.target.fit == "pad" else "stretch",
        "bn_statistics": config.extract.bn_statistics,
        "bn_images": config.extract.bn_images,
        "precision": config.extract.precision,
        "threads": runtime.inference_threads,
    }
