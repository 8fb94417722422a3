"""The table of what reads an option."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from esl_dist.config.pseudo_labels import CONFIDENCES
from esl_dist.config.teacher import TEACHER_METHODS
from esl_dist.methods.teacher.unread import OF_TEACHERS
from esl_dist.methods.unread.planned import ADAPTED, ON_LABELS, Planned


@dataclass(frozen=True)
class Reader:
    """When options are read. ``keys``: exact, or ``section.*``; an option with several readers needs all of them."""

    keys: str
    reads: Callable[[Planned], bool]
    why: str
    """It is not read then."""


def _section(name: str, *methods: str) -> Reader:
    return Reader(f"{name}.*", lambda run: run.has(*methods), f"run.stages has no {name}")


_SGD = "optim.lr optim.head_lr optim.momentum optim.weight_decay optim.updates optim.power optim.decay_steps"
SHARED: Sequence[Reader] = (
    *(_section(name, name) for name in ("initial", "source", "oracle", "translate", "selftrain")),
    _section("teacher", *TEACHER_METHODS),
    Reader("align.*", lambda run: run.has(*ON_LABELS, *ADAPTED), "run.stages has no align"),
    Reader("pseudo_labels.*", lambda run: bool(run.rules), "run.stages has no selftrain"),
    Reader("mmdl.*", lambda run: run.has(*ADAPTED), "run.stages has neither align nor selftrain"),
    Reader("align.objective", lambda run: not run.names("align"), "every align stage names its own"),
    Reader("pseudo_labels.rule", lambda run: not run.names("selftrain"), "every selftrain stage names its own"),
    Reader(
        "teacher.select.use",
        lambda run: not all(run.names(name) for name in TEACHER_METHODS if run.has(name)),
        "every teacher stage names its own",
    ),
    Reader(
        "teacher.crop.rare_pixels teacher.crop.rare_crop",
        lambda run: run.config.teacher.crop.temperature > 0,
        "teacher.crop.temperature=0",
    ),
    Reader(f"{_SGD} optim.scale_lr optim.base_batch", lambda run: run.sgd, "no stage is trained by SGD"),
    Reader("optim.warmup optim.backend", lambda run: run.sgd or run.has("translate"), "no stage is trained by SGD"),
    Reader("align.gan model.discriminator_width", lambda run: run.judges, "no stage trains a discriminator"),
    Reader("align.weight align.also", lambda run: bool(run.terms), "no stage has an objective with a loss"),
    Reader("align.iw_ratio", lambda run: "iw_maxsquare" in run.terms, "no stage has the objective iw_maxsquare"),
    *(
        Reader(f"pseudo_labels.{name}", lambda run, name=name: name in run.bounds, "no rule here has that bound")  # type: ignore[misc]
        for name in ("nu", "mu", "margin")
    ),
    Reader(
        "pseudo_labels.portion pseudo_labels.portion_growth",
        lambda run: any(setting.rule == "cbst" for setting in run.rules),
        "no rule here is cbst",
    ),
    Reader(
        "pseudo_labels.share pseudo_labels.rank pseudo_labels.ties",
        lambda run: any(setting.rule != "cbst" for setting in run.rules),
        "cbst takes portions",
    ),
    Reader(
        "pseudo_labels.views_mirror pseudo_labels.views_scales pseudo_labels.views_heads pseudo_labels.views_teacher",
        lambda run: any(setting.rule == "views" for setting in run.rules),
        "no rule here is views",
    ),
    Reader(
        "pseudo_labels.confidence",
        lambda run: any(run.config.pseudo_labels.confidence in ("auto", *CONFIDENCES[s.rule]) for s in run.rules),
        "no rule here leaves it open",
    ),
    Reader(
        "optim.discriminator_lr",
        lambda run: run.judges or run.config.mmdl.weight > 0 or any("distil" in t.ingredients for t in run.teachers),
        "no stage trains a discriminator",
    ),
)
"""What depends on the stages: a file may well have it for other runs than this one."""

OWN: Sequence[Reader] = (
    Reader("optim.base_batch", lambda run: run.config.optim.scale_lr != "none", "optim.scale_lr=none"),
    Reader(
        "align.guidance_threshold align.guidance_weight",
        lambda run: run.config.align.self_guidance,
        "align.self_guidance=false",
    ),
    Reader(
        "align.weight_aux align.source_aux selftrain.weight_aux teacher.aux_weight",
        lambda run: run.config.model.multi_level,
        "the network has no aux head",
    ),
    Reader(
        "mmdl.modes mmdl.dim mmdl.sigma mmdl.margin mmdl.balance mmdl.samples mmdl.pool",
        lambda run: run.config.mmdl.weight > 0,
        "mmdl.weight=0",
    ),
    Reader("extract.memory", lambda run: run.config.extract.spool == "memory", "extract.spool is not memory"),
    Reader(
        "extract.held_out",
        lambda run: bool(run.config.extract.check_statistics or run.config.extract.compare),
        "extract.check_statistics=0 and extract.compare=0",
    ),
    Reader("eval.stride eval.averaged", lambda run: run.config.eval.window != (0, 0), "eval.window=[0,0]"),
    Reader("model.layout", lambda run: bool(run.config.model.checkpoint), "model.checkpoint is empty"),
    Reader("profile.start", lambda run: run.config.profile.steps > 0, "profile.steps=0"),
    *(
        Reader(f"teacher.{name}", lambda run, reads=reads: any(map(reads, run.teachers)), why)  # type: ignore[misc]
        for names, reads, why in OF_TEACHERS
        for name in names.split()
    ),
    Reader(
        "teacher.ingredients",
        lambda run: run.has("teacher"),
        "the stage teacher alone is made of them; others have theirs",
    ),
    Reader(
        "teacher.detail_weight teacher.parity",
        lambda run: run.config.model.hrda,
        "model.hrda=false: there is no detail",
    ),
    Reader(
        "teacher.crop.rare_crop teacher.crop.largest",
        lambda run: run.config.teacher.crop.size != (0, 0),
        "teacher.crop.size=[0,0] takes whole images",
    ),
    Reader(
        "teacher.optim.lr teacher.optim.head_lr teacher.optim.weight_decay teacher.optim.decayed"
        " teacher.optim.layer_decay teacher.optim.scale_lr teacher.optim.warmup teacher.optim.warming"
        " teacher.optim.power",
        lambda run: run.config.teacher.optim.name == "adamw",
        "teacher.optim.name=sgd takes all from optim",
    ),
)
"""What depends on other options."""
