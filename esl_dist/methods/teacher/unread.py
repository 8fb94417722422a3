"""Which options of ``teacher`` a stage reads, by its other options (see ``methods/unread.py``)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import nn

from esl_dist.config.teacher import TeacherConfig
from esl_dist.distributed import ddp
from esl_dist.models import Segmenter

Reads = Callable[[TeacherConfig], bool]


def _has(ingredient: str) -> Reads:
    return lambda options: ingredient in options.ingredients


_NO = "no teacher stage has {} among its ingredients"
OF_TEACHERS: Sequence[tuple[str, Reads, str]] = (
    (
        "select.by select.of select.nu select.keep select.window select.soft",
        lambda options: options.select.use != "none",
        "teacher.select.use=none",
    ),
    ("mix.weight mix.classes", _has("mix"), _NO.format("mix")),
    ("mask.weight mask.ratio mask.block mask.images mask.of mask.looks", _has("mask"), _NO.format("mask")),
    ("mask.looks", lambda options: options.looks != "none", "teacher.looks=none"),
    ("distance.weight distance.share distance.classes", _has("feature_distance"), _NO.format("feature_distance")),
    ("distance.share distance.classes", lambda options: options.distance.weight > 0, "teacher.distance.weight=0"),
    ("distil.weight distil.encoder distil.reference", _has("distil"), _NO.format("distil")),
    (
        "labels.tau labels.share",
        lambda options: options.select.use != "replace",
        "teacher.select.use=replace weighs without q",
    ),
    (
        "labels.views labels.margins average.decay average.of average.when average.statistics result",
        lambda options: True,
        "every teacher stage is on the source alone",
    ),
)
"""Options below ``teacher``, what reads them, and why nothing does; controls on the source alone read none of them."""


def idle_with(options: TeacherConfig, segmenter: nn.Module) -> list[str]:
    """Options of a stage that its network gives nothing to do, a line each; ``options`` are resolved."""
    network = ddp.inner(segmenter)
    assert isinstance(network, Segmenter)
    update, mask, found = options.optim, options.mask, []
    flat = not any(group.depth for group in network.parameter_groups())
    if update.name == "adamw" and update.layer_decay != 1 and flat:
        found.append("teacher.optim.layer_decay does nothing: this network does not say how deep its blocks lie")
    patches = mask.of == "patches" and hasattr(network, "patch_grid")
    if "mask" in options.ingredients and mask.block and patches:
        found.append("teacher.mask.block does nothing: patches are masked (teacher.mask.of)")
    return found
