"""What the teacher methods see of the two domains: crops, source images by class, margins of target images."""

from __future__ import annotations

from typing import Any

from esl_dist.config.teacher import TeacherConfig
from esl_dist.data.crops import CropRule
from esl_dist.data.margins import NONE, OF_CROP, OF_ORIGINAL
from esl_dist.data.prefetch import prefetched
from esl_dist.data.rare_classes import RareClasses
from esl_dist.engine.step import Streams
from esl_dist.labels import protocol
from esl_dist.methods.counting import class_counts
from esl_dist.methods.node import Work
from esl_dist.methods.stage import Stage
from esl_dist.methods.streams import source_of, stream


def cropped_domains(work: Work, stage: Stage, options: TeacherConfig, start: int) -> Streams:
    """Labelled source crops beside unlabelled target crops (none for a baseline), from optimiser step ``start`` on.

    Raises:
        ValueError: source and target images differ in size, so that nothing can be pasted from one to the other.
    """
    data, crop, seed = work.config.data, options.crop, 2 * work.config.run.seed
    whole = crop.size == (0, 0)
    alone = stage.role == "baseline"
    if whole and not alone and data.source.size != data.target.size:
        raise ValueError(
            f"teacher.crop.size: source images are {data.source.size[0]}x{data.source.size[1]} and target images"
            f" {data.target.size[0]}x{data.target.size[1]}, but {stage.name} pastes one onto the other; set a crop"
        )
    source = source_of(work, stage)
    rare = None
    if crop.temperature > 0:
        counts = class_counts(work, source)[:, : protocol(data.classes).num_classes]
        rare = RareClasses.of(counts, crop.temperature, crop.rare_pixels)
    wanted = crop.rare_crop if rare else 0
    of_source = None if whole else CropRule(crop.size, crop.largest, wanted=wanted)
    of_target = None if whole else CropRule(crop.size)
    margins: dict[str, Any] = {"margins": OF_ORIGINAL.get(options.labels.margins, NONE)}
    if options.labels.margins in OF_CROP:
        margins = {"margins": OF_CROP[options.labels.margins], "margins_of": "part"}
    first = stream(work, source, data.source, seed, start, part=of_source, rare=rare)
    device = work.runtime.device
    if alone:
        return Streams(prefetched(first, device), None, first.close)
    second = stream(work, work.target, data.target, seed + 1, start, labels=False, part=of_target, **margins)

    def close() -> None:
        first.close()
        second.close()

    return Streams(prefetched(first, device), prefetched(second, device), close)
