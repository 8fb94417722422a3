"""Options of training with an averaged teacher: ``daformer``, ``hrda``, ``mic``, ``vfm_uda`` and one's own combination.

Constants are the published ones. Where the methods differ among themselves an option says ``published``, which each
method reads as its own (``published`` below); anything else holds for all of them.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from esl_dist.config.bounds import (
    BelowOne,
    Bound,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    Share,
)
from esl_dist.config.check import require

TEACHER_METHODS = ("daformer", "hrda", "mic", "vfm_uda", "vfm_uda_plus", "teacher")
"""Methods that share these options; ``teacher`` takes its list of ingredients from them."""
INGREDIENTS = ("feature_distance", "distil", "mix", "mask")


@dataclass(frozen=True)
class AverageConfig:
    """How the teacher follows the student."""

    decay: BelowOne = 0.999
    """Highest decay of the average; in step t it is min(1 - 1/(t+1), decay)."""
    of: Literal["published", "parameters", "buffers"] = "published"
    """parameters alone (DAFormer, HRDA, MIC), or batch-norm buffers too (VFM-UDA)."""
    when: Literal["published", "before", "after"] = "published"
    """before a step labels anything (DAFormer, HRDA, MIC), or after its optimiser step (VFM-UDA)."""
    statistics: Literal["batch", "running"] = "batch"
    """Batch norm of the teacher while it labels: of the batch (published), or its running averages."""


@dataclass(frozen=True)
class SelectConfig:
    """ESL inside the step: per-class thresholds from the target stream's last images. Ours, no published method's."""

    use: Literal["none", "replace", "with"] = "none"
    """none: all pixels with weight q. replace: kept pixels 1, others 0. with: kept pixels q, others 0."""
    by: Literal["entropy", "probability", "margin"] = "entropy"
    """What a pixel is judged by: normalised entropy, 1 - p, or 1 - (p1 - p2); small is sure."""
    of: Literal["teacher", "heads", "student"] = "teacher"
    """Whose probabilities: the teacher's; the mean of its two heads'; or of the teacher's and the student's (a forward
    more). Where the mean is for another class than the label, the pixel is as unsure as can be.
    """
    nu: Share = 0.1
    """Pixels at or below it are kept whatever their class's threshold (ESL's nu)."""
    keep: Annotated[float, Bound(0.0, 1.0, above=True)] = 0.5
    """Share of every class that its threshold keeps at least; 0.5 is ESL's median."""
    window: PositiveInt = 1000
    """Target images that thresholds are taken over: the stream's last ones, in whole steps."""
    soft: bool = False
    """Kept pixels weigh 1 minus what they are judged by, in place of 1."""


@dataclass(frozen=True)
class TeacherLabelsConfig:
    """The teacher's labels and what they weigh."""

    tau: Share = 0.968
    """Probability from which on a pixel counts as sure; q is the share of sure pixels."""
    share: Literal["batch", "image"] = "batch"
    """q of the global batch (as published programs do it), or of each image (as the papers write it)."""
    views: Literal["published", "one", "mirror"] = "published"
    """The teacher sees the image, or the image and its mirror image, whose probabilities are averaged (VFM-UDA)."""
    margins: Literal["published", "none", "v1", "v2", "vfm"] = "published"
    """Margins of target images that weigh 0: DAFormer v1, HRDA and MIC v2, VFM-UDA vfm; none on ACDC, Dark Zurich."""


@dataclass(frozen=True)
class MixConfig:
    """Source classes pasted onto target images."""

    weight: NonNegativeFloat = 1.0
    """Weight of the loss on mixed images."""
    classes: Literal["batch", "image"] = "batch"
    """Half of the classes of the global batch (published programs), or of the image (the papers)."""


@dataclass(frozen=True)
class MaskConfig:
    """Masked target images (MIC)."""

    weight: NonNegativeFloat = 1.0
    """Weight of the loss on masked images."""
    ratio: BelowOne = 0.7
    """Share of the blocks that is masked."""
    block: NonNegativeInt = 0
    """Side of a block in pixels; 0 is a sixteenth of the crop's height (64 at 1024, 32 at 512)."""
    images: Literal["target", "both"] = "target"
    """All target images, or source and target images in turn (MIC on Cityscapes to ACDC and Dark Zurich)."""
    of: Literal["published", "pixels", "patches"] = "published"
    """pixels: blocks of the image become the mean colour (MIC, VFM-UDA++). patches: of a network that has a mask token,
    each patch by itself becomes it (VFM-UDA); of another network as pixels.
    """
    looks: bool = True
    """Colour jitter and blur before the mask (not on Cityscapes to ACDC and Dark Zurich)."""


