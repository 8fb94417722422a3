"""What a teacher method cannot be trained with, as far as the options tell: said before anything starts."""

from __future__ import annotations

from esl_dist.config.check import require
from esl_dist.config.schema import Config
from esl_dist.config.teacher import TeacherConfig
from esl_dist.labels import protocol
from esl_dist.methods.teacher.build import require_heads, things
from esl_dist.models.hrda import UNIT

Size = tuple[int, int]


def check(entry: str, options: TeacherConfig, config: Config, alone: bool) -> None:
    """Raises:
        ValueError: options that cannot go together, or not with this network and these images; one line that begins
            with the option.

    Args:
        entry: as written in ``run.stages``.
        options: resolved (``config.teacher.published``).
        alone: on the source alone.
    """
    _check_sizes(entry, options.crop.size, config, alone)
    if alone:
        return
    if "feature_distance" in options.ingredients:
        things(protocol(config.data.classes), options.distance.classes)
    require(
        "distil" not in options.ingredients or bool(options.distil.reference),
        "teacher.distil.reference",
        "names no file; distil needs weights of the foundation model with registers (docs/how-to/weights.md)",
    )
    if options.select.use != "none" and options.select.of == "heads":
        require_heads(options, config.model.multi_level)
        require(
            options.aux_weight > 0,
            "teacher.select.of",
            "heads judges by an aux head that teacher.aux_weight=0 leaves untrained; take teacher or student",
        )


def _check_sizes(entry: str, crop: Size, config: Config, alone: bool) -> None:
    source, target = config.data.source.size, config.data.target.size
    seen = {"source": source} if alone else {"source": source, "target": target}
    whole = crop == (0, 0)
    require(
        not whole or alone or source == target,
        "teacher.crop.size",
        f"source images are {_text(source)} and target images {_text(target)}, but {entry} pastes one onto the other;"
        " set a crop",
    )
    for name, size in seen.items():
        require(
            whole or (crop[0] <= size[0] and crop[1] <= size[1]),
            "teacher.crop.size",
            f"{_text(crop)} is no part of {name} images, which are {_text(size)} (data.{name}.size)",
        )
    trained = source if whole else crop
    require(
        not config.model.hrda or not any(side % UNIT for side in trained),
        "teacher.crop.size",
        f"model.hrda trains on sides that are multiples of {UNIT}, not {_text(trained)}",
    )


def _text(size: Size) -> str:
    return f"{size[0]}x{size[1]}"
