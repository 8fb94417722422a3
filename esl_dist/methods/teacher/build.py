"""From options to the training step of a teacher method."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from fractions import Fraction

from torch import nn

from esl_dist.config.teacher import TeacherConfig
from esl_dist.distributed import ddp
from esl_dist.distributed.frozen import once_per_machine
from esl_dist.distributed.runtime import Runtime
from esl_dist.labels import Protocol
from esl_dist.losses.feature_distance import THINGS
from esl_dist.methods.passes import Passes
from esl_dist.methods.teacher import photometric
from esl_dist.methods.teacher.average import Teacher
from esl_dist.methods.teacher.distil import Distil
from esl_dist.methods.teacher.ingredients import FeatureDistance, Ingredient, Mask, Mix, Own, Source
from esl_dist.methods.teacher.photometric import Photometric
from esl_dist.methods.teacher.quantiles import RunningQuantiles
from esl_dist.methods.teacher.source_only import SourceOnly
from esl_dist.methods.teacher.step import TeacherStep
from esl_dist.methods.teacher.student import Student
from esl_dist.methods.teacher.weights import LabelWeights
from esl_dist.models.hrda import Hrda
from esl_dist.models.segmenter import Segmenter

LOOKS: dict[str, tuple[Photometric | None, Photometric | None, Photometric | None]] = {
    "none": (None, None, None),
    "dacs": (None, photometric.DACS, None),
    "vfm": (photometric.VFM_WEAK, photometric.VFM_UDA, photometric.VFM_WEAK),
    "vfm_plus": (photometric.VFM_STRONG, photometric.VFM_UDA, photometric.VFM_WEAK),
}
"""Of source images; of mixed and masked images; and of the target before pasting."""


def teacher_step(
    options: TeacherConfig,
    segmenter: nn.Module,
    passes: Passes,
    classes: Protocol,
    seed: int,
    images_per_step: int,
    distillation: tuple[nn.Module, nn.Module] | None = None,
) -> TeacherStep:
    """The step of a method whose options are resolved (``config.teacher.published``).

    Args:
        segmenter: with the weights that training starts from, on the device, wrapped for DDP.
        images_per_step: of one domain, over all ranks and micro-batches.
        distillation: a frozen reference and a wrapped head, of a method with ``distil``.

    Raises:
        ValueError: an ingredient that cannot be imported, or a class that the protocol has not.
    """
    student = student_of(options, segmenter, passes, classes, seed)
    average = options.average
    assert average.of != "published" and average.when != "published"
    teacher = Teacher(segmenter, average.decay, average.of, average.statistics, average.when)
    return TeacherStep(
        student=student,
        teacher=teacher,
        weights=_weights(options, classes.num_classes, passes, images_per_step),
        ingredients=_ingredients(options, segmenter, classes, passes.runtime, distillation),
        images_per_step=images_per_step,
        mirror=options.labels.views == "mirror",
        judged=_judged(options, segmenter),
        teaches_last=options.result == "teacher",
    )


def source_step(
    options: TeacherConfig, segmenter: nn.Module, passes: Passes, classes: Protocol, seed: int, images_per_step: int
) -> SourceOnly:
    """``teacher_step`` without a teacher: the method's pass on the source alone."""
    student = student_of(options, segmenter, passes, classes, seed)
    return SourceOnly(student, Source(LOOKS[options.looks][0]), images_per_step)


def student_of(options: TeacherConfig, segmenter: nn.Module, passes: Passes, classes: Protocol, seed: int) -> Student:
    """The network that trains, as ingredients use it."""
    mean = options.mean
    assert mean != "published", "options are those of a method"
    network = ddp.inner(segmenter)
    if options.parity and isinstance(network, Hrda):
        network.published_box = True
    heads = (options.aux_weight, options.detail_weight)
    return Student(segmenter, passes, classes.num_classes, seed, mean, *heads, options.parity)


def _judged(options: TeacherConfig, segmenter: nn.Module) -> str:
    network = ddp.inner(segmenter)
    assert isinstance(network, Segmenter)
    require_heads(options, network.multi_level)
    return options.select.of


def require_heads(options: TeacherConfig, multi_level: bool) -> None:
    """``ValueError`` where the selection judges by two heads of a network that has one."""
    if options.select.of == "heads" and not multi_level:
        raise ValueError("teacher.select.of: heads needs a network with an aux head; take teacher or student")


def _weights(options: TeacherConfig, num_classes: int, passes: Passes, images_per_step: int) -> LabelWeights:
    labels, select = options.labels, options.select
    of_image = labels.share == "image"
    if select.use == "none":
        return LabelWeights(labels.tau, of_image)
    steps = -(-select.window // images_per_step)
    running = RunningQuantiles(num_classes, steps, Fraction(str(select.keep)), passes.runtime.device)
    return LabelWeights(labels.tau, of_image, select.use, select.by, select.nu, select.soft, running)


def _ingredients(
    options: TeacherConfig,
    segmenter: nn.Module,
    classes: Protocol,
    runtime: Runtime,
    distillation: tuple[nn.Module, nn.Module] | None,
) -> Sequence[Ingredient]:
    """The source first, one's own next, then mixing and masking, whose passes reach every head."""
    first, second, third = LOOKS[options.looks]
    named = options.ingredients
    distance = None
    if "feature_distance" in named and options.distance.weight > 0:
        reference = copy.deepcopy(ddp.inner(segmenter)).eval().requires_grad_(False)
        assert isinstance(reference, Segmenter)
        once_per_machine(reference, runtime)
        chosen = things(classes, options.distance.classes)
        setting = options.distance
        distance = FeatureDistance(reference, setting.weight, setting.share, chosen, classes.num_classes)
    made: list[Ingredient] = [Source(first, distance)]
    made += [Own.load(name) for name in named if ":" in name]
    if distillation is not None:
        frozen, head = distillation
        made.append(Distil("source", frozen, head, options.distil.weight, third))
        made.append(Distil("target", frozen, head, options.distil.weight, third))
    if "mix" in named:
        made.append(Mix(options.mix.weight, options.mix.classes, second, third))
    if "mask" in named:
        mask = options.mask
        made.append(
            Mask(mask.weight, mask.ratio, mask.block, mask.images, second if mask.looks else None, mask.of == "patches")
        )
    if not isinstance(made[-1], Source | Mix | Mask):
        made.append(made.pop(0))  # a user's pass need not reach every head, so the source's comes last
    return made


def things(classes: Protocol, names: Sequence[str] = ()) -> tuple[int, ...]:
    """Train ids of the classes called ``names``, or of those of which all that they hold are things."""
    unknown = [name for name in names if name not in classes.classes]
    if unknown:
        raise ValueError(f"teacher.distance.classes: {unknown[0]!r} is not a class of data.classes={classes.name}")
    if names:
        return tuple(classes.classes.index(name) for name in names)
    return tuple(i for i, held in enumerate(classes.members) if set(held) <= THINGS)