@dataclass(frozen=True)
class DistanceConfig:
    """Features of things held near those of the network that the training began with."""

    weight: NonNegativeFloat = 0.005
    """Weight of the mean distance."""
    share: Share = 0.75
    """A feature position has a class where that share of its pixels has."""
    classes: tuple[str, ...] = ()
    """Names of the classes; empty takes those of the protocol that are things."""


@dataclass(frozen=True)
class DistilConfig:
    """Features of both domains held near those of a frozen foundation model (VFM-UDA++)."""

    weight: NonNegativeFloat = 0.1
    """Weight of each domain's mean distance."""
    encoder: Literal["small", "base", "large", "giant", "tiny"] = "large"
    """Size of the frozen model, a DINOv2 with registers; ``tiny`` is for tests."""
    reference: str = ""
    """File of its weights, such as ``dinov2_vitl14_reg4_pretrain.pth``."""


@dataclass(frozen=True)
class CropConfig:
    """What is seen of an image in training, and which source images."""

    size: tuple[NonNegativeInt, NonNegativeInt] = (0, 0)
    """Width and height of a random crop of each image, after the domain's resizing; 0 takes whole images."""
    largest: Annotated[float, Bound(0.0, 1.0, above=True)] = 0.75
    """Source crops are drawn again (up to 10 times) while one class has this share; 1 takes any."""
    temperature: NonNegativeFloat = 0.01
    """Of rare-class sampling of source images (VFM-UDA: 0.05); 0 takes them in a shuffled order."""
    rare_pixels: NonNegativeInt = 3000
    """Pixels of a class that an image needs, at its own size, to be drawn for it."""
    rare_crop: NonNegativeInt = 1500
    """Pixels of that class that its crop shall hold (3000 on 1024x1024 crops: 6000)."""

    def __post_init__(self) -> None:
        whole = self.size == (0, 0)
        require(whole or min(self.size) >= 16, "teacher.crop.size", "is a width and a height from 16 on, or 0 and 0")


@dataclass(frozen=True)
class UpdateConfig:
    """How the student is updated: AdamW as the methods publish it, or the run's own SGD."""

    name: Literal["adamw", "sgd"] = "adamw"
    """sgd takes everything from ``optim``, as the other stages do, and nothing from here."""
    lr: NonNegativeFloat = 0.0
    """Of the encoder (its last block); 0 is published: 6e-5, of VFM-UDA 5e-6."""
    head_lr: PositiveFloat = 10.0
    """Heads learn this many times faster."""
    weight_decay: NonNegativeFloat = 0.01
    """AdamW's decoupled decay."""
    decayed: Literal["published", "all", "no_norms"] = "published"
    """All parameters (VFM-UDA), or those without ``norm`` in their name (DAFormer, HRDA, MIC)."""
    layer_decay: Annotated[float, Bound(0.0, 1.0, above=True)] = 1.0
    """Rates fall by this factor with every block towards the image (VFM-UDA++: 0.9)."""
    scale_lr: Literal["published", "none", "sqrt", "linear"] = "published"
    """Times the global batch, or its square root (VFM-UDA)."""
    warmup: NonNegativeInt = 1500
    """Steps of the linear warm-up."""
    warming: Literal["published", "within", "before"] = "published"
    """The decay goes on during the warm-up (DAFormer, HRDA, MIC), or begins after it (VFM-UDA)."""
    power: NonNegativeFloat = 1.0
    """Exponent of the decay (1 - step/steps)^power."""


