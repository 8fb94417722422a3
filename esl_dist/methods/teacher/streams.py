"""What the teacher methods see of the two domains: crops, source images by class, margins of target images."""

from __future__ import annotations

from typing import Any

from esl_dist.config.teacher import CropConfig, TeacherConfig
from esl_dist.data.crops import CropRule
from esl_dist.data.dataset import Dataset
from esl_dist.data.margins import NONE, OF_CROP, OF_ORIGINAL
from esl_dist.data.prefetch import prefetched
from esl_dist.data.rare_classes import RareClasses
from esl_dist.engine.step import Streams
from esl_dist.methods.counting import rare_classes
from esl_dist.methods.node import Work
from esl_dist.methods.stage import Stage
from esl_dist.methods.streams import source_of, stream


def cropped_domains(work: Work, stage: Stage, options: TeacherConfig, start: int) -> Streams:
    """Labelled source crops beside unlabelled target crops (none for a baseline), from optimiser step ``start`` on."""
    data, crop, seed = work.config.data, options.crop, 2 * work.config.run.seed
    whole = crop.size == (0, 0)
    alone = stage.role == "baseline"
    source = source_of(work, stage)
    rare = rare_of(work, source, crop)
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


def rare_of(work: Work, source: Dataset, crop: CropConfig) -> RareClasses | None:
    """How source images are drawn by class (``methods.counting``); None where they are not."""
    if crop.temperature == 0:
        return None
    return rare_classes(work, source, crop.temperature, crop.rare_pixels, "teacher.crop")