@dataclass(frozen=True)
class TeacherConfig:
    """Self-training in every step with an averaged teacher."""

    steps: PositiveInt = 40_000
    """Optimiser steps."""
    init: Literal["initial", "source"] = "initial"
    """Weights to start from: as published, or a stage ``source`` before it."""
    ingredients: tuple[str, ...] = ()
    """Of the method ``teacher``: feature_distance, distil, mix, mask, or ``package.module:function``."""
    mean: Literal["published", "pixels", "valid"] = "published"
    """The source loss is a mean over all pixels, ignored ones too (DAFormer, HRDA, MIC), or the labelled (VFM-UDA)."""
    looks: Literal["published", "none", "dacs", "vfm", "vfm_plus"] = "published"
    """Colour jitter and blur as DACS has them (DAFormer, HRDA, MIC), as VFM-UDA, or as VFM-UDA++."""
    aux_weight: Share = 0.1
    """Weight of every loss on an aux head, where the network has one."""
    detail_weight: Share = 0.1
    """Share of the loss that falls on the close look, where the network takes one (HRDA)."""
    result: Literal["student", "teacher"] = "student"
    """Which of the two is the method's result: scored, and what later stages start from."""
    parity: bool = False
    """Repeat what looks unintended in the published programs."""
    average: AverageConfig = field(default_factory=AverageConfig)
    labels: TeacherLabelsConfig = field(default_factory=TeacherLabelsConfig)
    select: SelectConfig = field(default_factory=SelectConfig)
    mix: MixConfig = field(default_factory=MixConfig)
    mask: MaskConfig = field(default_factory=MaskConfig)
    distance: DistanceConfig = field(default_factory=DistanceConfig)
    distil: DistilConfig = field(default_factory=DistilConfig)
    crop: CropConfig = field(default_factory=CropConfig)
    optim: UpdateConfig = field(default_factory=UpdateConfig)

    def __post_init__(self) -> None:
        for word in self.ingredients:
            known = word in INGREDIENTS or word.count(":") == 1
            choices = f"{', '.join(INGREDIENTS)} or package.module:function"
            require(known, "teacher.ingredients", f"unknown {word!r}; one of {choices}")
        require(len(set(self.ingredients)) == len(self.ingredients), "teacher.ingredients", "names one twice")


_DAFORMER: dict[str, Any] = {
    "ingredients": ("feature_distance", "mix"),
    "mean": "pixels",
    "looks": "dacs",
    "average": {"of": "parameters", "when": "before"},
    "labels": {"views": "one", "margins": "v1"},
    "mask": {"of": "pixels"},
    "optim": {"lr": 6e-5, "decayed": "no_norms", "scale_lr": "none", "warming": "within"},
}
_HRDA = _DAFORMER | {"labels": {"views": "one", "margins": "v2"}}
_PUBLISHED: dict[str, dict[str, Any]] = {
    "daformer": _DAFORMER,
    "hrda": _HRDA,
    "mic": _HRDA | {"ingredients": ("feature_distance", "mix", "mask")},
    "vfm_uda": {
        "ingredients": ("mix", "mask"),
        "mean": "valid",
        "looks": "vfm",
        "average": {"of": "buffers", "when": "after"},
        "labels": {"views": "mirror", "margins": "vfm"},
        "mask": {"of": "patches"},
        "optim": {"lr": 5e-6, "decayed": "all", "scale_lr": "sqrt", "warming": "before"},
    },
}
_PUBLISHED["vfm_uda_plus"] = _PUBLISHED["vfm_uda"] | {
    "ingredients": ("distil", "mix", "mask"),
    "looks": "vfm_plus",
    "mask": {"of": "pixels"},
    "average": {"of": "parameters", "when": "after"},
}


def published(method: str, options: TeacherConfig) -> TeacherConfig:
    """The options with what ``method`` publishes for every ``published``; one's own ``teacher`` takes DAFormer's."""
    own = _PUBLISHED.get(method, _DAFORMER | {"ingredients": options.ingredients})
    filled: TeacherConfig = _filled(options, own)
    return dataclasses.replace(filled, ingredients=own["ingredients"])


def _filled(section: Any, own: dict[str, Any]) -> Any:
    values = {}
    for name, value in own.items():
        set_to = getattr(section, name)
        if isinstance(value, dict):
            values[name] = _filled(set_to, value)
        elif set_to == "published" or (name == "lr" and set_to == 0):
            values[name] = value
    return dataclasses.replace(section, **values)
